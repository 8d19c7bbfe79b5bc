"""Alignment of path losses: closed forms, pairs by themselves, other distributions without new slopes."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_optim import Alignment, PathSampler, Progress, aligned_probs, measure_alignment

M, U, P = 40, 2, 3
# Path p measures the squared change along its row.
DIRECTIONS = torch.tensor([[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def noise(seeds: list[int]) -> Tensor:
    """One normal number for each seed, (B, 1)."""
    rows = [torch.randn(1, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(rows)


THETA, THETA_HAT = drawn(2, M, U)
ERRORS = THETA_HAT - THETA


def plain(theta: Tensor, seeds: list[int]) -> Tensor:
    return theta


def along(x: Tensor, y: Tensor, path_idx: int) -> Tensor:
    return ((x - y) @ DIRECTIONS[path_idx]).square()


def measured(**options: Any) -> Alignment:
    return measure_alignment(plain, along, THETA, THETA_HAT, P, **options)


def test_slopes_are_those_of_the_closed_form() -> None:
    # d (d . e)^2 / d theta_hat = 2 (d . e) d
    expected = 2 * torch.einsum("pu,mu,pv->mpv", DIRECTIONS, ERRORS, DIRECTIONS)
    torch.testing.assert_close(measured().slopes, expected)


def test_pairs_are_measured_by_themselves() -> None:
    def shaken(theta: Tensor, seeds: list[int]) -> Tensor:
        return theta.sin() + noise(seeds)

    together = measure_alignment(shaken, along, THETA, THETA_HAT, P, batch_size=M).slopes
    torch.testing.assert_close(
        measure_alignment(shaken, along, THETA, THETA_HAT, P, batch_size=1).slopes, together
    )
    few = measure_alignment(shaken, along, THETA[:7], THETA_HAT[:7], P, batch_size=3).slopes
    torch.testing.assert_close(few, together[:7])


def test_targets_and_renderings_have_random_numbers_of_their_own() -> None:
    heard: list[int] = []

    def synth(theta: Tensor, seeds: list[int]) -> Tensor:
        heard.extend(seeds)
        return theta

    def loss(xs: list[Tensor], y: Tensor, path_idx: int) -> Tensor:
        return along(xs[0], y, path_idx) + along(xs[1], y, path_idx)

    measure_alignment(synth, loss, THETA, THETA_HAT, P, renderings=2, check=False)
    assert len(set(heard)) == len(heard) == 3 * M
    assert all(0 <= seed < 2**63 for seed in heard)
    first, heard[:] = list(heard), []
    measure_alignment(synth, loss, THETA, THETA_HAT, P, renderings=2, check=False, seed=1)
    assert not set(first) & set(heard)


def test_other_weights_are_the_sum_measured_anew() -> None:
    alignment, probs = measured(), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    sizes = alignment.slopes.square().mean((0, 2)).sqrt()

    def summed(x: Tensor, y: Tensor, path_idx: int) -> Tensor:
        return sum((probs[p] / sizes[p] * along(x, y, p) for p in range(P)), torch.zeros(()))

    anew = measure_alignment(plain, summed, THETA, THETA_HAT, 1)
    torch.testing.assert_close(alignment.updates(probs), anew.slopes[:, 0])
    torch.testing.assert_close(alignment.correlation(probs), anew.correlation())
    torch.testing.assert_close(alignment.heard(probs), anew.heard())
    plain_sum = torch.einsum("mpu,p->mu", alignment.slopes, probs)
    torch.testing.assert_close(alignment.updates(probs, equal_votes=False), plain_sum)


@pytest.mark.parametrize("power", [-250, 0, 100])
def test_votes_do_not_depend_on_the_scale_of_a_path(power: int) -> None:
    scaled = measured().slopes.clone()
    scaled[:, 1] *= 10.0**power
    other = Alignment(THETA, THETA_HAT, scaled)
    torch.testing.assert_close(other.updates(), measured().updates())
    torch.testing.assert_close(other.of_paths(), measured().of_paths())


def test_a_silent_path_has_no_vote() -> None:
    slopes = torch.cat([ERRORS.unsqueeze(1), torch.zeros(M, 1, U)], 1)
    alignment = Alignment(THETA, THETA_HAT, slopes)
    torch.testing.assert_close(alignment.correlation(), torch.ones(U, dtype=torch.float64))
    assert alignment.score([0.0, 1.0]) == 0.0
    assert alignment.of_paths()[1].tolist() == [0.0] * U


def test_correlation_falls_with_noise_as_it_must() -> None:
    # corr(e, e + sigma n) = sd(e) / sqrt(var(e) + sigma^2), var(e) = 1 / 6; the estimate's error is 1 / sqrt(M).
    pairs, sigma = 20_000, 0.7
    theta, theta_hat = drawn(2, pairs, 1, seed=1)
    shaken = theta_hat - theta + sigma * torch.randn(pairs, 1, generator=torch.Generator().manual_seed(2))
    alignment = Alignment(theta, theta_hat, shaken.unsqueeze(1))
    expected = math.sqrt(1 / 6 / (1 / 6 + sigma**2))
    assert alignment.score() == pytest.approx(expected, abs=4 / math.sqrt(pairs))


def test_a_pull_to_the_middle_is_not_heard() -> None:
    # corr(h - 1/2, h - t) = 1 / sqrt(2) for independent h and t.
    theta, theta_hat = drawn(2, 5000, U, seed=3)
    pull = Alignment(theta, theta_hat, (theta_hat - 0.5).unsqueeze(1))
    assert pull.score() == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert pull.heard().tolist() == [0.0] * U
    both = Alignment(theta, theta_hat, (theta_hat - theta + 3 * (theta_hat - 0.5) ** 2).unsqueeze(1))
    torch.testing.assert_close(both.heard(), torch.ones(U, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_what_is_heard_does_not_depend_on_the_unit_of_controls(scale: float, offset: float) -> None:
    slopes = torch.randn(M, P, U, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theta, theta_hat = (scale * (controls + offset) for controls in (THETA, THETA_HAT))
    torch.testing.assert_close(
        Alignment(theta, theta_hat, slopes).heard(), Alignment(THETA, THETA_HAT, slopes).heard(), rtol=1e-6, atol=0
    )


def test_nan_of_a_synth_is_said_to_be_one() -> None:
    with pytest.raises(FloatingPointError, match="Invalid slopes: those of path 0"):
        measure_alignment(lambda theta, seeds: theta * math.nan, along, THETA, THETA_HAT, P)


def test_one_rendering_is_pulled_to_low_variance_and_two_are_not() -> None:
    # x = theta + (1 - theta) n: E (x - y)^2 has (1 - theta)^2 besides, of slope -2 (1 - theta).
    theta, theta_hat = drawn(2, 4000, 1, seed=4)

    def synth(theta: Tensor, seeds: list[int]) -> Tensor:
        return theta + (1 - theta) * noise(seeds)

    def square(x: Tensor, y: Tensor, path_idx: int) -> Tensor:
        return (x - y).square()[:, 0]

    def product(xs: list[Tensor], y: Tensor, path_idx: int) -> Tensor:
        return ((xs[0] - y) * (xs[1] - y))[:, 0]

    one = measure_alignment(synth, square, theta, theta_hat, 1, batch_size=4000, check=False)
    two = measure_alignment(synth, product, theta, theta_hat, 1, batch_size=4000, check=False, renderings=2)
    error = 2 * (theta_hat - theta)
    for alignment, expected in ((one, error - 2 * (1 - theta_hat)), (two, error)):
        rest = alignment.slopes[:, 0] - expected
        assert abs(rest.mean()) < 5 * rest.std() / math.sqrt(len(rest))
    assert (one.slopes[:, 0] - error).mean() < -0.5


def test_interval_and_gain_resample_pairs() -> None:
    theta, theta_hat = drawn(2, 200, 1, seed=5)
    errors = theta_hat - theta
    shaken = errors + 0.4 * torch.randn(200, 1, generator=torch.Generator().manual_seed(6))
    good, poor = (Alignment(theta, theta_hat, slopes.unsqueeze(1)) for slopes in (errors, shaken))
    low, high = poor.interval().flatten().tolist()
    # Fisher: the standard error of arctanh(r) is 1 / sqrt(M - 3).
    middle, width = math.atanh(poor.score()), 1.96 / math.sqrt(197)
    assert low == pytest.approx(math.tanh(middle - width), abs=0.03)
    assert high == pytest.approx(math.tanh(middle + width), abs=0.03)
    assert torch.equal(poor.interval(seed=3), poor.interval(seed=3))
    narrow = poor.interval(level=0.5).flatten()
    assert low < narrow[0] < narrow[1] < high
    gain, least, most = good.gain(poor)
    assert gain == pytest.approx(good.score() - poor.score())
    assert 0 < least < gain < most
    assert poor.gain(poor) == (0.0, 0.0, 0.0)


def test_where_takes_some_of_the_pairs() -> None:
    alignment = measured()
    near = alignment.errors.abs().amax(1) < 0.5
    part = alignment.where(near)
    assert 3 < len(part.theta) < M
    assert torch.equal(part.slopes, alignment.slopes[near])
    assert torch.equal(part.errors, ERRORS[near])


def test_repr_names_each_control() -> None:
    lines = repr(measured()).splitlines()
    assert lines[0] == "alignment of 3 paths with 2 controls, from 40 pairs, uniform pi"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["control 0", "control 1"] or len(lines) == 3


def test_progress_counts_slopes() -> None:
    states: list[Progress] = []
    measured(batch_size=16, progress=states.append)
    assert [state.done for state in states] == list(range(1, 3 * P + 1))
    assert {(state.total, state.stage) for state in states} == {(3 * P, "slopes")}
    assert [state.path_idx for state in states[:P]] == list(range(P))


def noisy_paths(seed: int, n_pairs: int = 48) -> Alignment:
    """Ten paths that hear the error, each with noise of its own, and ten that share one large noise."""
    generator = torch.Generator().manual_seed(seed)
    theta, theta_hat = torch.rand(2, n_pairs, 2, generator=generator, dtype=torch.float64)
    errors = (theta_hat - theta).unsqueeze(1)
    hear = errors + 0.5 * torch.randn(n_pairs, 10, 2, generator=generator)
    shaken = 0.2 * errors + torch.randn(n_pairs, 1, 2, generator=generator)
    return Alignment(theta, theta_hat, torch.cat([hear, shaken.expand(-1, 10, -1)], 1))


def test_aligned_probs_leave_out_paths_that_share_a_noise() -> None:
    result = aligned_probs(noisy_paths(0))
    assert set(result.probs.tolist()) <= {0.0, 1 / result.n_paths}
    assert float(result.probs.sum()) == pytest.approx(1.0)
    assert result.probs[10:].sum() < 0.25
    # On other pairs than those it was found on.
    other = noisy_paths(1)
    assert other.score(result.probs) > other.score() + 0.1
    assert result.held_out.shape == (4, 20)
    assert torch.equal(aligned_probs(noisy_paths(0)).probs, result.probs)
    of_all = result.held_out.mean(0)[-1]
    assert re.fullmatch(
        rf"aligned probs: {result.n_paths} of 20 paths; .* with all paths {of_all:.2f}", str(result)
    )
    PathSampler(result.probs)


def test_all_held_out_paths_are_all_paths() -> None:
    # The last column is the score of uniform draws on the pairs of each fold, whatever was searched.
    alignment, result = noisy_paths(0), aligned_probs(noisy_paths(0), folds=2, seed=3)
    order = np.random.default_rng(3).permutation(48)
    for fold in range(2):
        inside = torch.from_numpy(np.sort(order[fold::2]))
        # Votes are those of all pairs.
        votes = alignment.votes().mean(1)[inside]
        expected = Alignment(alignment.theta[inside], alignment.theta_hat[inside], votes.unsqueeze(1)).score()
        assert float(result.held_out[fold, -1]) == pytest.approx(expected)


def test_as_many_paths_as_a_standard_error_allows() -> None:
    sizes = []
    for seed in range(4):
        found = aligned_probs(noisy_paths(seed))
        scores = found.held_out.mean(0)
        margin = found.held_out[:, scores.argmax()].std() / math.sqrt(len(found.held_out))
        assert found.n_paths == max(k + 1 for k, score in enumerate(scores) if score >= scores.max() - margin)
        sizes.append((found.n_paths, int(scores.argmax()) + 1))
    assert any(size > best for size, best in sizes)


def test_aligned_probs_stay_uniform_where_nothing_is_gained() -> None:
    alike = Alignment(THETA, THETA_HAT, ERRORS.unsqueeze(1).expand(-1, 6, -1))
    torch.testing.assert_close(aligned_probs(alike).probs, torch.full((6,), 1 / 6, dtype=torch.float64))


@pytest.mark.parametrize("wrong", [3, None, [], [3], "all"])
def test_aligned_probs_take_alignments(wrong: Any) -> None:
    with pytest.raises(TypeError, match="Invalid measured"):
        aligned_probs(wrong)


def test_aligned_probs_serve_the_worst_of_several_measurements() -> None:
    deaf = drawn(M, U, seed=7) - 0.5
    first = Alignment(THETA, THETA_HAT, torch.stack([ERRORS, deaf, ERRORS], 1))
    second = Alignment(THETA, THETA_HAT, torch.stack([deaf, ERRORS, ERRORS], 1))
    assert aligned_probs([first, second]).probs.argmax() == 2


def coupled(x: Tensor, y: Tensor, path_idx: int) -> Tensor:
    return (x - x.mean(0) - y)[:, 0].square()


def mean(x: Tensor, y: Tensor, path_idx: int) -> Tensor:
    return along(x, y, path_idx).mean()


def test_what_is_no_loss_of_a_pair_is_refused() -> None:
    with pytest.raises(RuntimeError, match="each of a pair by itself"):
        measure_alignment(plain, coupled, THETA, THETA_HAT, P)
    with pytest.raises(RuntimeError, match="determined by its seeds"):
        measure_alignment(lambda t, seeds: t + torch.randn(len(t), 1), along, THETA, THETA_HAT, P)
    with pytest.raises(ValueError, match="a loss for each pair"):
        measure_alignment(plain, mean, THETA, THETA_HAT, P)
    with pytest.raises(RuntimeError, match="no gradient"):
        measure_alignment(lambda t, seeds: t.detach(), along, THETA, THETA_HAT, P)
    with pytest.raises(FloatingPointError, match="path 1"):
        measure_alignment(
            lambda t, seeds: t,
            lambda x, y, p: (x - x.detach() * p).sum(1).sqrt() if p == 1 else along(x, y, p),
            THETA, THETA_HAT, P,
        )  # fmt: skip
    one_by_one = measure_alignment(plain, mean, THETA, THETA_HAT, P, batch_size=1)
    torch.testing.assert_close(one_by_one.slopes, measured().slopes)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"synth": None}, TypeError),
        ({"path_loss": 1}, TypeError),
        ({"theta": THETA.tolist()}, TypeError),
        ({"theta": THETA.long()}, TypeError),
        ({"theta_hat": THETA_HAT[:5]}, ValueError),
        ({"theta": THETA[:2], "theta_hat": THETA_HAT[:2]}, ValueError),
        ({"theta": THETA * math.nan}, ValueError),
        ({"n_paths": 0}, ValueError),
        ({"n_paths": [1, 2]}, TypeError),
        ({"renderings": 0}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"check": 1}, TypeError),
    ],
)
def test_arguments_are_checked(change: dict[str, Any], error: type[Exception]) -> None:
    arguments = {"synth": plain, "path_loss": along, "theta": THETA, "theta_hat": THETA_HAT, "n_paths": P}
    with pytest.raises(error, match="Invalid"):
        measure_alignment(**(arguments | change))


def test_options_of_scores_are_checked() -> None:
    alignment = measured()
    elsewhere = Alignment(THETA_HAT, THETA, alignment.slopes)
    for call, error in (
        (lambda: alignment.score([0.5, 0.5]), ValueError),
        (lambda: alignment.interval(level=1.0), ValueError),
        (lambda: alignment.interval(n_resamples=0), ValueError),
        (lambda: alignment.gain(elsewhere), ValueError),
        (lambda: alignment.gain(alignment.slopes), TypeError),  # type: ignore[arg-type]
        (lambda: Alignment(THETA, THETA_HAT, alignment.slopes[0]), ValueError),
        (lambda: Alignment(THETA, THETA_HAT, alignment.slopes * math.inf), ValueError),
        (lambda: aligned_probs([]), TypeError),
        (lambda: aligned_probs(alignment, folds=1), ValueError),
        (lambda: aligned_probs(alignment, folds=20), ValueError),
        (lambda: aligned_probs([alignment, noisy_paths(0)]), ValueError),
    ):
        with pytest.raises(error, match="Invalid"):
            call()
