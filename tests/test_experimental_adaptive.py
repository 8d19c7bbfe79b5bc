"""AdaptivePathSampler against its formula and the unbiasedness of its weight."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scrapl_optim import PathSampler
from scrapl_optim.experimental import AdaptivePathSampler
from scrapl_optim.testing import assert_unbiased

updates = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=30)


def literal(history: list[tuple[int, float, float]], rate: float, floor: float, n_paths: int = 4) -> np.ndarray:
    means: list[dict[int, float]] = [{}, {}]
    for path, *values in history:
        for mean, value in zip(means, values, strict=True):
            mean[path] = value if path not in mean else (1 - rate) * mean[path] + rate * value
    pi = np.zeros(n_paths)
    for mean in means:
        unseen = sum(mean.values()) / len(mean) if mean else 1.0
        row = np.array([mean.get(p, unseen) for p in range(n_paths)])
        pi += (row / row.sum() if row.sum() > 0 else np.full(n_paths, 1 / n_paths)) / len(means)
    return floor / n_paths + (1 - floor) * pi


@settings(deadline=None)
@given(updates, st.floats(0.01, 1), st.floats(0.01, 1))
@example([(0, 0.0, 524289.0), (0, 0.0, 1e-05), (1, 0.0, 0.015625)], 1.0, 0.5)
def test_follows_the_formula_and_weights_are_unbiased(history, rate: float, floor: float) -> None:
    sampler = AdaptivePathSampler(4, n_values=2, rate=rate, min_prob_frac=floor)
    for path, *values in history:
        sampler.update(path, values)
    np.testing.assert_allclose(sampler.probs, literal(history, rate, floor), rtol=1e-9)
    assert sampler.probs.min() >= floor / 4 * (1 - 1e-9)
    losses = np.array([1.0, -2.0, 5.0, 7.0])
    assert_unbiased(lambda p: sampler.weight(p) * losses[p], sampler.probs, losses.mean())


def test_draws_are_those_of_a_sampler_with_its_probabilities() -> None:
    sampler = AdaptivePathSampler(3, seed=5, cover_first=False)
    sampler.update(0, 4.0)
    sampler.update(1, torch.tensor(1.0))
    fixed = PathSampler(sampler.probs, seed=5)
    assert [sampler(step) for step in range(50)] == [fixed(step) for step in range(50)]
    assert sorted(AdaptivePathSampler(5)(step) for step in range(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rate", [k / 64 for k in range(1, 65)] + [0.1, 0.2, 0.3, 0.7])
def test_the_largest_number_stays_one(rate: float) -> None:
    sampler, largest = AdaptivePathSampler(2, rate=rate), sys.float_info.max
    for _ in range(5):
        sampler.update(0, largest)
    assert sampler.state_dict()["means"][0, 0].item() == largest


def test_a_path_that_did_not_matter_keeps_the_floor() -> None:
    """Zero means never to a PathSampler; here it is a measurement, which another visit may correct."""
    sampler = AdaptivePathSampler(4, min_prob_frac=0.2, cover_first=False)
    for path, value in enumerate((0.0, 1.0, 3.0, 0.0)):
        sampler.update(path, value)
    np.testing.assert_allclose(sampler.probs, [0.05, 0.25, 0.65, 0.05], rtol=1e-15)
    assert {sampler(step) for step in range(500)} == {0, 1, 2, 3}
    assert sampler.weight(0) == pytest.approx(5.0)
    assert sorted(AdaptivePathSampler(4, min_prob_frac=0.2)(step) for step in range(4)) == [0, 1, 2, 3]


@settings(deadline=None)
@given(updates, st.floats(0.01, 1), st.floats(0.01, 1))
def test_paths_to_draw_from_are_as_if_there_were_no_others(history, rate: float, floor: float) -> None:
    keep = [6, 1, 2, 5]
    sampler = AdaptivePathSampler(8, n_values=2, rate=rate, min_prob_frac=floor, paths=keep)
    alone = AdaptivePathSampler(4, n_values=2, rate=rate, min_prob_frac=floor)
    kept = sorted(keep)
    for path, *values in history:
        sampler.update(kept[path], values)
        alone.update(path, values)
    np.testing.assert_allclose(sampler.probs[kept], alone.probs, rtol=1e-12)
    assert sampler.probs.sum() == pytest.approx(1)
    assert (sampler.n_paths, sampler.paths) == (8, tuple(kept))
    assert sorted(sampler(step) for step in range(4)) == kept
    losses = np.arange(8.0)
    assert_unbiased(lambda p: sampler.weight(p) * losses[p], sampler.probs, losses[kept].sum() / 8)


def test_old_places_work_and_name_the_new_one() -> None:
    new_name = r"use scrapl_optim\.experimental\.AdaptivePathSampler"
    with pytest.warns(DeprecationWarning, match=new_name) as of_package:
        from scrapl_optim import AdaptivePathSampler as OfThePackage
    with pytest.warns(DeprecationWarning, match=new_name) as of_module:
        from scrapl_optim.adaptive import AdaptivePathSampler as OfTheModule
    assert [[warning.filename for warning in caught] for caught in (of_package, of_module)] == [[__file__]] * 2
    assert OfThePackage is OfTheModule is AdaptivePathSampler


def test_a_run_goes_on_with_fewer_paths() -> None:
    first = AdaptivePathSampler(4, min_prob_frac=0.5, rate=1.0)
    for path, value in enumerate((5.0, 1.0, 3.0, 9.0)):
        first.update(path, value)
    fewer = AdaptivePathSampler(4, min_prob_frac=0.5, rate=1.0, paths=[1, 2])
    fewer.load_state_dict(first.state_dict())
    np.testing.assert_allclose(fewer.probs, [0, 0.375, 0.625, 0], rtol=1e-12)
    assert {fewer(step) for step in range(100)} == {1, 2}
    before = fewer.probs
    with pytest.raises(ValueError, match="path_idx: 3 is never drawn"):
        fewer.update(3, 1.0)
    assert fewer.probs.tolist() == before.tolist()
    with pytest.raises(IndexError, match="Invalid paths: 4"):
        AdaptivePathSampler(4, paths=[4])


def test_probs_are_the_callers_own() -> None:
    sampler = AdaptivePathSampler(3)
    sampler.update(0, 4.0)
    before, draws = sampler.probs, [sampler(step) for step in range(50)]
    sampler.probs[:] = 0
    torch.from_numpy(sampler.probs).zero_()
    assert sampler.probs.tolist() == before.tolist()
    assert [sampler(step) for step in range(50)] == draws


def test_resumes_and_copies() -> None:
    def play(sampler: AdaptivePathSampler, start: int, stop: int) -> list[int]:
        paths = []
        for step in range(start, stop):
            paths.append(sampler(step))
            sampler.update(paths[-1], (paths[-1] + 1.0) * (1 + step % 3))
        return paths

    whole = play(AdaptivePathSampler(6, seed=2), 0, 60)
    first = AdaptivePathSampler(6, seed=2)
    paths = play(first, 0, 25)
    resumed = AdaptivePathSampler(6, seed=2)
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    copied = copy.deepcopy(first)
    assert paths + play(resumed, 25, 60) == whole
    assert play(copied, 25, 60) == whole[25:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_paths": 0}, "n_values: 0, 1"),
        ({"n_values": 0}, "n_values: 3, 0"),
        ({"rate": 0.0}, r"rate: 0\.0"),
        ({"min_prob_frac": 0.0}, r"min_prob_frac: 0\.0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptivePathSampler(**{"n_paths": 3, **arguments})


@pytest.mark.parametrize("values", [-1.0, float("nan"), float("inf"), [1.0, 2.0]])
def test_bad_updates_change_nothing(values) -> None:
    sampler = AdaptivePathSampler(3)
    sampler.update(1, 2.0)
    before = sampler.probs
    with pytest.raises(ValueError, match="path 1"):
        sampler.update(1, values)
    with pytest.raises(IndexError):
        sampler.update(3, 1.0)
    assert np.array_equal(sampler.probs, before)
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        sampler.load_state_dict({"means": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="negative"):
        sampler.load_state_dict({"means": -torch.ones(1, 3)})
