"""The testing kit itself: its assertions pass on what is right, fail on what is wrong, and say why."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathSampler
from scrapl_optim.testing import (
    PathLosses,
    assert_draws_follow,
    assert_matches_twin,
    assert_unbiased,
    distributions,
    path_losses,
    path_sequences,
    seeds,
    steps,
)

modest = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
LOSSES = PathLosses(centers=((0, 1), (2, 0), (1, 1)), curvatures=((1, 2), (3, 1), (1, 1)))
START = torch.tensor([1.0, -1.0], dtype=torch.float64)


def test_the_package_works_without_hypothesis_and_the_kit_says_what_to_install() -> None:
    code = (
        "import sys, scrapl_optim\n"
        "assert 'hypothesis' not in sys.modules\n"
        "sys.modules['hypothesis'] = None\n"
        "try:\n    import scrapl_optim.testing\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'scrapl-jtfs[testing]'" in done.stdout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64, torch.bfloat16])
def test_weighted_estimates_of_any_dtype_pass_and_unweighted_ones_fail(dtype: torch.dtype) -> None:
    gradients = torch.stack([LOSSES.gradient(START, p) for p in range(3)]).to(dtype)
    probs = torch.tensor([0.2, 0.3, 0.5])
    assert_unbiased(lambda p: gradients[p] / (3 * probs[p]), probs, gradients.mean(0))
    with pytest.raises(AssertionError, match="biased: the mean over paths is not the target in"):
        assert_unbiased(lambda p: gradients[p], probs, gradients.mean(0))


def test_estimates_may_be_lists_arrays_and_numbers() -> None:
    probs = [0.5, 0.5]
    assert_unbiased(lambda p: 2 * p, probs, 1)
    assert_unbiased(lambda p: [0.0, 2.0 * p], probs, [0.0, 1.0])
    assert_unbiased(lambda p: np.full((2, 2), p), probs, np.full((2, 2), 0.5))
    assert_unbiased(lambda p: [torch.tensor(p), np.ones(3)], probs, [0.5 * torch.ones(()), torch.ones(3)])
    assert_unbiased(lambda p: np.zeros((0, 2)), probs, np.zeros((0, 2)))


def test_paths_of_probability_zero_are_not_asked() -> None:
    assert_unbiased(lambda p: {0: 1.0, 2: 3.0}[p], [0.5, 0.0, 0.5], 2.0)


def test_the_message_names_the_coordinate_and_the_paths_that_contribute_most() -> None:
    estimates = [[np.zeros(2), np.array([[0.0, p]])] for p in range(8)]
    with pytest.raises(AssertionError) as raised:
        assert_unbiased(lambda p: estimates[p], np.full(8, 1 / 8), [np.zeros(2), np.array([[0.0, 4.0]])])
    message = str(raised.value)
    assert "1 of 4 coordinates" in message
    assert "tensor 1, coordinate (0, 1): expected 4, found 3.5, relative error 0.125" in message
    listed = [line.split(":")[0].strip() for line in message.splitlines() if line.startswith("    path")]
    assert listed == ["path 7", "path 6", "path 5", "path 4", "path 3"]
    assert message.endswith("and 3 more")


def test_tolerances() -> None:
    assert_unbiased(lambda p: 1.01, [1.0], 1.0, rtol=0.02)
    assert_unbiased(lambda p: 1.01, [1.0], 1.0, atol=0.02)
    with pytest.raises(AssertionError, match=r"allowed error 0\.00505"):
        assert_unbiased(lambda p: 1.01, [1.0], 1.0, rtol=0.005)
    # In proportion to what is summed: terms of 1e12 that cancel leave roundings of 1e-4.
    assert_unbiased(lambda p: (1e12, 1.0 - 1e12)[p], [0.5, 0.5], 0.5001, rtol=1e-12)


def test_what_is_not_finite_is_no_estimate() -> None:
    with pytest.raises(AssertionError, match=r"the estimate of path 1 is not finite: coordinate \(1,\)"):
        assert_unbiased(lambda p: [0.0, np.inf * p if p else 0.0], [0.5, 0.5], [0.0, 0.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: assert_unbiased(lambda p: [1.0, 2.0], [1.0], 1.0), ValueError, r"shapes \[\(2,\)\]; expected"),
        (lambda: assert_unbiased(lambda p: [None], [1.0], 1.0), TypeError, "in place of None put"),  # type: ignore
        (lambda: assert_unbiased(lambda p: [torch.ones(1), None], [1.0], 1.0), TypeError, "NoneType"),  # type: ignore
        (lambda: assert_unbiased(lambda p: 1.0, [0.5, 0.4], 1.0), ValueError, "sum 0.9; .* normalise"),
        (lambda: assert_unbiased(lambda p: 1.0, [1.5, -0.5], 1.0), ValueError, "numbers >= 0"),
        (lambda: assert_unbiased(lambda p: 1.0, [[1.0]], 1.0), ValueError, r"shape \(1, 1\)"),
        (lambda: assert_unbiased(lambda p: 1.0, [1.0], np.nan), ValueError, "expected finite numbers"),
        (lambda: assert_draws_follow(lambda k: 0, [1.0], 0), ValueError, "n_steps, first_step: 0, 0"),
        (
            lambda: assert_draws_follow(lambda k: 0, [1.0], 1, false_alarm=0.0),
            ValueError,
            "false_alarm: 0.0",
        ),
        (lambda: assert_draws_follow(lambda k: 0.5, [1.0], 9), TypeError, "expected an integer"),  # type: ignore
        (lambda: distributions(0, 2), ValueError, "min_paths, max_paths: 0, 2"),
        (lambda: distributions(1, 4, smallest=0.5), ValueError, "Invalid smallest: 0.5"),
        (lambda: path_losses(2, 1), ValueError, "min_paths, max_paths: 2, 1"),
        (lambda: path_losses(max_weights=1.5), TypeError, "Invalid max_weights: .*; expected an integer"),  # type: ignore
        (
            lambda: path_sequences(5, max_size=3, every_path=True),
            ValueError,
            "n_paths: 5, with max_size=3",
        ),
        (lambda: path_sequences(0), ValueError, "Invalid n_paths: 0"),
        (lambda: PathLosses(((0,), (1, 2)), ((1,), (1, 1))), ValueError, "P rows of W"),
        (lambda: PathLosses(((0,),), ((-1,),)), ValueError, "numbers >= 0"),
        (lambda: LOSSES.loss(START, 3), IndexError, r": 3; expected an id in \[0, 3\)"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@modest
@given(distributions(max_paths=4, smallest=0.0), seeds(), st.integers(0, 2**40))
def test_right_samplers_pass(pi: Any, seed: int, first_step: int) -> None:
    sampler = PathSampler(pi, seed=seed)
    assert_draws_follow(sampler, pi, 200, first_step=first_step, twin=PathSampler(pi, seed=seed))


def test_samplers_that_are_wrong_fail() -> None:
    draws = itertools.count()
    with pytest.raises(
        AssertionError, match=r"step 49\d? drew path \d, and path \d when asked again|step \d+ drew"
    ):
        assert_draws_follow(lambda k: next(draws) % 7 % 2, [0.5, 0.5], 500)
    with pytest.raises(AssertionError, match="drew path 2, expected one of the 2 of probs"):
        assert_draws_follow(lambda k: 2, [0.5, 0.5], 10)
    with pytest.raises(AssertionError, match=r"path 1 came up 1 times in 10 steps,.*\s.*chance: never"):
        assert_draws_follow(lambda k: int(k == 3), [1.0, 0.0], 10)
    with pytest.raises(AssertionError, match=r"path [01] came up \d+ times in 100 .*\s.* once in 1e\+30"):
        assert_draws_follow(lambda k: 0, [0.5, 0.5], 100)
    with pytest.raises(AssertionError, match="from the twin"):
        assert_draws_follow(PathSampler(n_paths=2), [0.5, 0.5], 100, twin=PathSampler(n_paths=2, seed=1))


def fails(check: Callable[[], Any]) -> bool:
    try:
        check()
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("pi", [[0.5, 0.5], [1e-4, 0.3, 0.6999]])
def test_right_samplers_fail_no_more_often_than_stated(pi: list[float]) -> None:
    """Over seeds, at a rate of one in ten: the tails are exact, Bonferroni's correction errs on the safe side."""
    samplers = [PathSampler(pi, seed=seed) for seed in range(300)]
    alarms = sum(fails(lambda s=s: assert_draws_follow(s, pi, 40, false_alarm=0.1)) for s in samplers)
    assert alarms <= 300 * 0.1 + 4 * (300 * 0.1 * 0.9) ** 0.5


