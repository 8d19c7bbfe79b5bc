"""Hostile input to samplers, distributions, checkpoints and the testing kit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scrapl_optim.testing as kit
from scrapl_optim import (
    PathSampler,
    load_checkpoint,
    load_probs,
    probabilities,
    save_checkpoint,
    save_probs,
)
from scrapl_optim.experimental import AdaptivePathSampler
from tests.support.fuzz_helpers import HOSTILE, attempt, fuzz, hostile

NUMBERS = [0.0, 0.5, 1.0, 5e-324, 1e308, -1.0, math.nan, math.inf, "0.5", None, 10**400, 1j, torch.tensor(0.5)]
vectors = st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)
fixed = PathSampler([0.2, 0.8], seed=1)


@fuzz(250)
@given(
    st.one_of(hostile, vectors, st.just([0.25, 0.75])),
    st.dictionaries(
        st.sampled_from(["n_paths", "seed", "min_prob_frac", "cover_first", "paths"]), hostile, max_size=2
    ),
)
def test_samplers(probs: Any, options: dict[str, Any]) -> None:
    result = attempt(lambda: PathSampler(probs, **options))
    if isinstance(result, PathSampler):
        assert abs(math.fsum(result.probs) - 1) < 1e-9
        assert 0 <= result(7) < result.n_paths


@fuzz(150)
@given(hostile, hostile, hostile, hostile)
def test_draws(step: Any, n_draws: Any, replacement: Any, stratified: Any) -> None:
    attempt(lambda: fixed(step))
    attempt(lambda: fixed.weight(step))
    attempt(lambda: fixed.sample(step, 2))
    attempt(lambda: fixed.sample(0, n_draws))
    attempt(lambda: fixed.sample(0, 2, replacement=replacement, stratified=stratified))
    assert [fixed(i) for i in range(4)] == [PathSampler([0.2, 0.8], seed=1)(i) for i in range(4)]


def make_adaptive(options: dict[str, Any]) -> AdaptivePathSampler:
    return AdaptivePathSampler(**options)


@fuzz(150)
@given(
    st.dictionaries(
        st.sampled_from(["n_paths", "n_values", "rate", "min_prob_frac", "seed", "cover_first", "paths"]),
        hostile,
        max_size=2,
    )
)
def test_adaptive_samplers(options: dict[str, Any]) -> None:
    result = attempt(lambda: make_adaptive({"n_paths": 3} | options))
    assert isinstance(result, Exception) or 0 <= result(0) < result.n_paths


@fuzz(250)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["update", "path", "load", "means"]),
            st.one_of(hostile, vectors, st.floats(0, 1.7e308)),
        ),
        max_size=6,
    )
)
def test_updates_change_all_or_nothing(calls: list[tuple[str, Any]]) -> None:
    sampler = AdaptivePathSampler(2)
    for kind, value in calls:
        means, probs = sampler.state_dict()["means"].numpy(), sampler.probs
        call = {
            "update": lambda v=value: sampler.update(0, v),
            "path": lambda v=value: sampler.update(v, 1.0),
            "load": lambda v=value: sampler.load_state_dict(v),
            "means": lambda v=value: sampler.load_state_dict({"means": v}),
        }[kind]
        if isinstance(attempt(call), Exception):
            assert np.array_equal(sampler.state_dict()["means"].numpy(), means, equal_nan=True)
            assert np.array_equal(sampler.probs, probs)
        assert abs(math.fsum(sampler.probs) - 1) < 1e-9
        assert sampler.probs.min() >= 0.09


@pytest.mark.parametrize("values", [(1e308, 1.5e308), (1.7e308, 1.7e308), (5e-324, 5e-324)])
def test_updates_near_the_largest_number(values: tuple[float, float]) -> None:
    sampler = AdaptivePathSampler(2, min_prob_frac=0.5)
    sampler.update(1, values[0])
    sampler.update(0, values[1])
    share = 1 / (1 + values[0] / values[1])
    assert sampler.probs[0] == pytest.approx(0.25 + 0.5 * share)


@fuzz(150)
@given(st.one_of(hostile, st.lists(vectors, min_size=1, max_size=2)))
def test_probabilities(values: Any) -> None:
    curvature: Any = values
    if isinstance(curvature, list):
        numbers = [[v for v in row if isinstance(v, float)] for row in curvature if isinstance(row, list)]
        if numbers and len({len(row) for row in numbers}) == 1:
            curvature = torch.tensor(numbers, dtype=torch.float64)
    result = attempt(lambda: probabilities(curvature))  # type: ignore[arg-type]
    assert isinstance(result, Exception) or abs(float(result.sum()) - 1) < 1e-9


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_files_of_distributions(value: Any, tmp_path: Path) -> None:
    file = tmp_path / "pi.pt"
    assert isinstance(attempt(lambda: load_probs(file)), FileNotFoundError)
    attempt(lambda: save_probs(value, file))
    save_probs(torch.tensor([0.5, 0.5]), file)
    assert torch.equal(load_probs(file), torch.tensor([0.5, 0.5]).double())
    attempt(lambda: load_probs(file, value))
    if not isinstance(value, (str, bytes)):
        assert isinstance(attempt(lambda: load_probs(value)), TypeError)
        assert isinstance(attempt(lambda: save_probs(torch.ones(2), value)), TypeError)
    try:
        torch.save(value, tmp_path / "other.pt")
    except Exception:
        return
    attempt(lambda: load_probs(tmp_path / "other.pt"))


def test_folders_of_distributions(tmp_path: Path) -> None:
    assert isinstance(attempt(lambda: load_probs(tmp_path)), FileNotFoundError)
    torch.save(torch.ones(1, 2), tmp_path / "vals_999999999999.pt")
    assert isinstance(attempt(lambda: load_probs(tmp_path)), ValueError)
    (tmp_path / "vals_0.pt").write_bytes(b"nothing")
    assert isinstance(attempt(lambda: load_probs(tmp_path)), ValueError)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_checkpoints_of_anything(value: Any, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    save_checkpoint({"w": torch.ones(2)}, file)
    if isinstance(attempt(lambda: save_checkpoint(value, file)), Exception):
        assert torch.equal(load_checkpoint(file)["w"], torch.ones(2))
    save_checkpoint({"w": torch.ones(2)}, file)
    if value is not int and value is not len:
        attempt(lambda: load_checkpoint(file, value))
    foreign: Any = value
    if not isinstance(foreign, (str, bytes)):
        assert isinstance(attempt(lambda: load_checkpoint(foreign)), TypeError)
        assert isinstance(attempt(lambda: save_checkpoint(1, foreign)), TypeError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]


def test_checkpoints_damaged_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    state = {"w": torch.arange(8.0), "step": 3}
    save_checkpoint(state, file)
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    for i in range(200):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        file.write_bytes(damaged[: generator.integers(len(whole))] if i % 4 == 0 else damaged)
        result = attempt(lambda: load_checkpoint(file))
        if not isinstance(result, Exception):  # a bit that nothing reads
            assert torch.equal(result["w"], state["w"])
            assert result["step"] == 3
        else:
            assert isinstance(result, ValueError)
    nested: list[Any] = []
    for _ in range(10**5):
        nested = [nested]
    file.write_bytes(whole)
    assert isinstance(attempt(lambda: save_checkpoint(nested, file)), ValueError)
    assert torch.equal(load_checkpoint(file)["w"], state["w"])
    assert isinstance(attempt(lambda: load_checkpoint(tmp_path)), OSError)


def ignoring_verdicts(call: Any) -> Any:
    """What an assertion of the kit finds is its answer, not an error."""

    def judge() -> Any:
        try:
            return call()
        except AssertionError as verdict:
            return str(verdict)

    return judge


@fuzz(250)
@given(hostile, hostile, st.integers(0, 11))
def test_testing_kit(value: Any, other: Any, which: int) -> None:
    losses = kit.PathLosses(((0.0,), (1.0,)), ((1.0,), (2.0,)))
    half = [0.5, 0.5]
    calls = [
        lambda: kit.assert_unbiased(value, half, 1.0),
        lambda: kit.assert_unbiased(lambda p: value, half, other),
        lambda: kit.assert_unbiased(lambda p: 1.0, value, 1.0, rtol=other),
        lambda: kit.assert_unbiased(lambda p: 1.0, half, 1.0, atol=value),
        lambda: kit.assert_statistically_unbiased(lambda i: value, 1.0, 100, bounds=other),
        lambda: kit.assert_statistically_unbiased(lambda i: 1.0, value, 100, false_alarm=other),
        lambda: kit.assert_draws_follow(value, half, 10),
        lambda: kit.assert_draws_follow(lambda step: value, half, 10, false_alarm=other),
        lambda: kit.assert_draws_follow(lambda step: step % 2, value, 10, twin=other),
        lambda: kit.PathLosses(value, other),
        lambda: kit.distributions(value, 4, smallest=other),
        lambda: kit.path_losses(value, other),
    ]
    attempt(ignoring_verdicts(calls[which]))
    attempt(lambda: kit.path_sequences(value, max_size=other) if which == 11 else None)
    attempt(lambda: losses.gradient(torch.ones(1), value))
