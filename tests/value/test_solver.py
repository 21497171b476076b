"""``whence value --solver``: the exact Gauss-Newton matrix in place of the fitted curvature."""

import json

import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from whence.jobs.log import Log
from whence.jobs.valuation.folder import Valuation
from whence.jobs.valuation.settings import ValueSettings


@pytest.fixture
def asked(quantity, tmp_path):
    """Settings of a valuation of the quantity, for a solver."""

    def settings(solver):
        flags = dict(zip(quantity.flags[::2], quantity.flags[1::2], strict=True))
        return ValueSettings(
            model=str(flags["--model"]),
            weights=str(flags["--weights"]),
            train=str(quantity.train),
            valid=str(quantity.valid),
            target="strength",
            solver=solver,
        )

    return settings


def by_hand(run):
    """∇L_validᵀ (G + Λ)⁻¹ ∇L_z from a dense G in float64: J and the losses by torch.func alone."""
    model = run.model.double()
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    x, y = (t.double() for t in (run.train.data.inputs, run.train.data.targets))
    u, v = (t.double() for t in (run.valid.data.inputs, run.valid.data.targets))

    def loss(own, one, target):
        return (functional_call(model, own, one[None])[0] - target).square().sum() / 2

    def flat(tree):
        return torch.cat([tree[name].flatten(1) for name in parameters], 1)

    def said(own, one):
        return functional_call(model, own, one[None])[0]

    outputs = vmap(jacrev(said), (None, 0))(parameters, x)
    j = torch.cat([outputs[name].flatten(2) for name in parameters], 2)
    sizes = {name: tensor.numel() for name, tensor in parameters.items()}
    damping = torch.cat(
        [torch.full((sizes[n],), run.curvature.dampings[n.rpartition(".")[0]]).double() for n in parameters]
    )
    matrix = torch.einsum("noi,noj->ij", j, j) / len(x) + damping.diag()
    each, asked = (flat(vmap(jacrev(loss), (None, 0, 0))(parameters, *of)) for of in ((x, y), (u, v)))
    return each @ torch.linalg.solve(matrix, asked.mean(0))


@pytest.mark.parametrize(("solver", "tolerance"), [("exact", 1e-3), ("cg", 2e-2)])
def test_a_solver_s_values_are_those_of_the_dense_matrix(asked, tmp_path, solver, tolerance):
    run = Valuation(tmp_path / "out", asked(solver), Log.silent())

    raw = run.values.raw[0].double()
    (solved,) = run.values.solved

    truth = by_hand(run)
    assert float((raw - truth).norm() / truth.norm()) < tolerance
    assert solved.solver == solver
    assert solved.residual < 0.01
    fitted = Valuation(tmp_path / "fitted", asked("fitted"), Log.silent()).values
    assert float((fitted.raw[0] - truth).norm() / truth.norm()) > 0.1
    assert fitted.solved == ()


def test_what_solved_is_told_kept_and_not_done_twice(whence, quantity, tmp_path):
    out = tmp_path / "out"
    flags = [*quantity.flags, "--train", quantity.train, "--valid", quantity.valid]

    first = whence("value", out, *flags, "--solver", "ekfac_refined", "--json")
    again = whence("value", out)

    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert [one["solver"] for one in found["solved"]] == ["ekfac_refined"]
    assert "solve: ekfac_refined takes" in first.err
    assert "solve:" not in again.err
    assert "1 question solved by ekfac_refined: relative residual" in again.out
    page = (out / "report.html").read_text()
    assert "Refined influence of 30 training examples" in page
    assert "1 question solved by ekfac_refined" in page
    assert "--solver ekfac_refined" in page
    labels = whence("self", out, "--labels")
    assert labels.code == 0, labels.err
    assert "EK-FAC influence of 30 training examples" in (out / "suspects.html").read_text()
    assert "--solver" not in (out / "suspects.html").read_text()


def test_a_matrix_too_large_is_refused_before_the_fit(whence, quantity, tmp_path, monkeypatch):
    monkeypatch.setattr("whence.curvature.inverse.exact.FEW", 3)
    out = tmp_path / "out"

    done = whence(
        "value", out, *quantity.flags, "--train", quantity.train, "--valid", quantity.valid, "--solver", "exact"
    )

    assert done.code == 1
    assert "exact" in done.err
    assert not out.exists()