def test_the_power_that_is_stated() -> None:
    """A share that is off by six standard deviations, with 300 paths."""
    n, P = 20_000, 300
    wrong = np.full(P, 1 / P)
    wrong[:2] += 7.0 * np.sqrt(1 / P / n) * np.array([1, -1])
    draws = np.random.default_rng(0).choice(P, size=n, p=wrong)
    with pytest.raises(AssertionError, match=r"path [01] came up"):
        assert_draws_follow(lambda k: int(draws[k]), np.full(P, 1 / P), n)


class Descent:
    """Gradient descent, as a twin."""

    def __init__(self, w: Any, lr: float = 0.1) -> None:
        self.w, self.lr = w, lr

    def step(self, p: int, gradient: Any) -> None:
        self.w = self.w - self.lr * gradient


def plain(optimizer: Any, path: int) -> None:
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_optimizer_matches_its_twin(dtype: torch.dtype) -> None:
    seen: list[int] = []

    def step(optimizer: Any, path: int) -> None:
        seen.append(path)
        optimizer.step()

    rtol = 1e-6 if dtype == torch.float32 else 1e-12
    paths = [0, 2, 1, 1]
    assert_matches_twin(
        lambda w: torch.optim.SGD(w, lr=0.1),
        Descent,
        LOSSES,
        paths,
        step=step,
        start=START,
        dtype=dtype,
        rtol=rtol,
    )
    assert seen == paths
    given_gradients = [np.ones((2, 2)) * k for k in range(4)]
    assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Descent, given_gradients, paths, step=plain)
    assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Descent, [], [], step=plain)


