"""theta-importance and alignment on paths of any transform: the literal equation, and plain backward passes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import scrapl_optim
from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathLoss, importance, measure_alignment
from scrapl_optim.reference import importances
from tests.support.path_families import Gratings, LearnedBands, Spectra

GENERATOR = torch.Generator().manual_seed(0)
THETA, THETA_HAT = torch.rand(2, 6, 2, dtype=torch.float64, generator=GENERATOR)


def tones(theta: Tensor) -> Tensor:
    """Loudness and pitch."""
    time = torch.arange(64).to(theta) / 64
    return (0.2 + theta[:, :1]) * torch.sin(2 * torch.pi * 8 * 2 ** theta[:, 1:] * time)


def stripes(theta: Tensor) -> Tensor:
    """Contrast and angle, in images with an axis of channels."""
    down, across = torch.meshgrid(torch.arange(12).to(theta), torch.arange(10).to(theta), indexing="ij")
    turn = torch.pi * theta[:, 1, None, None]
    phase = 2 * torch.pi / 4 * (across * turn.cos() + down * turn.sin())
    return ((0.2 + theta[:, 0, None, None]) * torch.sin(phase))[:, None]


CASES: dict[str, Any] = {
    "Spectra": (Spectra, tones),
    "LearnedBands": (LearnedBands, tones),
    "Gratings": (Gratings, stripes),
    "PathLoss on a JTFS": (lambda: JTFSPath(64, J=3, Q=(2, 1), J_fr=1, T="global"), tones),
}
cases = pytest.mark.parametrize(("family", "synth"), CASES.values(), ids=CASES)


def make_encoder(n: int) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n, 2, bias=False), torch.nn.Sigmoid())


@cases
def test_importance_is_the_literal_one(family: Any, synth: Any) -> None:
    x = synth(THETA[:3].float())
    transform, encoder = family(), make_encoder(x[0].numel())
    found = importance(encoder, synth, PathLoss(transform), x, tolerance=1e-8)
    exact, loss_fn = copy.deepcopy(encoder).double(), PathLoss(copy.deepcopy(transform).double(), reduction="sum")
    expected = importances(
        exact, lambda theta, x: synth(theta), loss_fn, [x.double()], exact.parameters(), transform.n_paths
    )
    count = 3
    torch.testing.assert_close(found.importance, expected / count, rtol=1e-5, atol=1e-9 * float(expected.max()))
    assert found.probs.sum().item() == pytest.approx(1)
    assert found.paths == tuple(transform.paths)
    assert "likeliest: path" in repr(found)
    assert transform.dtype == torch.float32


def test_importance_of_some_paths() -> None:
    gratings = Gratings()
    found = importance(
        make_encoder(120),
        stripes,
        PathLoss(gratings),
        list(stripes(THETA.float()).unbind()),
        paths=gratings.paths[1:3],
    )
    assert found.probs.nonzero().flatten().tolist() == [1, 2]
    assert [path.index for path in found.paths] == [1, 2]
    with pytest.raises(ValueError, match=r"expected signals \(E, 12, 10\), or with axes of channels between"):
        importance(make_encoder(120), stripes, PathLoss(gratings), stripes(THETA).mT)
    with pytest.raises(TypeError, match="Invalid loss_fn: Gratings; expected a JTFSPathLoss or another PathLoss"):
        importance(make_encoder(120), stripes, gratings, stripes(THETA))  # type: ignore[arg-type]


@cases
@pytest.mark.parametrize("renderings", [1, 2])
def test_alignment_is_that_of_backward_passes(family: Any, synth: Any, renderings: int) -> None:
    loss_fn = PathLoss(family().double())

    def seeded(theta: Tensor, seeds: list[int]) -> Tensor:
        scale = torch.tensor([1 + seed % 7 / 10 for seed in seeds], dtype=theta.dtype)
        sounds = synth(theta)
        return sounds * scale.reshape(-1, *[1] * (sounds.ndim - 1))

    ours = measure_alignment(seeded, loss_fn, THETA, THETA_HAT, renderings=renderings, seed=2)

    def path_loss(sounds: Any, target: Tensor, p: int) -> Tensor:
        each = PathLoss(loss_fn.transform, reduction="none")
        return each(sounds, target, p).reshape(len(target), -1).sum(1)

    plain = scrapl_optim.measure_alignment(
        seeded, path_loss, THETA, THETA_HAT, loss_fn.n_paths, renderings=renderings, seed=2
    )
    largest = plain.slopes.abs().max()
    torch.testing.assert_close(ours.slopes / largest, plain.slopes / largest, rtol=0, atol=1e-9)


def test_both_take_what_scrapl_has() -> None:
    jtfs = JTFSPath(64, J=3, Q=(2, 1), J_fr=1, T="global")
    of_any = importance(make_encoder(64), tones, PathLoss(jtfs), tones(THETA.float()))
    of_jtfs = importance(make_encoder(64), tones, JTFSPathLoss(jtfs), tones(THETA.float()))
    torch.testing.assert_close(of_any.probs, of_jtfs.probs, rtol=1e-5, atol=1e-8)
