"""Algorithm 1 as the paper has it and the same in place: equal on any tensors and numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_optim._path_adam_saga.algorithm import (
    Chunk,
    Coefficients,
    algorithm_1,
    as_tensors,
    update_in_place,
)
from scrapl_optim._path_adam_saga.clocks import Visit, ema_weight
from scrapl_optim._path_adam_saga.formats import row_format
from scrapl_optim.reference import Algorithm1

SIZE = 6


def random_chunk(rng: Any, path_adam: bool, saga: bool, unit: float) -> Chunk:
    """Tensors as a row has them after some visits: a memory of size one, and a root in units of the row."""
    w, g, g_hat, total = (torch.from_numpy(rng.standard_normal(SIZE)) for _ in range(4))
    root = torch.from_numpy(rng.uniform(0.1, 10, SIZE)) * unit
    has_row = path_adam or saga
    return Chunk(
        w, g, [g_hat] if has_row else [], [root] if path_adam else [], row_format("float32", (SIZE,)),
        total if saga else None,
    )  # fmt: skip


def copied(chunk: Chunk) -> Chunk:
    update, rms = ([part.clone() for part in parts] for parts in (chunk.update, chunk.rms))
    total = None if chunk.saga_sum is None else chunk.saga_sum.clone()
    return Chunk(chunk.param.clone(), chunk.grad.clone(), update, rms, chunk.formats, total)


def tensors_of(chunk: Chunk) -> list[torch.Tensor]:
    return [chunk.param, *chunk.update, *chunk.rms, *([] if chunk.saga_sum is None else [chunk.saga_sum])]


@given(
    path_adam=st.booleans(),
    with_saga=st.booleans(),
    saga=st.sampled_from([1.0, 0.4]),
    a=st.floats(1e-3, 1),
    b=st.floats(1e-3, 1),
    exponents=st.sampled_from([(0, 0), (20, 0), (45, 45), (-50, -50)]),
    eps=st.sampled_from([0.0, 0.5]),
    sign=st.sampled_from([1.0, -1.0]),
    omega=st.floats(0.1, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_both_statements_agree(
    path_adam: bool, with_saga: bool, saga: float, a: float, b: float, exponents: tuple[int, int], eps: float,
    sign: float, omega: float, seed: int,
) -> None:  # fmt: skip
    unit = 2.0 ** sum(exponents)
    numbers = Coefficients(
        alpha=0.1, decay=0.9, a=a, b=b, unit=(2.0 ** exponents[0], 2.0 ** exponents[1]), eps=eps * unit**2,
        tiny=1e-300, sign=sign, omega=omega, saga=saga, saga_over_n=saga / 3, salts=(1, 2),
    )  # fmt: skip
    literal = random_chunk(np.random.default_rng(seed), path_adam, with_saga, unit)
    in_place = copied(literal)
    algorithm_1(literal, torch.float64, as_tensors(numbers, torch.float64))
    update_in_place(in_place, torch.float64, numbers, (torch.empty(SIZE).double(), torch.empty(SIZE).double()))
    torch.testing.assert_close(tensors_of(in_place), tensors_of(literal), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("k", "tau"), [(1, 0), (7, 0), (9, 4)])
def test_one_visit_is_that_of_the_reference(k: int, tau: int) -> None:
    """The memory, root and sum of a row beside the biased moments of equations (6) to (8)."""
    rng, n_paths, betas, eps = np.random.default_rng(k), 3, (0.9, 0.99), 0.01
    reference = Algorithm1(rng.standard_normal(SIZE), n_paths, 0.1, betas, eps, weight_decay=0.2)
    reference.k, reference.tau[:] = k - 1, [tau, k - 1, 0]
    reference.Gamma = {p for p in range(n_paths) if reference.tau[p]}
    corrections = [1 - beta ** (tau / n_paths) for beta in betas]
    if tau:
        reference.m[0], reference.v[0] = rng.standard_normal(SIZE), rng.uniform(0.1, 1, SIZE)
    m, v = (
        moment[0] / correction if tau else moment[0]
        for moment, correction in zip((reference.m, reference.v), corrections, strict=True)
    )
    root = np.sqrt(eps + v)
    reference.g_hat[0] = m / root
    reference.g_hat[1] = rng.standard_normal(SIZE)
    g, total = rng.standard_normal(SIZE), torch.from_numpy(reference.g_hat.sum(0))
    rows = [torch.from_numpy(array.copy()) for array in (reference.w, g, reference.g_hat[0], root)]
    chunk = Chunk(rows[0], rows[1], [rows[2]], [rows[3]], row_format("float32", (SIZE,)), total)
    a, b = (ema_weight(beta, Visit(k, tau, 0, 1.0), n_paths) for beta in betas)
    numbers = Coefficients(
        alpha=0.1, decay=1 - 0.1 * 0.2, a=a, b=b, unit=(1.0, 1.0), eps=eps, tiny=1e-300, sign=1.0, omega=1.0,
        saga=1.0, saga_over_n=1 / max(1, len(reference.Gamma)), salts=(1, 2),
    )  # fmt: skip
    algorithm_1(chunk, torch.float64, as_tensors(numbers, torch.float64))
    reference.step(0, g)
    v_hat = reference.v[0] / (1 - betas[1] ** (k / n_paths))
    np.testing.assert_allclose(chunk.param, reference.w, rtol=1e-10)
    np.testing.assert_allclose(chunk.update[0], reference.g_hat[0], rtol=1e-10)
    np.testing.assert_allclose(chunk.rms[0], np.sqrt(eps + v_hat), rtol=1e-10)
    np.testing.assert_allclose(total, reference.g_hat.sum(0), rtol=1e-9)
    assert math.isclose(a, 1.0) == (tau == 0)