def test_a_twin_of_several_parameters() -> None:
    """The optimizer sees the shapes, in the order of the entries; the twin and the losses see one vector."""
    seen: list[list[tuple[int, ...]]] = []
    gradients = [np.arange(7.0).reshape(1, 7), np.ones((1, 7))]

    def make(params: list[Parameter]) -> torch.optim.Optimizer:
        seen.append([tuple(p.shape) for p in params])
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.2}], lr=0.1)

    class TwoRates(Descent):
        def step(self, p: int, gradient: Any) -> None:
            self.w = self.w - np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2]) * gradient

    shapes = [(2, 2), (), (0, 3), (1, 2)]
    assert_matches_twin(make, TwoRates, gradients, [0, 1], step=plain, shapes=shapes, rtol=1e-12)
    assert_matches_twin(
        make, TwoRates, PathLosses(((1.0,) * 7,), ((2.0,) * 7,)), [0, 0], step=plain, shapes=shapes
    )
    assert seen == [shapes, shapes]
    with pytest.raises(AssertionError, match=r"at step 1 of 2.*\n  weight \(0, 6\): expected 0.4, found -0.2"):
        assert_matches_twin(make, Descent, gradients, [0, 1], step=plain, shapes=[(4,), (1,), (2,)])
    for wrong in ([(2, 2), (2,)], [], [(8,)]):
        with pytest.raises(ValueError, match=r"Invalid shapes: .*expected as many as w has, 7"):
            assert_matches_twin(make, Descent, gradients, [0, 1], step=plain, shapes=wrong)


def test_the_first_step_that_differs_is_reported() -> None:
    class Late(Descent):
        def step(self, p: int, gradient: Any) -> None:
            self.lr = 0.2 if p == 1 else 0.1
            super().step(p, gradient)

    with pytest.raises(AssertionError) as raised:
        assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Late, LOSSES, [0, 2, 1, 1], step=plain)
    message = str(raised.value)
    assert "at step 3 of 4, path 1, after paths [0, 2]" in message
    assert "expected" in message
    assert "found" in message
    assert "gradient" in message
    with pytest.raises(AssertionError, match="found nan"):
        assert_matches_twin(
            lambda w: torch.optim.SGD(w, lr=0.1), Descent, [[np.nan]], [0], step=plain, start=[1.0]
        )
    with pytest.raises(ValueError, match="1 gradients for 2 paths"):
        assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Descent, [[1.0]], [0, 0], step=plain)
    with pytest.raises(ValueError, match=r"gradient of step 1: shape \(2,\)"):
        assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Descent, LOSSES, [0], step=plain, start=[1.0])
    with pytest.raises(TypeError, match="path_idx"):
        assert_matches_twin(lambda w: torch.optim.SGD(w, lr=0.1), Descent, LOSSES, [0])


@modest
@given(path_losses(), seeds())
def test_gradients_in_closed_form_are_those_of_autograd(losses: PathLosses, seed: int) -> None:
    w = torch.from_numpy(np.random.default_rng(seed).standard_normal(losses.n_weights)).requires_grad_()
    for p in range(losses.n_paths):
        loss = losses.loss(w, p)
        assert loss.ndim == 0
        torch.testing.assert_close(losses.gradient(w, p), torch.autograd.grad(loss, w)[0])
    mean = sum(losses.loss(w, p) for p in range(losses.n_paths)) / losses.n_paths
    torch.testing.assert_close(losses.full_gradient(w), torch.autograd.grad(mean, w)[0])  # type: ignore[arg-type]
    assert eval(repr(losses)) == losses


