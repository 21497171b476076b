"""Every estimator of (G + Λ)⁻¹ against the dense solve with the matrix written out."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from tests.cases import OURS, table
from tests.oracle.test_curvature import fitted
from tests.oracle.test_ggn import directions, gauss_newton, written_out
from torch.testing import assert_close

from whence.curvature.fisher import SampledFisher
from whence.curvature.inverse import INVERSES, Astra, ConjugateGradient, Exact, Inverse, Lissa, Sampled
from whence.errors import InvalidSetting, NumericalError
from whence.testing import toys

NAMES = ["lm", "mlp", "regression", "odd convolutions"]


@functools.cache
def curvature_of(name, kind="ekfac"):
    return fitted(OURS[name](), kind, samples=3)


def damped_matrix(operator, curvature, matrix):
    lam = torch.cat([torch.full((one.weights,), curvature.dampings[one.name]) for one in operator.layers])
    return matrix + lam.double().diag()


def solved(operator, curvature, matrix, grads):
    return operator.flat(grads) @ torch.linalg.inv(damped_matrix(operator, curvature, matrix))


def asked(operator, name, count=3):
    """Gradients of losses on examples that were not trained on, as queries have them."""
    kind = OURS[name]().kind
    fresh = {"tokens": toys.sequences, "classes": toys.rows, "numbers": functools.partial(toys.rows, classes=2)}[kind]
    settings = {} if kind == "tokens" else {"regression": kind == "numbers"}
    if "conv" in name:
        examples = [replace(one, inputs=one.inputs.flip(-1)) for one in toys.images(count)]
    else:
        examples = fresh(count, seed=5, **settings)
    return OURS[name]().oracle().gradients(examples)


def error(operator, matrix, x, answer):
    """In the norm of G + Λ, relative, the worst query."""
    off = operator.flat(x) - answer
    return float((((off @ matrix) * off).sum(1) / ((answer @ matrix) * answer).sum(1)).sqrt().max())


def assert_near(found, expected, tolerance=1e-6):
    assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("way", ["few rows", "few weights"])
@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_the_exact_solve_is_the_dense_one(name, way, monkeypatch):
    case, matrix = written_out(name)
    curvature, operator = curvature_of(name), gauss_newton(case)
    grads = directions(operator)
    if way == "few weights":
        monkeypatch.setattr("whence.curvature.inverse.exact.ROOT_ELEMENTS", 0)

    x, report = Exact(curvature, operator).reported(grads)

    assert_near(operator.flat(x), solved(operator, curvature, matrix, grads))
    assert (report.residuals < 1e-8).all()


@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_conjugate_gradient_is_the_dense_solve(name):
    case, matrix = written_out(name)
    curvature, operator = curvature_of(name), gauss_newton(case, batch_size=8, cuts=())
    grads = directions(operator)

    x, report = ConjugateGradient(curvature, operator, tolerance=1e-10).reported(grads)

    assert_near(operator.flat(x), solved(operator, curvature, matrix, grads))
    assert (report.residuals <= 1e-10).all()


@pytest.mark.parametrize("refined", ["ekfac_refined", "sampled", "sampled_refined"])
@pytest.mark.parametrize("name", NAMES)
def test_refined_answers_are_nearer_than_ekfacs(name, refined):
    """In the norm of G + Λ, on the gradients of examples that were not trained on."""
    case, matrix = written_out(name)
    curvature, operator = curvature_of(name), gauss_newton(case, batch_size=8, cuts=())
    grads = asked(operator, name)
    answer, whole = solved(operator, curvature, matrix, grads), damped_matrix(operator, curvature, matrix)

    x, report = INVERSES[refined](curvature, operator).reported(grads)

    share = error(operator, whole, x, answer) / error(operator, whole, curvature.solve(grads), answer)
    assert share < {"ekfac_refined": 0.75, "sampled": 0.5, "sampled_refined": 0.1}[refined]
    assert report.products <= 5
    assert report.epochs >= report.products * (3 + 4 * 3) / 3


@pytest.mark.parametrize("kind", ["kfac", "diagonal"])
def test_any_damped_curvature_preconditions(kind):
    case, matrix = written_out("mlp")
    curvature, operator = curvature_of("mlp", kind), gauss_newton(case)
    grads = directions(operator)
    x = ConjugateGradient(curvature, operator, tolerance=1e-10).solve(grads)
    assert_near(operator.flat(x), solved(operator, curvature, matrix, grads))


@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_lissa_run_to_its_end_is_the_dense_solve(name):
    case, matrix = written_out(name)
    curvature, operator = curvature_of(name).with_damping(1.0), gauss_newton(case, batch_size=8, cuts=())
    grads = directions(operator)
    plan = Lissa(curvature, operator).rule
    solver = Lissa(curvature, operator, depth=4 * plan.depth)
    solver.__dict__["rule"] = replace(plan, batch=8)

    x, report = solver.reported(grads)

    assert (
        error(operator, damped_matrix(operator, curvature, matrix), x, solved(operator, curvature, matrix, grads))
        < 0.02
    )
    assert (report.residuals < 0.02).all()
    assert f"the rule asks for {plan.depth}" in report.notes[0]


def test_lissa_stops_at_as_many_steps_as_there_are_sequences():
    operator = gauss_newton(table())
    report = Lissa(curvature_of("mlp"), operator).reported(directions(operator))[1]
    assert report.iterations.tolist() == [8, 8, 8]


def test_lissa_with_a_step_too_large_raises(monkeypatch):
    operator = gauss_newton(table())
    solver = Lissa(curvature_of("mlp"), operator, depth=400)
    plan = solver.rule
    object.__setattr__(plan, "step", 4 * plan.step)
    with pytest.raises(NumericalError, match="diverged at step"):
        solver.solve(directions(operator))


@pytest.mark.parametrize("name", ["lm", "mlp", "regression"])
def test_astra_is_nearer_than_ekfac(name):
    case, matrix = written_out(name)
    curvature, operator = curvature_of(name), gauss_newton(case, batch_size=8, cuts=())
    grads = asked(operator, name)
    answer, whole = solved(operator, curvature, matrix, grads), damped_matrix(operator, curvature, matrix)

    x, report = Astra(curvature, operator, steps=60).reported(grads)

    assert error(operator, whole, x, answer) < 0.7 * error(operator, whole, curvature.solve(grads), answer)
    assert report.products == 62


def test_astra_on_random_batches_is_nearer_than_ekfac():
    """Six of twenty-four rows a step."""
    case = table()
    case.examples[:] = toys.rows(24, inputs=4, classes=3)
    curvature, operator = fitted(case, samples=3), gauss_newton(case)
    matrix, grads = operator.dense(), directions(operator)
    answer, whole = solved(operator, curvature, matrix, grads), damped_matrix(operator, curvature, matrix)

    x, report = Astra(curvature, operator, steps=100, batch=6).reported(grads)

    assert error(operator, whole, x, answer) < 0.7 * error(operator, whole, curvature.solve(grads), answer)
    assert report.products == 2 + 100 / 4


def test_the_sampled_fisher_is_inverted_exactly_and_stands_in_for_g():
    case, matrix = written_out("mlp")
    curvature = curvature_of("mlp")
    exact = gauss_newton(case, batch_size=8, cuts=())
    sampled = SampledFisher(case.model, exact.layers, case.task, exact.data, samples=64, seed=9)
    grads = directions(exact)

    x, report = Exact(curvature, sampled).reported(grads)

    assert_near(exact.flat(x), solved(exact, curvature, sampled.dense(), grads))
    assert report.operator == "sampled-fisher"
    with pytest.raises(InvalidSetting, match="samples labels by itself"):
        Sampled(curvature, sampled)
    answer, whole = solved(exact, curvature, matrix, grads), damped_matrix(exact, curvature, matrix)
    assert error(exact, whole, x, answer) < 0.5 * error(exact, whole, curvature.solve(grads), answer)


def repeatable(name, curvature, operator):
    """CG amplifies rounding as it goes: two runs differ by what its tolerance leaves open, so it is closed here."""
    settings = {"tolerance": 1e-12, "most": 300} if name == "cg" else {}
    return INVERSES[name](curvature, operator, **settings)


@pytest.mark.parametrize("solver", INVERSES)
def test_queries_are_solved_as_they_would_be_one_at_a_time(solver):
    curvature, operator = curvature_of("mlp"), gauss_newton(table())
    grads = directions(operator)
    inverse = repeatable(solver, curvature, operator)
    together = operator.flat(inverse.solve(grads))
    alone = [inverse.solve({name: part[q : q + 1] for name, part in grads.items()}) for q in range(3)]
    assert_near(torch.cat([operator.flat(one) for one in alone]), together, 1e-7)


@pytest.mark.parametrize("solver", INVERSES)
def test_answers_do_not_depend_on_how_the_data_is_cut(solver):
    curvature = curvature_of("mlp")
    operator, other = gauss_newton(table()), gauss_newton(table(), order=[7, 2, 4, 0, 1, 3, 5, 6], batch_size=1)
    grads = directions(operator)
    x, y = (repeatable(solver, curvature, one).solve(grads) for one in (operator, other))
    assert_near(operator.flat(y), operator.flat(x), 1e-7)


def test_a_curvature_and_every_solver_are_inverses():
    curvature = curvature_of("mlp")
    assert isinstance(curvature, Inverse)
    for name, make in INVERSES.items():
        solver = make(curvature, gauss_newton(table()))
        assert isinstance(solver, Inverse)
        assert solver.name == name
        assert solver.dampings == curvature.dampings


def test_the_identity_cannot_precondition():
    case = table()
    with pytest.raises(InvalidSetting, match="no damping"):
        ConjugateGradient(fitted(case, "identity"), gauss_newton(case))


def test_the_sampled_fisher_of_too_many_sequences_is_refused(monkeypatch):
    monkeypatch.setattr("whence.curvature.inverse.exact.FEW", 7)
    with pytest.raises(InvalidSetting, match="8 gradients of 43 weights are too many"):
        Sampled(curvature_of("mlp"), gauss_newton(table()))


def test_an_exact_solve_of_a_large_matrix_is_refused_and_nothing_takes_its_place(monkeypatch):
    monkeypatch.setattr("whence.curvature.inverse.exact.FEW", 7)
    with pytest.raises(
        InvalidSetting, match="at most 7 weights, or 7 rows .* here are 43 weights and 24 rows"
    ) as error:
        Exact(curvature_of("mlp"), gauss_newton(table()))
    assert "--solver cg" in error.value.hint


@pytest.mark.parametrize("solver", INVERSES)
def test_the_cost_that_is_told_before_is_what_is_spent_and_counted_while_it_is(solver):
    """To the last batch where nothing is iterated, or by a number of steps; where it stops when it is done, at most."""
    curvature, operator = curvature_of("mlp"), gauss_newton(table(), batch_size=2)
    inverse = INVERSES[solver](curvature, operator)
    told, seen = inverse.cost(3), []
    inverse.watch(lambda: seen.append(inverse.spent))
    if solver == "lissa":
        inverse.rule  # noqa: B018 (the top eigenvalue is known from here on)
        known = inverse.cost(3).epochs

    x, report = inverse.reported(directions(operator, queries=3))

    assert told.most == (solver in ("ekfac_refined", "sampled_refined", "cg"))
    if told.most:
        assert report.epochs <= told.epochs * (1 + 1e-9)
        assert str(told).startswith("at most ")
    else:
        assert inverse.spent == pytest.approx(known if solver == "lissa" else told.epochs)
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == inverse.spent > 0
    assert x.keys() == curvature.blocks.keys()


def test_a_solve_in_groups_costs_a_forward_for_each():
    inverse = INVERSES["ekfac_refined"](curvature_of("mlp"), gauss_newton(table()))

    assert (inverse.cost(4).epochs, inverse.cost(4, groups=2).epochs) == pytest.approx((5 * 19 / 3, 5 * 22 / 3))


def test_a_report_reads_as_a_sentence():
    operator = gauss_newton(table())
    report = ConjugateGradient(curvature_of("mlp"), operator).reported(directions(operator))[1]
    assert str(report).startswith("cg on the gauss-newton: residual ")
    assert "epochs for 3 queries" in str(report)
