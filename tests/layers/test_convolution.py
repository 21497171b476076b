"""Convolutions: every setting against torch's own, groups, shared patches, positions of their own, in-place ReLUs."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.cases import pictures, table
from torch import nn
from torch.testing import assert_close

from whence.capture import capture
from whence.errors import LayerError
from whence.jobs.fit import fit
from whence.layers import as_matrices, as_parameters
from whence.layers.convolution import patches
from whence.layers.select import track
from whence.testing import convnets, toys

MODES = ["zeros", "reflect", "replicate", "circular"]
PADDINGS = [0, (2, 1), "same", "valid"]


@pytest.mark.parametrize(("mode", "padding"), [(mode, padding) for mode in MODES for padding in PADDINGS])
def test_patches_times_the_kernel_are_the_convolution(mode, padding):
    """Every stride, dilation and groups, and kernels of even and odd size."""
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(2, 4, 7, 6, generator=draw, dtype=torch.float64)
    for kernel, stride, dilation, groups in itertools.product([(2, 3), (3, 1)], [1, (2, 1)], [1, (1, 2)], [1, 2]):
        if padding == "same" and stride != 1:
            continue  # torch has none
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        module = nn.Conv2d(4, 6, kernel, padding_mode=mode, bias=False, **settings).double()
        expected = module(image).flatten(2)
        for group, (part, weight) in enumerate(zip(image.chunk(groups, 1), module.weight.chunk(groups), strict=True)):
            found = weight.flatten(1) @ patches(part, module)
            assert_close(found, expected.chunk(groups, 1)[group])


def fitted(case, curvature="ekfac", **settings):
    data = toys.TinyData(case.examples, batch_size=4)
    return fit(case.model, data, task=case.task, layers=case.layers, curvature=curvature, **settings)


def test_a_grouped_convolution_is_a_layer_a_group_and_is_taken_whole():
    model = convnets.odd_convolutions()
    names = [layer.name for layer in track(model, "grouped").layers]
    assert names == ["grouped.group0", "grouped.group1"]
    assert [layer.name for layer in track(model, "grouped.group1").layers] == names
    assert {layer.path for layer in track(model, "grouped*").layers} == {"grouped"}
    assert [layer.weights for layer in track(model, "depthwise").layers] == [4] * 4
    assert track(model, "all").coverage.share == 1.0


def test_two_ungrouped_convolutions_side_by_side_are_the_grouped_one():
    """Same gradients, moments and eigenvalues as when each half is a module of its own."""

    class Apart(nn.Module):
        def __init__(self, whole):
            super().__init__()
            self.halves = nn.ModuleList(nn.Conv2d(1, 2, 3, padding=1) for _ in range(2))
            for n, half in enumerate(self.halves):
                half.weight.data, half.bias.data = whole.weight.data.chunk(2)[n], whole.bias.data.chunk(2)[n]

        def forward(self, x):
            halves = zip(self.halves, x.chunk(2, 1), strict=True)
            return torch.tanh(torch.cat([half(part) for half, part in halves], 1)).mean((2, 3))

    whole = nn.Conv2d(2, 4, 3, padding=1, groups=2).double()
    joined = pictures(nn.Sequential(whole, nn.Tanh(), nn.AvgPool2d((6, 5)), nn.Flatten()))
    apart = pictures(Apart(whole))
    for curvature in ("diagonal", "kfac", "ekfac"):
        one, other = fitted(joined, curvature), fitted(apart, curvature)
        for n in range(2):
            assert_close(one.dense(f"0.group{n}"), other.dense(f"halves.{n}"))


def test_matrices_and_parameters_are_two_spellings():
    """Of values and of gradients: a weight is the sum of its groups' parts."""
    model = convnets.odd_convolutions()
    layers = track(model, "all").layers
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    matrices = as_matrices(layers, parameters)
    assert {name: matrix.shape for name, matrix in matrices.items()} == {
        layer.name: (layer.outputs, layer.inputs) for layer in layers
    }
    again = as_parameters(layers, matrices)
    assert again.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert torch.equal(again[name], parameter)
    two = {name: torch.stack([matrix, 2 * matrix]) for name, matrix in matrices.items()}
    mapped = torch.func.vmap(lambda one: as_parameters(layers, one))(two)
    for name, parameter in parameters.items():
        assert torch.equal(mapped[name], torch.stack([parameter, 2 * parameter]))
    some = as_parameters(layers, {"grouped.group1": matrices["grouped.group1"]})
    assert not some["grouped.weight"][:3].any()
    assert torch.equal(some["grouped.weight"][3:], parameters["grouped.weight"][3:])