@modest
@given(st.data(), st.integers(1, 5), st.integers(0, 4), st.sampled_from([0.0, 1e-12, 1e-3, 1 / 9]))
def test_distributions_are_what_was_asked_for(data: Any, least: int, more: int, smallest: float) -> None:
    pi = data.draw(distributions(least, least + more, smallest=smallest))
    assert pi.dtype == np.float64
    assert least <= len(pi) <= least + more
    assert abs(pi.sum() - 1) < 1e-14
    assert pi.min() >= smallest * (1 - 1e-12)


KINDS = {
    "uniform": lambda pi: np.ptp(pi) == 0,
    "nearly zero": lambda pi: 0 < pi.min() < 1e-10,
    "extreme ratios between": lambda pi: np.unique(np.round(np.log10(pi))).size > 3,
    "dominated": lambda pi: pi.max() > 1 - 1e-9,
}


@pytest.mark.parametrize("kind", KINDS)
def test_distributions_come_in_every_kind(kind: str) -> None:
    strategy = distributions(min_paths=4)
    assert len(find(strategy, KINDS[kind], settings=settings(modest, max_examples=300))) >= 4
    assert find(distributions(smallest=0.0), lambda pi: 0.0 in pi, settings=modest).tolist() in ([0, 1], [1, 0])


@modest
@given(st.data(), st.integers(1, 6), st.integers(0, 5), st.integers(6, 30), st.booleans())
def test_sequences_are_what_was_asked_for(
    data: Any, n_paths: int, min_size: int, max_size: int, every_path: bool
) -> None:
    sequence = data.draw(path_sequences(n_paths, min_size=min_size, max_size=max_size, every_path=every_path))
    assert min_size <= len(sequence) <= max_size
    assert set(sequence) <= set(range(n_paths))
    assert set(sequence) == set(range(n_paths)) or not every_path


def test_sequences_have_long_gaps_and_repeats() -> None:
    def gap(paths: list[int]) -> bool:
        visits = [k for k, p in enumerate(paths) if p == 0]
        return any(b - a > 20 for a, b in itertools.pairwise(visits))

    assert find(path_sequences(5), gap, settings=settings(modest, max_examples=1000))[0] == 0
    assert find(path_sequences(9), lambda paths: len(paths) > 1, settings=modest) == [0, 0]
    assert find(path_sequences(3), lambda paths: len(set(paths)) == 3, settings=modest) == [0, 1, 2]


def test_strategies_shrink_to_what_can_be_read() -> None:
    assert find(distributions(), lambda pi: True, settings=modest).tolist() == [1.0]
    assert find(distributions(), lambda pi: np.ptp(pi) > 0, settings=modest).tolist() == [1 / 3, 2 / 3]
    assert repr(find(path_losses(), lambda losses: losses.n_paths > 1, settings=modest)) == (
        "PathLosses(centers=((0,), (0,)), curvatures=((1,), (1,)))"
    )
    assert find(seeds(), lambda seed: True, settings=modest) == 0
    assert find(steps(), lambda step: step > 2**40, settings=modest) == 2**40 + 1


def test_a_wrong_estimator_shrinks_to_two_paths() -> None:
    """The one everyone writes: the gradient of the path drawn, as if all were drawn alike."""
    paired = path_losses().flatmap(lambda losses: st.tuples(st.just(losses), distributions(*[losses.n_paths] * 2)))

    @settings(modest, phases=[Phase.generate, Phase.shrink])
    @given(paired)
    def unweighted(case: tuple[PathLosses, Any]) -> None:
        losses, pi = case
        w = torch.ones(losses.n_weights, dtype=torch.float64)
        assert_unbiased(lambda p: losses.gradient(w, p), pi, losses.full_gradient(w))

    with pytest.raises(AssertionError, match="biased") as raised:
        unweighted()
    (note,) = [note for note in getattr(raised.value, "__notes__", []) if "unweighted(" in note]
    # Either mostly the first path or mostly the second: which it ends at hangs on the seed.
    assert re.search(r"array\(\[\d[^,]*, \d[^,]*\]\)", note)
    assert re.search(r"PathLosses\(centers=\(\(\d,\), \(\d,\)\), curvatures=\(\(\d,\), \(\d,\)\)\)", note)
