"""PathSampler against the testing kit, counting and a second process."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_optim import PathSampler
from scrapl_optim.experimental import AdaptivePathSampler
from scrapl_optim.testing import (
    assert_draws_follow,
    assert_statistically_unbiased,
    assert_unbiased,
    distributions,
)

PI = np.array([0.05, 0.0, 0.4, 0.25, 0.3])
LOSSES = np.array([3.0, 1.0, 4.0, 1.0, 5.0])


@pytest.mark.parametrize("seed", [0, 1, 2**63])
@pytest.mark.parametrize("min_prob_frac", [0.0, 0.5])
def test_frequencies(seed: int, min_prob_frac: float) -> None:
    sampler = PathSampler(PI, seed=seed, min_prob_frac=min_prob_frac)
    assert_draws_follow(sampler, min_prob_frac / 4 * (PI > 0) + (1 - min_prob_frac) * PI, 20_000)


def test_draws_of_one_step_and_neighbouring_steps_are_independent() -> None:
    sampler = PathSampler(n_paths=4, seed=3)

    def of_one_step(step: int) -> int:
        first, second = sampler.sample(step, 2)
        return 4 * first + second

    def of_neighbours(step: int) -> int:
        return 4 * sampler(2 * step) + sampler(2 * step + 1)

    for pair in (of_one_step, of_neighbours):
        assert_draws_follow(pair, np.full(16, 1 / 16), 10_000)


def test_known_paths() -> None:
    """A change of generator, of its key or of the inversion breaks resumed runs: these must stay."""
    assert [PathSampler(PI, seed=7)(k) for k in (0, 1, 2, 12345, 2**64 - 1)] == [4, 4, 3, 2, 2]
    assert [PathSampler(n_paths=315, seed=0)(k) for k in range(5)] == [3, 66, 207, 134, 137]


def test_same_path_in_another_process_and_any_order() -> None:
    sampler = PathSampler(PI, seed=11, cover_first=True)
    steps = [0, 1, 2, 3, 10, 2**40, 2**64 - 1]
    here = [sampler(step) for step in steps]
    assert [sampler(step) for step in reversed(steps)] == here[::-1]
    code = (
        "from scrapl_optim import PathSampler\n"
        f"s = PathSampler({PI.tolist()}, seed=11, cover_first=True)\n"
        f"print([s(k) for k in {steps}])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_seeds_and_global_generators_do_not_matter_to_each_other() -> None:
    sampler = PathSampler(n_paths=100, seed=1)
    first = sampler.sample(0, 20)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    assert sampler.sample(0, 20) == first
    assert PathSampler(n_paths=100, seed=2).sample(0, 20) != first


@given(step=st.integers(0, 2**64 - 1), seed=st.integers(0, 2**64 - 1), n_draws=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_draws_without_replacement_are_distinct(step: int, seed: int, n_draws: int) -> None:
    draws = PathSampler(PI, seed=seed).sample(step, n_draws, replacement=False)
    assert len(set(draws)) == n_draws
    assert 1 not in draws


def test_draws_without_replacement_have_the_law_of_successive_draws() -> None:
    pi = np.array([0.5, 0.3, 0.2])
    sampler = PathSampler(pi, seed=5)
    law = [[0 if i == j else pi[i] * pi[j] / (1 - pi[i]) for j in range(3)] for i in range(3)]

    def pair(step: int) -> int:
        first, second = sampler.sample(step, 2, replacement=False)
        return 3 * first + second

    assert_draws_follow(pair, np.ravel(law), 12_000)


@given(step=st.integers(0, 10**9), n_draws=st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_stratified_draws_come_up_floor_or_ceil_times(step: int, n_draws: int) -> None:
    counts = np.bincount(PathSampler(PI).sample(step, n_draws, stratified=True), minlength=5)
    assert counts.sum() == n_draws
    assert np.all(np.abs(counts - n_draws * PI) < 1 + 1e-9)


def test_stratified_draws_are_unbiased() -> None:
    sampler = PathSampler(PI, seed=9)

    def counts(step: int) -> npt.NDArray[Any]:
        return np.bincount(sampler.sample(step, 2, stratified=True), minlength=5)

    assert_statistically_unbiased(counts, 2 * PI, 6000)
    distinct = sampler.sample(0, 2, stratified=True, replacement=False)
    assert distinct == sampler.sample(0, 2, stratified=True)
    assert len(set(distinct)) == 2


@given(step=st.integers(0, 2**64 - 1), cover_first=st.booleans())
@settings(max_examples=30, deadline=None)
def test_one_draw_is_the_same_in_every_mode(step: int, cover_first: bool) -> None:
    sampler = PathSampler(PI, seed=4, cover_first=cover_first)
    for replacement in (True, False):
        assert sampler.sample(step, 1, replacement=replacement) == (sampler(step),)
    assert sampler.sample(step, 1, stratified=True) == (sampler(step),)


@given(pi=distributions(max_paths=50, smallest=0.0), frac=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_floor(pi: npt.NDArray[np.float64], frac: float) -> None:
    probs = PathSampler(pi, min_prob_frac=frac).probs
    possible = pi > 0
    assert probs.dtype == np.float64
    assert abs(probs.sum() - 1) < 1e-12
    assert np.all(probs[possible] >= frac / possible.sum())
    assert np.all(probs[~possible] == 0)
    expected = frac / possible.sum() + (1 - frac) * pi[possible]
    np.testing.assert_allclose(probs[possible], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("min_prob_frac", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("cover_first", [False, True])
def test_excluded_paths_stay_excluded(min_prob_frac: float, cover_first: bool) -> None:
    pi = np.array([0.0, 5e-324, 0.5, -0.0, 0.5])
    sampler = PathSampler(pi, min_prob_frac=min_prob_frac, cover_first=cover_first)
    kept = [1, 2, 4]
    assert np.flatnonzero(sampler.probs).tolist() == kept
    drawn = {sampler(step) for step in range(300)}
    drawn |= {p for k in range(1, 60) for p in sampler.sample(k, k, stratified=True)}
    drawn |= {p for k in range(60) for p in sampler.sample(k, 3, replacement=False)}
    assert drawn == set(kept)
    with pytest.raises(ValueError, match=r"n_draws: 4 .* at most 3"):
        sampler.sample(0, 4, replacement=False)
    for path in (0, 3):
        with pytest.raises(ValueError, match=f"path_idx: {path} has probability 0, is never drawn"):
            sampler.weight(path)
    np.testing.assert_allclose([sampler.weight(p) for p in (2, 4)], 1 / (5 * sampler.probs[[2, 4]]), rtol=1e-15)
    if cover_first:
        assert sorted(sampler(step) for step in range(3)) == kept


@given(
    pi=distributions(min_paths=2, max_paths=12, smallest=1e-6),
    data=st.data(),
    frac=st.floats(0, 1),
    cover_first=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_paths_to_draw_from(
    pi: npt.NDArray[np.float64], data: st.DataObject, frac: float, cover_first: bool
) -> None:
    keep = data.draw(st.sets(st.integers(0, pi.size - 1), min_size=1))
    sampler = PathSampler(pi, paths=keep, min_prob_frac=frac, cover_first=cover_first, seed=3)
    kept = sorted(keep)
    expected = np.zeros(pi.size)
    expected[kept] = frac / len(kept) + (1 - frac) * pi[kept] / pi[kept].sum()
    np.testing.assert_allclose(sampler.probs, expected, rtol=1e-12, atol=0)
    assert sampler.n_paths == pi.size
    assert sampler.paths == tuple(kept)
    drawn = [sampler(step) for step in range(40)]
    drawn += [p for k in range(1, 20) for p in sampler.sample(k, k, stratified=True)]
    drawn += [p for k in range(20) for p in sampler.sample(k, len(kept), replacement=False)]
    assert set(drawn) == keep
    if cover_first:
        assert sorted(sampler(step) for step in range(len(kept))) == kept
    losses = np.arange(1.0, pi.size + 1)
    share = losses[kept].sum() / pi.size
    assert_unbiased(lambda p: sampler.weight(p) * losses[p], sampler.probs, share, rtol=1e-12)
    for other in set(range(pi.size)) - keep:
        with pytest.raises(ValueError, match=f"path_idx: {other} has probability 0, .* name it in paths"):
            sampler.weight(other)


def test_frequencies_of_paths_to_draw_from() -> None:
    sampler = PathSampler(n_paths=6, paths=[5, 1, 2], seed=8)
    assert_draws_follow(sampler, np.array([0, 1, 1, 0, 0, 1]) / 3, 20_000)


def test_kinds_of_paths_to_draw_from() -> None:
    expected = PathSampler([0.2, 0.0, 0.8], seed=1)
    unequal = [0.1, 0.5, 0.4]
    for paths in ([0, 2], (2, 0), {0, 2}, range(0, 3, 2), iter([0, 2]), np.array([0, 2]), torch.tensor([2, 0])):
        assert PathSampler(unequal, paths=paths, seed=1) == expected
    assert PathSampler(unequal, paths=[np.int64(0), torch.tensor(2)], seed=1) == expected
    assert PathSampler(unequal, paths=range(3)) == PathSampler(unequal)
    assert repr(expected).startswith("PathSampler(n_paths=3, 2 of them drawn, seed=1")
    # A path named to be drawn, of probability zero, is none.
    assert PathSampler([0.0, 0.5, 0.5], paths=[0, 1], min_prob_frac=0.5).paths == (1,)
    for copied in (copy.deepcopy(expected), pickle.loads(pickle.dumps(expected))):
        assert copied.paths == (0, 2)


def test_tiny_probabilities_to_draw_from() -> None:
    sampler = PathSampler([1.0, 5e-324, 1e-323], paths=[1, 2])
    np.testing.assert_allclose(sampler.probs, [0, 1 / 3, 2 / 3], rtol=1e-15)


def test_the_whole_floor_is_uniform_over_the_paths_that_are_left() -> None:
    assert PathSampler([0.9, 0.0, 0.1], min_prob_frac=1.0).probs.tolist() == [0.5, 0.0, 0.5]
    assert PathSampler([0.0, 1.0], min_prob_frac=0.5).probs.tolist() == [0.0, 1.0]
    assert PathSampler(n_paths=4, min_prob_frac=0.3).probs.tolist() == [0.25] * 4


@pytest.mark.parametrize(("u", "expected"), [(0.0, 1), (1 - 2**-53, 3)])
def test_extreme_uniform_numbers_avoid_paths_of_probability_zero(
    monkeypatch: pytest.MonkeyPatch, u: float, expected: int
) -> None:
    sampler = PathSampler([0.0, 0.5, 0.0, 0.5, 0.0])
    monkeypatch.setattr(sampler, "_uniforms", lambda step, count: np.full(count, u))
    assert sampler(0) == expected
    for n_draws in (2, 3, 10):
        for stratified in (False, True):
            assert set(sampler.sample(0, n_draws, stratified=stratified)) <= {1, 3}
    assert set(sampler.sample(0, 2, replacement=False)) == {1, 3}


def test_cover_first_visits_every_possible_path_once() -> None:
    sampler = PathSampler(PI, seed=2, cover_first=True)
    assert sorted(sampler(step) for step in range(4)) == [0, 2, 3, 4]
    assert sampler(4) == PathSampler(PI, seed=2)(4)
    orders = {tuple(PathSampler(PI, seed=s, cover_first=True)(k) for k in range(4)) for s in range(50)}
    assert len(orders) > 15
    by_three = [sampler.sample(step, 3) for step in range(2)]
    assert {p for draws in by_three for p in draws} == {0, 2, 3, 4}
    assert all(len(set(draws)) == 3 for draws in by_three)


def test_weight_makes_the_estimate_unbiased() -> None:
    for pi, share in (([0.05, 0.05, 0.35, 0.25, 0.3], LOSSES.sum()), (PI, LOSSES[PI > 0].sum())):
        sampler = PathSampler(pi, min_prob_frac=0.1)
        assert_unbiased(lambda p, s=sampler: s.weight(p) * LOSSES[p], sampler.probs, share / 5, rtol=1e-14)
    assert PathSampler(n_paths=7).weight(torch.tensor(3)) == pytest.approx(1.0)


def test_copies_are_equal() -> None:
    sampler = PathSampler(PI, seed=3, min_prob_frac=0.2, cover_first=True)
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert other == sampler
        assert hash(other) == hash(sampler)
        assert [other(k) for k in range(20)] == [sampler(k) for k in range(20)]
    assert sampler != PathSampler(PI, seed=4, min_prob_frac=0.2, cover_first=True)
    assert sampler != PathSampler(PI, seed=3, cover_first=True)
    assert sampler != "sampler"
    assert "n_paths=5" in repr(sampler)
    assert (sampler.n_paths, sampler.seed) == (5, 3)


def test_probs_are_the_callers_own() -> None:
    sampler = PathSampler(PI, seed=3, min_prob_frac=0.2, cover_first=True)
    for each in (sampler, copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        draws, probs = [each(k) for k in range(50)], each.probs
        assert probs.flags.writeable
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pi = torch.as_tensor(each.probs)
        assert pi.tolist() == probs.tolist()
        pi.zero_()
        each.probs[:] = 0.2
        each.probs.sort()
        assert each.probs.tolist() == probs.tolist()
        assert [each(k) for k in range(50)] == draws
        assert each.weight(0) == sampler.weight(0)
        assert each == sampler


def test_input_types() -> None:
    expected = [PathSampler(PI)(k) for k in range(10)]
    for probs in (PI.tolist(), torch.tensor(PI), torch.tensor(PI, dtype=torch.float32, requires_grad=True)):
        assert [PathSampler(probs)(k) for k in range(10)] == expected
    sampler = PathSampler(PI)
    for step in (np.int64(6), np.uint8(6), torch.tensor(6), torch.tensor(6, dtype=torch.int32)):
        assert sampler(step) == expected[6]
        assert type(sampler(step)) is int
    own = PI.copy()
    sampler = PathSampler(own)
    own[:] = 0
    np.testing.assert_array_equal(sampler.probs, PI)


class Family:
    """A family of losses that knows how many there are."""

    n_paths = 63

    def __repr__(self):
        return "very long " * 1000


MANY = tuple(Family() for _ in range(63))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PathSampler(), ValueError, "probabilities .* or n_paths"),
        (lambda: PathSampler([]), ValueError, r"shape \(0,\); expected \(P,\), at least one path"),
        (lambda: PathSampler(np.full((1, 2), 0.5)), ValueError, r"Invalid probs: shape \(1, 2\)"),
        (lambda: PathSampler([0.5, float("nan")]), ValueError, "entry 1 is nan"),
        (lambda: PathSampler([1.5, -0.5]), ValueError, "entry 1 is -0.5"),
        (lambda: PathSampler([0.5, 0.6]), ValueError, "sum 1.1; expected 1 .* normalise"),
        (lambda: PathSampler([0.0, 0.0]), ValueError, "sum 0; expected 1 .* normalise"),
        (lambda: PathSampler(PI, n_paths=4), ValueError, "5 entries; expected .* n_paths=4"),
        (lambda: PathSampler(n_paths=0), ValueError, "Invalid n_paths: 0; expected at least 1"),
        (lambda: PathSampler(n_paths=2.0), TypeError, "Invalid n_paths: .*; expected an integer"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=2, seed=-1), ValueError, "Invalid seed: -1"),
        (lambda: PathSampler(n_paths=2, seed=2**64), ValueError, "Invalid seed"),
        (lambda: PathSampler(n_paths=2, seed="a"), TypeError, "Invalid seed: .*; expected an integer"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=2, min_prob_frac=1.1), ValueError, ": 1.1; expected a number in"),
        (lambda: PathSampler(n_paths=2, min_prob_frac=float("nan")), ValueError, ": nan; expected a number in"),
        (lambda: PathSampler(paths=[1]), ValueError, "probabilities .* or n_paths"),
        (lambda: PathSampler(n_paths=4, paths=[]), ValueError, "none; expected at least one id; leave it out"),
        (lambda: PathSampler(n_paths=4, paths=[0, 4]), IndexError, r"Invalid paths: 4; expected ids in \[0, 4\)"),
        (lambda: PathSampler(n_paths=4, paths=[-1]), IndexError, "Invalid paths: -1"),
        (lambda: PathSampler(n_paths=4, paths=[2, 1, 2]), ValueError, "2 twice; .* pass a set"),
        (lambda: PathSampler(n_paths=4, paths=2), TypeError, r"a int; expected .*, such as \[0, 1\]"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=4, paths="12"), TypeError, "a str; expected"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=4, paths=[1.0]), TypeError, "a float among them; .* take ids"),  # type: ignore[list-item]
        (lambda: PathSampler(n_paths=2, paths=[True, False]), TypeError, "a bool among them"),
        (lambda: PathSampler(n_paths=4, paths=MANY), TypeError, "a Family among them; .* take ids"),  # type: ignore[arg-type]
        (
            lambda: PathSampler(n_paths=4, paths=((0, 1), (2,))),  # type: ignore[arg-type]
            TypeError,
            r"tuple among them.* n_paths=len\(bundles\)",
        ),
        (
            lambda: PathSampler(n_paths=2, paths=np.array([True, False])),
            TypeError,
            "of bool; .* give the ids",
        ),
        (lambda: PathSampler(n_paths=4, paths=np.array([[0, 1]])), TypeError, r"ndarray of shape \(1, 2\)"),
        (lambda: PathSampler(n_paths=4, paths=torch.tensor(1)), TypeError, r"Tensor of shape \(\)"),
        (lambda: PathSampler(n_paths=4, paths=torch.tensor([1.0])), TypeError, "a float among them"),
        (lambda: PathSampler([0, 0, 1.0], paths=[0, 1]), ValueError, "0 for each of the 2 paths; .* name others"),
        (lambda: PathSampler(PI)(-1), ValueError, "Invalid step: -1"),
        (lambda: PathSampler(PI)(1.0), TypeError, "Invalid step: 1.0 of type float; expected an integer"),  # type: ignore[arg-type]
        (lambda: PathSampler(PI)(True), TypeError, "Invalid step: .*; expected an integer"),
        (lambda: PathSampler(PI)(torch.tensor(1.0)), TypeError, "Invalid step: .*; expected an integer"),
        (lambda: PathSampler(PI)(torch.tensor([1])), TypeError, "0-dim integer tensor"),
        (lambda: PathSampler(PI).sample(0, 0), ValueError, "Invalid n_draws: 0"),
        (lambda: PathSampler(PI).sample(0, 5, replacement=False), ValueError, "n_draws: 5 .* at most 4"),
        (
            lambda: PathSampler(PI).sample(0, 3, replacement=False, stratified=True),
            ValueError,
            "of 0.4; .* 0.333333",
        ),
        (lambda: PathSampler(PI).weight(5), IndexError, r": 5; expected an id in \[0, 5\)"),
        (lambda: PathSampler(PI).weight(-1), IndexError, ": -1; expected an id"),
        (lambda: PathSampler(PI).weight(1), ValueError, "path_idx: 1 has probability 0, .* a probability above 0"),
        (lambda: PathSampler(PI).weight([0, 2]), TypeError, "a list; .*, one path; .* call it for each"),  # type: ignore[arg-type]
        (lambda: PathSampler(PI).weight(np.arange(2)), TypeError, "a ndarray; expected .* one path"),  # type: ignore[arg-type]
        (lambda: PathSampler(PI).sample(4), TypeError, r"n_draws: missing; expected sample\(step, n_draws\)"),
        (lambda: PathSampler(), ValueError, r"PathSampler\(n_paths=\.\.\.\) draws uniformly"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("number", [99, 99.0, np.int64(99), np.array(99), torch.tensor(99)])
def test_a_number_of_paths_in_place_of_probabilities(number: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(\); .*; for 99 paths: PathSampler\(n_paths=99\)$"):
        PathSampler(number)


@pytest.mark.parametrize("number", [0.5, 0, -3, float("nan"), float("inf"), 1e300])
def test_a_number_that_counts_nothing(number: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(\); expected \(P,\), at least one path$"):
        PathSampler(number)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PathSampler(Family()), r"a Family; .*; give its number of paths, as in .*n_paths=jtfs\.n_paths"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=Family()), r"a Family; expected an integer; give its number of paths"),  # type: ignore[arg-type]
        (lambda: AdaptivePathSampler(Family()), r"a Family; expected an integer; give its number of paths"),  # type: ignore[arg-type]
        (lambda: PathSampler(MANY), "a tuple; .*; for as many paths as it has entries: n_paths=63"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=MANY), "a tuple of 63 entries; .* for as many paths .* n_paths=63"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=range(7)), "a range of 7 entries; .* n_paths=7"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=torch.ones(5)), "a Tensor of 5 entries; .* n_paths=5"),
        (lambda: AdaptivePathSampler(list(MANY)), "a list of 63 entries; .* n_paths=63"),  # type: ignore[arg-type]
    ],
)
def test_paths_in_place_of_their_number(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        call()
    assert len(str(caught.value)) < 250


def test_help_fits_a_screen() -> None:
    """Annotations of arrays, spelt out by help(), filled half of one."""
    for documented in (PathSampler, AdaptivePathSampler, assert_unbiased, assert_draws_follow):
        assert len(str(inspect.signature(documented))) < 450


@pytest.mark.parametrize("start", [0, 5, 2**40])
def test_steps_are_the_paths_of_each_step_from_the_start_on(start: int) -> None:
    sampler = PathSampler(n_paths=7, seed=3)
    found = list(itertools.islice(sampler.steps(start), 4))
    assert found == [(step, sampler(step)) for step in range(start, start + 4)]


def test_steps_of_a_bad_start() -> None:
    with pytest.raises(ValueError, match="start"):
        next(PathSampler(n_paths=7).steps(-1))