def test_kfac_counts_a_layers_own_positions():
    """What A is divided by: 9 locations of a stage of 3 × 3, 30 of the first, 1 of the head."""
    case = pictures(convnets.tiny_resnet())
    curvature, oracle = fitted(case, "kfac"), case.oracle()
    rows = {layer: oracle.rows(layer) for layer in case.layers}
    assert {count // len(case.examples) for count in rows.values()} == {30, 9, 1}
    for layer in case.layers:
        own = curvature.counts.get(f"positions.{layer}", curvature.counts["positions"])
        assert own == rows[layer]


def test_a_linear_layer_inside_an_image_model_counts_its_own_positions():
    """A Linear applied to every location, as in a vision transformer."""

    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.head = nn.Linear(2, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(torch.tanh(self.mix(x.flatten(2).mT)).mean(1))

    case = pictures(Mixer().double())
    labels = case.oracle(labels=[[one.targets] for one in case.examples])
    found = fitted(case, "kfac", labels="true")
    assert labels.rows("mix") == 30 * len(case.examples)
    for layer in case.layers:
        assert_close(found.dense(layer), labels.kfac(layer))


def test_layers_that_cut_the_same_patches_share_them():
    """Two kernels of one geometry on one tensor; a third of another shape reads for itself."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
            self.c = nn.Conv2d(2, 3, 1)

        def forward(self, x):
            x = torch.tanh(x)
            return (torch.tanh(self.a(x)) * self.b(x) + self.c(x)).mean((2, 3))

    case = pictures(Branches().double())
    labels = case.oracle(labels=[[one.targets] for one in case.examples])
    found = fitted(case, "kfac", labels="true")
    assert found.reads == {"a": "a", "b": "a", "c": "c"}
    assert found.blocks["a"].input_basis is found.blocks["b"].input_basis
    for layer in case.layers:
        assert_close(found.dense(layer), labels.kfac(layer))


def test_patches_are_formed_when_backward_comes_and_not_before(monkeypatch):
    """A forward holds each convolution's input, not the nine times larger patches."""
    case = pictures(convnets.tiny_resnet())
    formed = []
    whole = patches
    monkeypatch.setattr(
        "whence.layers.convolution.patches", lambda source, module: formed.append(module) or whole(source, module)
    )
    batch = toys.collate(case.examples)
    tracked = track(case.model, case.layers).layers
    with capture(case.model, tracked, batch.real, lambda trace: trace.gradient()):
        loss = case.task.loss(case.model, batch).sum()
        assert not formed
        loss.backward()
    assert len(formed) == len([layer for layer in case.layers if layer != "head"])


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh])
def test_an_activation_in_place_may_follow_a_tracked_layer(activation):
    """As in VGG and AlexNet: the layer's output is overwritten, its gradient is not."""
    make = lambda inplace: nn.Sequential(  # noqa: E731
        nn.Conv2d(2, 3, 3), activation(inplace=inplace), nn.Flatten(), nn.Linear(36, 3), activation(inplace=inplace)
    ).double()
    kept, overwritten = make(False), make(True)
    overwritten.load_state_dict(kept.state_dict())
    expected, found = fitted(pictures(kept)), fitted(pictures(overwritten))
    for layer in expected.blocks:
        assert_close(found.dense(layer), expected.dense(layer), rtol=0, atol=0)


def test_batch_norm_runs_in_eval_mode_and_the_coverage_says_so():
    """In train mode an example's gradient would depend on its batch; flags are put back."""
    case = pictures(convnets.tiny_resnet())
    expected = fitted(case)
    case.model.train()
    found = fitted(case)
    assert all(module.training for module in case.model.modules())
    for layer in expected.blocks:
        assert_close(found.dense(layer), expected.dense(layer), rtol=0, atol=0)
    line = str(track(case.model).coverage)
    assert "batch norm (6 of them) runs in eval mode, on the statistics kept from training" in line
    assert "norms" in line


def test_batch_norm_without_running_statistics_is_refused():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(LayerError, match=r"1 keeps no running statistics"):
        track(model)


def test_the_coverage_names_convolutions_left_out():
    line = str(track(convnets.odd_convolutions(), ["head", "line"]).coverage)
    assert "other convolutions" in line
    assert "experts" not in line


def test_a_convolution_over_the_positions_of_a_padded_sequence_is_refused():
    """Its locations are not the sequence's positions: nothing says which of them are padding."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.conv, self.head = nn.Embedding(7, 4), nn.Conv1d(4, 3, 2), nn.Linear(3, 3)

        def forward(self, ids):
            return self.head(self.conv(self.embedding(ids).mT).amax(2))

    from whence.data import TensorData

    real = torch.ones(4, 5, dtype=torch.bool)
    data = TensorData(torch.randint(7, (4, 5)), torch.tensor([0, 1, 2, 0]), real=real)
    with pytest.raises(LayerError, match=r"conv works on rows .* 5 positions .*a convolution"):
        fit(Text().double(), data, task=table().task, layers="conv")


def test_resnet20_has_the_papers_weights():
    """0.27 M at width 16; 20 layers and two projections."""
    model = convnets.resnet20()
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert 0.26e6 < weights < 0.28e6
    assert len(track(model)) == 22
    narrow = convnets.resnet20(width=4, channels=1)
    assert narrow(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in narrow.parameters()) < weights / 14
