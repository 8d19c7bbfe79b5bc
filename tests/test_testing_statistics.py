"""The statistical assertion keeps the rates of false alarms and of misses that its docstring states."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scrapl_optim import PathSampler
from scrapl_optim.testing import assert_statistically_unbiased

RATE = 0.05


def verdicts(sample: Callable[[np.random.Generator], Any], target: Any, repeats: int, **kwargs: Any) -> list[int]:
    """How often the assertion fails, refuses and passes on independent samples of shape (n_draws, ...)."""
    counts = [0, 0, 0]
    for seed in range(repeats):
        draws = sample(np.random.default_rng(seed))
        try:
            assert_statistically_unbiased(draws.__getitem__, target, len(draws), false_alarm=RATE, **kwargs)
            counts[2] += 1
        except AssertionError:
            counts[0] += 1
        except ValueError:
            counts[1] += 1
    return counts


def most_alarms(repeats: int) -> float:
    """Exceeded by a test that keeps its rate once in ten thousand runs."""
    return float(stats.binom.isf(1e-4, repeats, RATE))


SYMMETRIC = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "heavy": lambda rng, shape: rng.standard_t(3, shape),
    "cauchy": lambda rng, shape: rng.standard_cauchy(shape),
}


@pytest.mark.parametrize("law", SYMMETRIC)
def test_symmetric_draws_keep_the_rate(law: str) -> None:
    alarms, refusals, _ = verdicts(lambda rng: 7 + SYMMETRIC[law](rng, (100, 2)), [7.0, 7.0], 400)
    assert alarms <= most_alarms(400)
    assert (refusals == 0) == (law == "signs")


def test_skewed_draws_that_no_one_dominates_keep_the_rate() -> None:
    alarms, refusals, _ = verdicts(lambda rng: rng.exponential(size=(500, 2)), [1.0, 1.0], 100)
    assert alarms <= most_alarms(100)
    assert refusals < 20


def test_bounded_draws_keep_the_rate_however_rare_large_ones_are() -> None:
    """A weight of 1000 once in a thousand draws: most samples of 200 have none, and a mean of 0, not 1."""

    def weights(rng: np.random.Generator) -> Any:
        return 1000.0 * (rng.random(200) < 1e-3)

    assert verdicts(weights, 1.0, 200, bounds=(0, 1000))[0] <= most_alarms(200)
    assert verdicts(weights, 1.0, 50)[0] > 25, "without bounds, this is what the docstring warns of"
    for law in (lambda rng: rng.random(100), lambda rng: (rng.random(100) < 0.02) / 0.04):
        assert verdicts(law, 0.5, 200, bounds=(0, 25))[0] <= most_alarms(200)


def two_point_alarms(n: int, prob: float, alpha: float) -> np.ndarray:
    """Whether the test without bounds fails when h = 0, ..., n of n draws are 1 / prob and the others 0."""
    h = np.arange(n + 1)
    x = math.sqrt(2 * math.log(2 / alpha))
    total = h / prob - n
    root = np.sqrt(h * (1 / prob - 1) ** 2 + (n - h))
    largest = np.maximum(np.where(h > 0, 1 / prob - 1, 0), np.where(h < n, 1.0, 0))
    return (np.abs(total) > x * root) & (largest * x**3 <= 10 * root)


def test_the_enumeration_is_of_the_test_that_is_run() -> None:
    n, prob = 60, 0.2
    for h, expected in enumerate(two_point_alarms(n, prob, RATE)):
        draws = np.where(np.arange(n) < h, 1 / prob, 0.0)
        try:
            assert_statistically_unbiased(draws.__getitem__, 1.0, n, false_alarm=RATE)
            fails = False
        except (AssertionError, ValueError) as error:
            fails = isinstance(error, AssertionError)
        assert fails == expected, h


@pytest.mark.parametrize("alpha", [0.2, 0.05, 1e-3, 1e-6, 1e-9, 1e-12])
def test_importance_weights_keep_the_rate_without_bounds(alpha: float) -> None:
    """No sampling: the probability of a false alarm, for every size and every probability that the test allows."""
    for n in (30, 300, 3000, 30_000):
        least = 2 * math.log(2 / alpha) / n
        for rare in np.geomspace(least, 0.5, 30) if least < 0.5 else ():
            for prob in (rare, 1 - rare):
                chances = stats.binom.pmf(np.arange(n + 1), n, prob)
                assert chances[two_point_alarms(n, prob, alpha)].sum() <= 0.7 * alpha


def test_the_power_that_is_stated() -> None:
    n = 400
    bias = (math.sqrt(2 * math.log(2 / RATE)) + 3) / math.sqrt(n)
    alarms, _, _ = verdicts(lambda rng: bias + rng.standard_normal(n), 0.0, 100)
    assert alarms >= 97
    assert verdicts(lambda rng: 1e-3 + 0 * rng.random(40), 0.0, 1)[0] == 1, "a constant bias needs no luck"


def test_with_bounds_a_bias_of_two_half_widths_is_found() -> None:
    draws = np.random.default_rng(0).random(500)
    half_width = assert_statistically_unbiased(draws.__getitem__, 0.5, 500, bounds=(0, 1), false_alarm=RATE)
    assert 0.02 < half_width < 0.1
    alarms, _, _ = verdicts(lambda rng: rng.random(500), 0.5 + 2.2 * half_width, 100, bounds=(0, 1))
    assert alarms >= 95


def test_stratified_draws_of_several_paths_are_unbiased() -> None:
    """A use: the weighted mean over the K paths of a step, which depend on each other."""
    pi, gradients = np.array([0.1, 0.2, 0.7]), np.array([[1.0, -2.0], [0.5, 3.0], [4.0, 0.0]])
    sampler = PathSampler(pi, seed=2)

    def mean_over_paths(step: int) -> Any:
        paths = sampler.sample(step, 3, stratified=True)
        return np.mean([sampler.weight(p) * gradients[p] for p in paths], axis=0)

    weighted = gradients / (3 * pi[:, None])
    bounds = (weighted.min(0), weighted.max(0))
    assert_statistically_unbiased(mean_over_paths, gradients.mean(0), 3000, bounds=bounds)
    with pytest.raises(AssertionError, match="biased: the mean of 3000 draws is not the target in 2 of 2"):
        assert_statistically_unbiased(mean_over_paths, gradients.mean(0) + 1.5, 3000, bounds=bounds)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_draws": 50}, ValueError, "n_draws: 50 cannot show any bias .* at least 246"),
        ({"n_draws": 20, "bounds": (0, 1)}, ValueError, "n_draws: 20 cannot show any bias .* at least 38"),
        ({"bounds": (1, 0)}, ValueError, "low <= high"),
        (
            {"bounds": (0.5, 1)},
            ValueError,
            r"Invalid draw \d+: 0.\d+ in the value; expected a number in the bounds",
        ),
        ({"false_alarm": 2.0}, ValueError, "Invalid false_alarm: 2.0"),
        ({"n_draws": 2.5}, TypeError, "Invalid n_draws: .*; expected an integer"),
        (
            {"draw": lambda i: float(i == 3)},
            ValueError,
            r"one of 1000 makes up .* give bounds=\(low, high\)",
        ),
        ({"draw": lambda i: math.nan if i == 7 else 0.5}, AssertionError, "draw 7 is not finite: the value"),
        (
            {"draw": lambda i: [0.5]},
            ValueError,
            r"draw\(0\): shapes \[\(1,\)\]; expected the target's \[\(\)\]",
        ),
    ],
)
def test_errors(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    draws = np.random.default_rng(0).random(1000)
    defaults: dict[str, Any] = {"draw": draws.__getitem__, "target": 0.5, "n_draws": 1000}
    if "false_alarm" not in kwargs and "one of" in message:
        defaults["target"] = 0.0
    with pytest.raises(error, match=message):
        assert_statistically_unbiased(**{**defaults, **kwargs})
