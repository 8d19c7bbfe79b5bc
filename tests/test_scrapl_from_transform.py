"""SCRAPL on any path transform: by hand from its parts, units by the entries' attributes, resume, errors."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scrapl_jtfs import SCRAPL, JTFSPath, JTFSPathLoss, PathLoss, check_path_transform
from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.testing import assert_unbiased
from tests.support.jtfs_helpers import SMALL, noise
from tests.support.optimizer_helpers import assert_bitwise, clones
from tests.support.path_families import Foreign, Gratings, LearnedBands, Spectra

PI = np.array([1.0, 2, 3, 4, 5, 6]) / 21


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(1, 1, 3, padding=1)


def batch(k: int) -> tuple[Tensor, Tensor]:
    x, y = noise(2, 2, 1, 12, 10, seed=k, dtype=torch.float32)
    return x, y


def train(scrapl: SCRAPL, net: nn.Module, optimizer: Any, steps: range) -> list[tuple[int, float]]:
    seen = []
    for k in steps:
        x, y = batch(k)
        loss = scrapl(net(x), y)
        seen.append((scrapl.path, loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return seen


@pytest.mark.parametrize("unbiased", [False, True])
def test_equals_the_parts_by_hand(unbiased: bool) -> None:
    options: dict[str, Any] = dict(squared=False, log1p_eps=1e-2)
    scrapl = SCRAPL.from_transform(Gratings(), probs=PI.tolist(), seed=3, unbiased=unbiased, **options)
    net, twin = model(), model()
    seen = train(scrapl, net, scrapl.optimizer(net.parameters(), lr=0.01), range(6))
    loss_fn, sampler = PathLoss(Gratings(), **options), PathSampler(PI, seed=3)
    by_hand = PathAdamSAGA(twin.parameters(), 6, lr=0.01, unbiased=unbiased)
    expected = []
    for k in range(6):
        path, (x, y) = sampler(k), batch(k)
        loss = loss_fn(twin(x), y, path)
        expected.append((path, loss.item()))
        by_hand.zero_grad()
        loss.backward()
        by_hand.step(path_idx=path, weight=sampler.weight(path) if unbiased else None)
    assert seen == expected
    assert_bitwise(clones(net.parameters()), clones(twin.parameters()))
    assert scrapl.step == 6


def test_it_is_that_of_the_jtfs() -> None:
    x, y = noise(2, 2, 512, dtype=torch.float32)
    ours = SCRAPL.from_transform(JTFSPath(**SMALL), seed=1)
    theirs = SCRAPL(**SMALL, seed=1)
    assert type(ours.loss_fn) is JTFSPathLoss
    assert ours.jtfs is ours.transform
    assert ours.path == theirs.path
    assert torch.equal(ours.full(x, y), theirs.full(x, y))
    assert repr(ours) == repr(theirs)
    assert check_path_transform(theirs.transform) is theirs.jtfs


@pytest.mark.parametrize("unit", ["path", "scale", "angle"])
@pytest.mark.parametrize(
    "paths", [None, [1, 2, 5], lambda table: [table[5], table[1]]], ids=["all", "some", "entries"]
)
def test_losses_of_the_units_average_to_the_full_one(unit: str, paths: Any) -> None:
    gratings = Gratings()
    paths = paths(gratings.paths) if callable(paths) else paths
    scrapl = SCRAPL.from_transform(gratings, paths=paths, unit=unit, probs=PI.tolist()).double()
    x, y = (signal.double() for signal in batch(0))
    drawn = [u for u in range(scrapl.n_paths) if set(scrapl.units[u]) <= set(scrapl.kept)]
    total = torch.stack([scrapl.unit_loss(x, y, u) for u in drawn]).sum() / scrapl.n_paths
    torch.testing.assert_close(total, scrapl.eval()(x, y))
    kept = [0, 1, 2, 3, 4, 5] if paths is None else sorted(getattr(path, "index", path) for path in paths)
    assert list(scrapl.kept) == kept
    torch.testing.assert_close(scrapl.full(x, y), PathLoss(gratings).full(x, y, kept))
    if unit != "path":
        values = [{getattr(gratings.paths[p], unit) for p in members} for members in scrapl.units]
        assert all(len(one) == 1 for one in values)


def test_draws_are_unbiased() -> None:
    learned = LearnedBands().double()
    x, y = noise(2, 2, 64)
    scrapl = SCRAPL.from_transform(learned, probs=[0.1, 0.2, 0.3, 0.4], unbiased=True)

    def estimate(p: int) -> Tensor:
        return scrapl.sampler.weight(p) * scrapl.unit_loss(x, y, p).detach()

    assert_unbiased(estimate, scrapl.sampler.probs, scrapl.full(x, y).detach())


def test_resume_goes_on_exactly() -> None:
    def start() -> tuple[SCRAPL, nn.Module, PathAdamSAGA]:
        scrapl, net = SCRAPL.from_transform(Gratings(), unit="angle", seed=5), model()
        return scrapl, net, scrapl.optimizer(net.parameters(), lr=0.01)

    scrapl, net, optimizer = start()
    train(scrapl, net, optimizer, range(4))
    file = io.BytesIO()
    torch.save([scrapl.state_dict(), net.state_dict(), optimizer.state_dict()], file)
    unbroken = train(scrapl, net, optimizer, range(4, 8))
    parts = start()
    file.seek(0)
    for part, state in zip(parts, torch.load(file), strict=True):
        part.load_state_dict(state)
    assert train(*parts, range(4, 8)) == unbroken


def test_a_learnable_transform_is_among_the_parts() -> None:
    scrapl = SCRAPL.from_transform(LearnedBands())
    assert "loss_fn.transform.filters" in scrapl.state_dict()
    assert scrapl.double().transform.dtype == torch.float64
    x, y = noise(2, 2, 64)
    other = copy.deepcopy(scrapl)
    assert torch.equal(other.full(x, y), scrapl.full(x, y))
    target = scrapl.loss_fn.prepare(y)
    assert torch.equal(other.full([x, 2 * x], target), scrapl.full([x, 2 * x], y))


def test_structure_alone_is_enough() -> None:
    scrapl, net = SCRAPL.from_transform(Foreign()), nn.Linear(6, 6)
    optimizer = scrapl.optimizer(net.parameters())
    scrapl(net(torch.ones(2, 6)), torch.zeros(2, 6)).backward()
    optimizer.step()
    assert scrapl.step == 1
    assert not hasattr(scrapl, "jtfs")


@pytest.mark.parametrize(("options", "error", "message"), [
    (dict(unit="rate"), ValueError, "Invalid unit: 'rate'; expected 'path' or 'samples'"),
    (dict(unit=3), ValueError, "Invalid unit: 3; expected 'path' or 'samples'"),
    (dict(paths=[]), ValueError, "Invalid paths: none; expected at least one of 3"),
    (dict(paths=[3]), IndexError, "Invalid paths: 3; expected an id from 0 to 2"),
    (dict(probs=[0.5, 0.5]), ValueError, "Invalid probs: 2 entries; expected one for each of 3 paths"),
    (dict(unbiased=1), TypeError, "Invalid unbiased: 1; expected True or False"),
    (dict(p=0), ValueError, "Invalid p: 0"),
    (dict(rates=(2, 3)), TypeError, "rates"),
])  # fmt: skip
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SCRAPL.from_transform(Spectra(), **options)


def test_what_is_no_transform() -> None:
    with pytest.raises(TypeError, match="Invalid transform: int; expected a path transform; it lacks paths"):
        SCRAPL.from_transform(16000)
