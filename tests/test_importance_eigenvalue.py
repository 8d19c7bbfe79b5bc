"""dominant_eigenvalue against dense decompositions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_optim._importance.eigenvalue import dominant_eigenvalue
from tests.support.jtfs_helpers import noise


def with_eigenvalues(values: list[complex], seed: int) -> torch.Tensor:
    """A real matrix with these eigenvalues; complex ones stand for themselves and their conjugates."""
    blocks = []
    for value in values:
        if value.imag:
            blocks.append(np.array([[value.real, value.imag], [-value.imag, value.real]]))
        else:
            blocks.append(np.array([[value.real]]))
    size = sum(len(block) for block in blocks)
    matrix, at = np.zeros((size, size)), 0
    for block in blocks:
        matrix[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    basis = noise(size, size, seed=seed).numpy() + 2 * np.eye(size)
    return torch.from_numpy(basis @ matrix @ np.linalg.inv(basis))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 30), st.sampled_from(["any", "symmetric", "low rank"]))
def test_agrees_with_a_dense_decomposition(seed: int, size: int, kind: str) -> None:
    matrix = noise(size, size, seed=seed)
    if kind == "symmetric":
        matrix = matrix + matrix.T
    elif kind == "low rank":
        matrix = matrix[:, :2] @ matrix[:2]
    found = dominant_eigenvalue(
        lambda v: matrix @ v, noise(size, seed=seed + 1), tolerance=1e-10, max_products=2000, max_basis=30
    )
    expected = np.abs(np.linalg.eigvals(matrix.numpy())).max()
    assert found.converged
    assert abs(found.value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, -1.0, 0.3, 0.2, 0.1] + [0.05] * 5,
        [0.0316, -0.0308, 0.02] + [0.001 * k for k in range(12)],
        [1 + 1j, 0.9, 0.5, -0.2, 0.1],
        [-2.0, 1.99, 1.98, -1.97, 0.5, 0.4],
    ],
    ids=["pair", "near pair", "complex", "crowd"],
)
@pytest.mark.parametrize("max_basis", [4, 6, 20])
def test_pairs_of_opposite_sign_and_complex_pairs(values: list[complex], max_basis: int) -> None:
    """Power iteration stalls on these; small bases have to start again."""
    matrix = with_eigenvalues([complex(v) for v in values], seed=3)
    found = dominant_eigenvalue(
        lambda v: matrix @ v,
        noise(len(matrix), seed=1),
        tolerance=1e-9,
        max_products=5000,
        max_basis=max_basis,
    )
    assert found.converged
    assert abs(found.value) == pytest.approx(max(abs(complex(v)) for v in values), rel=1e-6)


def test_the_residual_is_that_of_a_vector() -> None:
    """Products are few: the residual must be what such a Krylov space leaves, found by least squares."""
    matrix = noise(40, 40, seed=2)
    matrix = matrix + matrix.T
    start = noise(40, seed=3)
    found = dominant_eigenvalue(lambda v: matrix @ v, start, tolerance=1e-12, max_products=7)
    assert (found.n_products, found.converged) == (7, False)
    krylov = torch.stack([torch.linalg.matrix_power(matrix, k) @ start for k in range(7)], 1)
    basis = torch.linalg.qr(krylov).Q
    values, vectors = torch.linalg.eigh(basis.T @ matrix @ basis)
    best = int(values.abs().argmax())
    x = basis @ vectors[:, best]
    assert found.value.real == pytest.approx(float(values[best]), rel=1e-9)
    expected = float((matrix @ x - values[best] * x).norm() / values[best].abs())
    assert found.residual == pytest.approx(expected, rel=1e-6)
    exact = torch.linalg.eigvalsh(matrix)
    nearest = float((exact - found.value.real).abs().min())
    assert nearest <= found.residual * abs(found.value) * (1 + 1e-9)


def test_zero_and_tiny_matrices() -> None:
    start = noise(5)
    assert dominant_eigenvalue(torch.zeros_like, start) == (0j, 0.0, 1, True)
    found = dominant_eigenvalue(lambda v: 1e-200 * v, start)
    assert abs(found.value) == pytest.approx(1e-200)
    assert dominant_eigenvalue(lambda v: 3 * v, torch.ones(1)).value.real == pytest.approx(3)


def test_float32_products() -> None:
    matrix = with_eigenvalues([complex(k) for k in range(1, 30)] + [40 + 0j], seed=5)
    single = matrix.float()
    found = dominant_eigenvalue(lambda v: single @ v, noise(30).float(), tolerance=1e-4, max_products=200)
    assert found.converged
    assert abs(found.value) == pytest.approx(40, rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": torch.zeros(3)}, "norm 0.0"),
        ({"start": torch.full((3,), torch.nan)}, "norm nan"),
        ({"start": torch.ones(3, 1)}, r"shape \(3, 1\)"),
        ({"start": torch.ones(3, dtype=torch.int64)}, "int64"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    arguments = {"start": torch.ones(3), **arguments}
    with pytest.raises(ValueError, match=message):
        dominant_eigenvalue(lambda v: v, **arguments)


def test_products_that_are_not_finite() -> None:
    with pytest.raises(FloatingPointError, match="inf or a NaN"):
        dominant_eigenvalue(lambda v: v / 0, torch.ones(3))
