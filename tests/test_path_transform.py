"""The protocol of path transforms: defaults of the base class, settings, and errors that name what is lacking."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scrapl_jtfs import (
    ImageScattering,
    JTFSPath,
    PathTransform,
    TimeScattering,
    check_path_transform,
    draw_coefficients,
    draw_scalogram,
    relative_distance,
)
from tests.support.jtfs_helpers import SMALL, noise
from tests.support.path_families import Band, Foreign, Gratings, LearnedBands, Spectra

FAMILIES: dict[str, Any] = {
    "Spectra": Spectra,
    "LearnedBands": LearnedBands,
    "Gratings": Gratings,
    "Foreign": Foreign,
    "JTFSPath": lambda: JTFSPath(**SMALL),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_families_meet_the_protocol(family: Any) -> None:
    transform = family()
    assert check_path_transform(transform) is transform


@pytest.mark.parametrize("family", [Spectra, LearnedBands, Gratings])
def test_defaults_are_forward_path_by_path(family: Any) -> None:
    transform = family()
    x = noise(2, 3, *transform.signal_shape, dtype=torch.float32)
    expected = [transform(x, p) for p in range(transform.n_paths)]
    assert transform.n_paths == len(transform.paths) == len(expected)
    assert all(map(torch.equal, transform.full(x), expected))
    assert [p for p, _ in transform.stream(x)] == list(range(transform.n_paths))
    assert all(torch.equal(phi, expected[p]) for p, phi in transform.stream(x))
    for several in ([2, 0, 2], torch.tensor([2, 0, 2]), iter((2, 0, 2))):
        assert all(map(torch.equal, transform.select(x, several), [expected[2], expected[0], expected[2]]))
    assert transform.select(x, []) == []
    # batch axes come first, whatever their number
    alone = transform(x[1, 2], 0)
    torch.testing.assert_close(alone, expected[0][1, 2])


def test_equal_paths_are_computed_once() -> None:
    calls = []

    class Counting(Spectra):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            calls.append(path_idx)
            return super().forward(x, path_idx)

    Counting().select(torch.ones(64), [1, 2, 1, 1])
    assert calls == [1, 2]


def test_dtype_and_device_follow_the_module() -> None:
    spectra = Spectra()
    assert (spectra.dtype, spectra.device) == (torch.float32, torch.device("cpu"))
    assert spectra.double().dtype == torch.float64
    assert spectra(noise(64), 1).dtype == torch.float64
    assert nn.Sequential(spectra).to("meta")[0].device.type == "meta"  # type: ignore[union-attr]
    assert not spectra.state_dict()
    assert spectra.to_empty(device="cpu").float()(torch.ones(64, dtype=torch.float16), 0).dtype == torch.float32


@pytest.mark.parametrize(("x", "path_idx", "error", "message"), [
    (torch.ones(63), 0, ValueError, r"Invalid x: shape \(63,\); expected \(64,\) as last axes; crop or pad it"),
    (torch.ones(()), 0, ValueError, r"Invalid x: shape \(\); expected \(64,\)"),
    (torch.ones(0, 64), 0, ValueError, "Invalid x: an empty batch"),
    (torch.ones(64).double(), 0, ValueError, r"convert it with x.float\(\), or else the transform with"),
    (torch.ones(64).to("meta"), 0, ValueError, r"for which transform.to\('meta'\) gives the shapes"),
    (torch.ones(64).int(), 0, TypeError, "expected real floating-point numbers"),
    ([1.0] * 64, 0, TypeError, "Invalid x: list; expected a torch.Tensor; use torch.as_tensor"),
    (torch.ones(64), 3, IndexError, "Invalid path_idx: 3; expected an id from 0 to 2"),
    (torch.ones(64), -1, IndexError, "Invalid path_idx: -1"),
    (torch.ones(64), 1.0, TypeError, "Invalid path_idx: 1.0; expected an integer from 0 to 2"),
])  # fmt: skip
def test_helpers_refuse_bad_signals_and_ids(x: Any, path_idx: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Spectra()(x, path_idx)


def test_image_helpers_name_both_axes() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(3, 10, 12\); expected \(12, 10\) as last axes; .* for \(10, 12\)"
    ):
        Gratings()(torch.ones(3, 10, 12), 0)
    with pytest.raises(ValueError, match=r"shape \(10,\); expected \(12, 10\) as last axes; .* for its shape"):
        Gratings()(torch.ones(10), 0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("family", [Spectra, LearnedBands, Gratings, FAMILIES["JTFSPath"]])
def test_copies_have_equal_settings(family: Any, copied: Any) -> None:
    transform = family()
    assert copied(transform).settings == transform.settings == family().settings


def test_settings_tell_what_coefficients_depend_on() -> None:
    learned = LearnedBands()
    before = learned.settings
    assert LearnedBands(seed=1).settings != before
    assert LearnedBands(n_samples=32).settings != before
    assert Spectra().settings != Spectra(n_paths=2).settings
    learned.eval().requires_grad_(False)
    assert learned.settings == before
    with torch.no_grad():
        learned.filters[1, 3] += 1e-6
    assert learned.settings != before
    with torch.no_grad():
        learned.filters.data.copy_(LearnedBands().filters)  # past the count of versions
    assert learned.settings == before


def test_settings_of_parts_and_of_plain_attributes() -> None:
    class Parts(Spectra):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
            self.table = [torch.zeros(2), {"a": noise(3).numpy()}]

    transform = Parts()
    before = transform.settings
    assert copy.deepcopy(transform).settings == before
    for change in (
        lambda t: t.part[0].bias.data.add_(1),
        lambda t: t.part.__setitem__(1, nn.GELU()),
        lambda t: t.table[0].add_(1),
        lambda t: t.table[1]["a"].__setitem__(0, 3.0),
        lambda t: setattr(t, "window", "hann"),
    ):
        other = copy.deepcopy(transform)
        change(other)
        assert other.settings != before
    transform.part.to("meta")
    assert transform.settings != before


def test_settings_of_the_jtfs_are_its_arguments() -> None:
    jtfs = JTFSPath(**SMALL, T=32)
    assert {name: jtfs.settings[name] for name in ("n_samples", "J", "Q", "J_fr")} == SMALL
    assert (
        jtfs.settings == copy.deepcopy(jtfs).double().settings == JTFSPath(**SMALL, T=32, sample_rate=8).settings
    )
    assert jtfs.settings != JTFSPath(**SMALL, T=64).settings
    assert jtfs.signal_shape == (512,)
    assert isinstance(jtfs, PathTransform)


class Lacking(nn.Module):
    """A module with a table and nothing else."""

    paths = (Band(0),)


def changed(**members: Any) -> Foreign:
    """Return a path transform with other members."""
    transform = Foreign()
    for name, value in members.items():
        setattr(transform, name, value)
    return transform


@pytest.mark.parametrize(("transform", "error", "message"), [
    (3, TypeError, "Invalid transform: int; expected a path transform; it lacks paths, .*, stream and forward"),
    (Lacking(), TypeError, "it lacks signal_shape, n_paths, dtype, device, settings, select, full and stream"),
    (Spectra, TypeError, r"Invalid transform: the class Spectra; .*; make one: Spectra\(...\)"),
    (changed(paths=3), TypeError, "paths of type int; expected a sequence"),
    (changed(paths=()), ValueError, "with 0 paths and n_paths=2; expected one entry for each of one or more"),
    (changed(n_paths=3), ValueError, "with 2 paths and n_paths=3"),
    (changed(paths=(Band(1), Band(0))), ValueError, r"paths\[0\] has index=1; expected all paths in the order"),
    (changed(paths=("low", "high")), TypeError, r"paths\[0\] is a str without a path id; expected an entry"),
    (changed(signal_shape=6), TypeError, "signal_shape=6; expected the last axes"),
    (changed(signal_shape=()), TypeError, r"signal_shape=\(\); expected the last axes"),
    (changed(dtype="float32"), TypeError, "dtype='float32'; expected a real floating-point torch.dtype"),
    (changed(dtype=torch.complex64), TypeError, "dtype=torch.complex64; expected a real floating-point"),
    (changed(device="cpu"), TypeError, "device='cpu'; expected a torch.device"),
])  # fmt: skip
def test_errors_name_what_it_lacks(transform: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_path_transform(transform)


def test_a_family_without_forward_or_attributes_says_so() -> None:
    class NoForward(PathTransform):
        pass

    class NoTable(PathTransform):
        def forward(self, x: Any, path_idx: int) -> Tensor:
            return x

    with pytest.raises(TypeError, match="forward"):
        NoForward()  # type: ignore[abstract]
    with pytest.raises(TypeError, match=r"Invalid jtfs: NoTable; .*; it lacks paths, signal_shape and n_paths"):
        check_path_transform(NoTable(), "jtfs")


def test_stack_is_select_as_one_tensor() -> None:
    images = ImageScattering((16, 12), J=2, L=2)
    x = torch.rand(2, 3, 16, 12)
    stacked = images.stack(x, [4, 1])
    assert stacked.shape == (2, 3, 2, 4, 3)
    for k, coefficients in enumerate(images.select(x, [4, 1])):
        assert torch.equal(stacked[:, :, k], coefficients)
    assert images.stack(x[0, 0]).shape == (images.n_paths, 4, 3)
    jtfs = JTFSPath(**SMALL)
    signals = noise(2, 512, dtype=torch.float32)
    same = [p for p in range(jtfs.n_paths) if jtfs(signals, p).shape == jtfs(signals, 0).shape]
    assert torch.equal(jtfs.stack(jtfs.first_layer(signals), same), torch.stack(jtfs.select(signals, same), 1))


def test_paths_of_unequal_shape_make_no_tensor() -> None:
    scattering = TimeScattering(1024, J=5, Q=(4, 1), T=0)
    with pytest.raises(
        ValueError, match=r"Invalid path_indices: path 0 has coefficients .*select\(x, path_indices\)"
    ):
        scattering.stack(torch.randn(1024))
    with pytest.raises(ValueError, match="Invalid path_indices: none"):
        scattering.stack(torch.randn(1024), [])


def test_what_is_for_the_jtfs_says_so() -> None:
    other = TimeScattering(1024, J=5, Q=(4, 1))
    x = torch.randn(1024)
    with pytest.raises(TypeError, match=r"Invalid jtfs: TimeScattering; expected a JTFSPath; .*measure_texture"):
        relative_distance(other, x, x)  # type: ignore[arg-type]
    pytest.importorskip("matplotlib")
    for draw in (lambda: draw_scalogram(None, other, x), lambda: draw_coefficients(None, other, x, 0)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Invalid jtfs: TimeScattering; expected a JTFSPath, whose rows"):
            draw()
