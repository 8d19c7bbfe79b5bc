"""PathSampler against counting, chi-square limits and a second process."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scrapl_optim import PathSampler

PI = np.array([0.05, 0.0, 0.4, 0.25, 0.3])
# Seeds are fixed, so each chi-square test passes or fails for good; over random seeds a right sampler
# would fail one test in a million.
FALSE_ALARM = 1e-6


def assert_frequencies(counts, expected):
    drawn = expected > 0
    assert np.all(counts[~drawn] == 0)
    statistic = np.sum((counts[drawn] - expected[drawn]) ** 2 / expected[drawn])
    assert statistic < stats.chi2.isf(FALSE_ALARM, drawn.sum() - 1)


@pytest.mark.parametrize("seed", [0, 1, 2**63])
@pytest.mark.parametrize("min_prob_frac", [0.0, 0.5])
def test_frequencies(seed, min_prob_frac):
    sampler = PathSampler(PI, seed=seed, min_prob_frac=min_prob_frac)
    n = 20_000
    expected = min_prob_frac / 5 + (1 - min_prob_frac) * PI
    assert_frequencies(np.bincount([sampler(i) for i in range(n)], minlength=5), n * expected)


def test_draws_of_one_step_and_neighbouring_steps_are_independent():
    sampler = PathSampler(n_paths=4, seed=3)
    pairs = np.zeros((2, 16))
    for step in range(10_000):
        a, b, c = *sampler.sample(2 * step, 2), sampler(2 * step + 1)
        pairs[0, 4 * a + b] += 1
        pairs[1, 4 * a + c] += 1
    for counts in pairs:
        assert_frequencies(counts, np.full(16, 10_000 / 16))


def test_known_paths():
    """A change of generator, of its key or of the inversion breaks resumed runs: these must stay."""
    philox = np.random.Philox(key=7, counter=[0, 12345, 0, 0]).random_raw(1)[0]
    expected = int(np.searchsorted(np.cumsum(PI), (int(philox) >> 11) / 2**53, side="right"))
    assert PathSampler(PI, seed=7)(12345) == expected
    assert [PathSampler(n_paths=315, seed=0)(k) for k in range(5)] == [3, 66, 207, 134, 137]


def test_same_path_in_another_process_and_any_order():
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


def test_seeds_and_global_generators_do_not_matter_to_each_other():
    sampler = PathSampler(n_paths=100, seed=1)
    first = sampler.sample(0, 20)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    assert sampler.sample(0, 20) == first
    assert PathSampler(n_paths=100, seed=2).sample(0, 20) != first


@given(step=st.integers(0, 2**64 - 1), seed=st.integers(0, 2**64 - 1), n_draws=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_draws_without_replacement_are_distinct(step, seed, n_draws):
    draws = PathSampler(PI, seed=seed).sample(step, n_draws, replacement=False)
    assert len(set(draws)) == n_draws
    assert 1 not in draws


def test_draws_without_replacement_have_the_law_of_successive_draws():
    pi = np.array([0.5, 0.3, 0.2])
    sampler = PathSampler(pi, seed=5)
    n = 12_000
    counts = np.zeros((3, 3))
    for step in range(n):
        counts[sampler.sample(step, 2, replacement=False)] += 1
    expected = n * np.array([[0 if i == j else pi[i] * pi[j] / (1 - pi[i]) for j in range(3)] for i in range(3)])
    assert_frequencies(counts.ravel(), expected.ravel())


@given(step=st.integers(0, 10**9), n_draws=st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_stratified_draws_come_up_floor_or_ceil_times(step, n_draws):
    counts = np.bincount(PathSampler(PI).sample(step, n_draws, stratified=True), minlength=5)
    assert counts.sum() == n_draws
    assert np.all(np.abs(counts - n_draws * PI) < 1 + 1e-9)


def test_stratified_draws_are_unbiased():
    n, n_draws = 6000, 2
    sampler = PathSampler(PI, seed=9)
    counts = np.bincount(
        [p for step in range(n) for p in sampler.sample(step, n_draws, stratified=True)], minlength=5
    )
    # Counts vary less than independent ones, so five of those standard deviations are ample.
    assert np.all(np.abs(counts - n * n_draws * PI) <= 5 * np.sqrt(n * n_draws * PI * (1 - PI)))
    distinct = sampler.sample(0, 2, stratified=True, replacement=False)
    assert distinct == sampler.sample(0, 2, stratified=True)
    assert len(set(distinct)) == 2


@given(step=st.integers(0, 2**64 - 1), cover_first=st.booleans())
@settings(max_examples=30, deadline=None)
def test_one_draw_is_the_same_in_every_mode(step, cover_first):
    sampler = PathSampler(PI, seed=4, cover_first=cover_first)
    for replacement in (True, False):
        assert sampler.sample(step, 1, replacement=replacement) == (sampler(step),)
    assert sampler.sample(step, 1, stratified=True) == (sampler(step),)


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=50).filter(lambda w: sum(w) > 1e-3),
    frac=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_floor(weights, frac):
    pi = np.array(weights) / np.sum(weights)
    probs = PathSampler(pi, min_prob_frac=frac).probs
    assert probs.dtype == np.float64
    assert abs(probs.sum() - 1) < 1e-12
    assert np.all(probs >= frac / len(pi))
    np.testing.assert_allclose(probs, frac / len(pi) + (1 - frac) * pi, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("u", "expected"), [(0.0, 1), (1 - 2**-53, 3)])
def test_extreme_uniform_numbers_avoid_paths_of_probability_zero(monkeypatch, u, expected):
    sampler = PathSampler([0.0, 0.5, 0.0, 0.5, 0.0])
    monkeypatch.setattr(sampler, "_uniforms", lambda step, count: np.full(count, u))
    assert sampler(0) == expected
    for n_draws in (2, 3, 10):
        for stratified in (False, True):
            assert set(sampler.sample(0, n_draws, stratified=stratified)) <= {1, 3}
    assert set(sampler.sample(0, 2, replacement=False)) == {1, 3}


def test_cover_first_visits_every_possible_path_once():
    sampler = PathSampler(PI, seed=2, cover_first=True)
    assert sorted(sampler(step) for step in range(4)) == [0, 2, 3, 4]
    assert sampler(4) == PathSampler(PI, seed=2)(4)
    orders = {tuple(PathSampler(PI, seed=s, cover_first=True)(k) for k in range(4)) for s in range(50)}
    assert len(orders) > 15
    by_three = [sampler.sample(step, 3) for step in range(2)]
    assert {p for draws in by_three for p in draws} == {0, 2, 3, 4}
    assert all(len(set(draws)) == 3 for draws in by_three)


def test_weight_makes_the_estimate_unbiased():
    sampler = PathSampler(PI, min_prob_frac=0.1)
    losses = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    expectation = sum(sampler.probs[p] * sampler.weight(p) * losses[p] for p in range(5))
    assert expectation == pytest.approx(losses.mean(), rel=1e-14)
    assert PathSampler(n_paths=7).weight(torch.tensor(3)) == pytest.approx(1.0)


def test_copies_are_equal_and_read_only():
    sampler = PathSampler(PI, seed=3, min_prob_frac=0.2, cover_first=True)
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert other == sampler
        assert hash(other) == hash(sampler)
        assert [other(k) for k in range(20)] == [sampler(k) for k in range(20)]
        with pytest.raises(ValueError, match="read-only"):
            other.probs[0] = 1.0
    assert sampler != PathSampler(PI, seed=4, min_prob_frac=0.2, cover_first=True)
    assert sampler != PathSampler(PI, seed=3, cover_first=True)
    assert sampler != "sampler"
    assert "n_paths=5" in repr(sampler)
    assert (sampler.n_paths, sampler.seed) == (5, 3)


def test_input_types():
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PathSampler(), ValueError, "probs or n_paths"),
        (lambda: PathSampler([]), ValueError, r"at least one path, got shape \(0,\)"),
        (lambda: PathSampler(np.full((1, 2), 0.5)), ValueError, r"got shape \(1, 2\)"),
        (lambda: PathSampler([0.5, float("nan")]), ValueError, r"probs\[1\] = nan"),
        (lambda: PathSampler([1.5, -0.5]), ValueError, r"probs\[1\] = -0.5"),
        (lambda: PathSampler([0.5, 0.6]), ValueError, "got 1.1; normalise"),
        (lambda: PathSampler([0.0, 0.0]), ValueError, "got 0; normalise"),
        (lambda: PathSampler(PI, n_paths=4), ValueError, "5 entries but n_paths is 4"),
        (lambda: PathSampler(n_paths=0), ValueError, "n_paths must be at least 1, got 0"),
        (lambda: PathSampler(n_paths=2.0), TypeError, "n_paths must be an integer"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=2, seed=-1), ValueError, "seed must be in .* got -1"),
        (lambda: PathSampler(n_paths=2, seed=2**64), ValueError, "seed must be in"),
        (lambda: PathSampler(n_paths=2, seed="a"), TypeError, "seed must be an integer"),  # type: ignore[arg-type]
        (lambda: PathSampler(n_paths=2, min_prob_frac=1.1), ValueError, "got 1.1"),
        (lambda: PathSampler(n_paths=2, min_prob_frac=float("nan")), ValueError, "got nan"),
        (lambda: PathSampler(PI)(-1), ValueError, "step must be in .* got -1"),
        (lambda: PathSampler(PI)(1.0), TypeError, "step must be an integer.* 1.0 of type float"),  # type: ignore[arg-type]
        (lambda: PathSampler(PI)(True), TypeError, "step must be an integer"),
        (lambda: PathSampler(PI)(torch.tensor(1.0)), TypeError, "step must be an integer"),
        (lambda: PathSampler(PI)(torch.tensor([1])), TypeError, "0-dim integer tensor"),
        (lambda: PathSampler(PI).sample(0, 0), ValueError, "n_draws must be at least 1, got 0"),
        (lambda: PathSampler(PI).sample(0, 5, replacement=False), ValueError, "n_draws=5 .* got 4"),
        (
            lambda: PathSampler(PI).sample(0, 3, replacement=False, stratified=True),
            ValueError,
            "0.333333, got 0.4",
        ),
        (lambda: PathSampler(PI).weight(5), IndexError, r"\[0, 5\), got 5"),
        (lambda: PathSampler(PI).weight(-1), IndexError, "got -1"),
        (lambda: PathSampler(PI).weight(1), ValueError, "path 1 has probability 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
