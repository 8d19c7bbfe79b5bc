"""Arnoldi's method: the eigenvalue of largest magnitude of a matrix known by its products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Eigenvalue(NamedTuple):
    r"""An estimate of the eigenvalue :math:`\lambda` of largest magnitude.

    Attributes:
        value: :math:`\lambda`.
        residual: :math:`\|M x - \lambda x\| / |\lambda|` with a unit vector x; 0 if the matrix vanishes.
        n_products: products with the matrix that were taken.
        converged: whether the residual is within the tolerance.
    """

    value: complex
    residual: float
    n_products: int
    converged: bool


def dominant_eigenvalue(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    tolerance: float = 1e-3,
    max_products: int = 60,
    max_basis: int = 20,
) -> Eigenvalue:
    r"""Return the eigenvalue of largest magnitude of a real square matrix M, symmetric or not.

    Arnoldi's method: an orthonormal basis V of the Krylov space of M and ``start`` gives the small matrix
    :math:`V^\top M V`, whose eigenvalues include a good approximation of M's outermost ones. Where M has a pair
    :math:`\pm \lambda` of nearly equal magnitude, power iteration stalls; this does not.

    Args:
        product: M v, for a vector v like ``start``.
        start: vector to start from, shape ``(n,)``, floating; not orthogonal to the eigenvector, e.g. random.
        tolerance: on the relative residual. For a normal M the error of the eigenvalue is at most that, and
            far less (its square over the gap) if M is symmetric and the eigenvalue is single.
        max_products: products to take at most, at least 1; what is reached then is returned, as not converged.
        max_basis: vectors of the basis, of which the best half is kept when it is full; at least 4. It takes
            one and a half times ``max_basis`` vectors of memory.

    Raises:
        ValueError: if ``start`` is zero or not a vector of finite floating numbers.
        FloatingPointError: if a product has an inf or a NaN.

    Example:
        >>> import torch
        >>> matrix = torch.diag(torch.tensor([1.0, -3.0, 2.9], dtype=torch.float64))
        >>> eigenvalue = dominant_eigenvalue(lambda v: matrix @ v, torch.ones(3, dtype=torch.float64))
        >>> round(eigenvalue.value.real, 6), eigenvalue.converged
        (-3.0, True)

    Source: W. E. Arnoldi, Quart. Appl. Math. 9 (1951); SCRAPL, equation (12).
    """
    _check_start(start)
    basis = [start / torch.linalg.vector_norm(start)]
    projected = np.zeros((max_basis + 1, max_basis))
    for n_products in range(1, max_products + 1):
        norm, rest = _extend(product, basis, projected)
        eigenvalue, ritz = _estimate(projected, len(basis), norm, n_products, start, tolerance)
        if eigenvalue.converged or n_products == max_products:
            return eigenvalue
        if len(basis) == max_basis:
            basis = _restart(basis, projected, ritz)
        basis.append(rest / norm)
    raise AssertionError("unreachable: the last product returns")


def _check_start(start: Tensor) -> None:
    if start.ndim != 1 or not start.is_floating_point():
        raise ValueError(f"Invalid start: shape {tuple(start.shape)}, {start.dtype}; expected a floating vector")
    norm = float(torch.linalg.vector_norm(start))
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError(f"Invalid start: norm {norm}; expected a finite vector other than zero")


def _extend(
    product: Callable[[Tensor], Tensor], basis: list[Tensor], projected: np.ndarray
) -> tuple[float, Tensor]:
    """Fill the last column of the projected matrix; return what the product has outside the basis."""
    last = len(basis) - 1
    projected[: last + 1, last], rest = _orthogonalize(product(basis[-1]), basis)
    projected[last + 1, last] = norm = float(torch.linalg.vector_norm(rest))
    if not np.isfinite(projected[: last + 2, last]).all():
        raise FloatingPointError("Invalid product with the matrix: an inf or a NaN; expected finite numbers")
    return norm, rest


def _estimate(
    projected: np.ndarray, size: int, norm: float, n_products: int, start: Tensor, tolerance: float
) -> tuple[Eigenvalue, tuple[np.ndarray, np.ndarray]]:
    """Return the best Ritz value, and all values and vectors of the projected matrix."""
    values, vectors = np.linalg.eig(projected[:size, :size])
    best = int(np.abs(values).argmax())
    magnitude = float(abs(values[best]))
    # In exact arithmetic nothing is left once the space is invariant; what is left then is rounding.
    roundings = torch.finfo(start.dtype).eps * np.abs(projected).max()
    exhausted = bool(norm <= roundings) or size == start.numel()
    relative = norm * float(abs(vectors[-1, best])) / magnitude if magnitude > 0 else math.inf
    residual = 0.0 if exhausted else relative
    converged = exhausted or (residual <= tolerance and n_products > 1)
    return Eigenvalue(complex(values[best]), residual, n_products, converged), (values, vectors)


def _restart(basis: list[Tensor], projected: np.ndarray, ritz: tuple[np.ndarray, np.ndarray]) -> list[Tensor]:
    """Return a basis of the Ritz vectors of the largest values, half as many, and project onto it.

    These span a space that the projected matrix maps to itself, so that what M V has outside the new basis is
    still along one vector (Stewart's Krylov-Schur restart, with an invariant space instead of a Schur form).
    """
    values, vectors = ritz
    size = len(basis)
    order = np.argsort(-np.abs(values), kind="stable")
    leading = np.isin(values, [v for i in order[: size // 2] for v in (values[i], values[i].conjugate())])
    leading = leading if leading.sum() < size else np.isin(np.arange(size), order[:1])
    parts = np.concatenate([np.real(vectors[:, leading]), np.imag(vectors[:, leading])], 1)
    directions, singular, _ = np.linalg.svd(parts, full_matrices=False)
    rotation = directions[:, singular > singular[0] * 1e-10]
    n_leading = rotation.shape[1]
    inner, coupling = rotation.T @ projected[:size, :size] @ rotation, projected[size, size - 1] * rotation[-1]
    projected[:] = 0.0
    projected[:n_leading, :n_leading], projected[n_leading, :n_leading] = inner, coupling
    return [_combine(basis, rotation[:, i]) for i in range(n_leading)]


def _orthogonalize(vector: Tensor, basis: list[Tensor]) -> tuple[np.ndarray, Tensor]:
    """Return the coefficients of ``vector`` in ``basis`` and the rest; twice, since once loses digits."""
    coefficients = np.zeros(len(basis))
    rest = vector
    for _ in range(2):
        for i, direction in enumerate(basis):
            coefficient = torch.dot(direction, rest)
            rest = torch.sub(rest, coefficient * direction)
            coefficients[i] += float(coefficient)
    return coefficients, rest


def _combine(basis: list[Tensor], weights: np.ndarray) -> Tensor:
    combined = torch.zeros_like(basis[0])
    for weight, direction in zip(weights.tolist(), basis, strict=True):
        combined.add_(direction, alpha=weight)
    return combined
