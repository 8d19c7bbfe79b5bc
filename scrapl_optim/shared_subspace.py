"""Eigenvalues of many matrices that are combinations of few, from one subspace for all."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim.eigenvalue import Eigenvalue, dominant_eigenvalue, krylov_search
from scrapl_optim.example_hessians import ExampleHessians

SKETCH = 1024
"""Numbers that stand for a vector when its norm is estimated: the error is 1 / sqrt(2 SKETCH) of it, 2%."""

N_NEW = 8
"""Directions added to the subspace at a time."""

N_KRYLOV = 12
"""Dimension of each of these spaces at most."""

N_EXPLORED = 2
"""Matrices whose Krylov spaces, from random vectors, the subspace starts from."""


class Coefficients(NamedTuple):
    r"""What tells the matrices of one control u apart, each scaled to a largest entry of one.

    Attributes:
        slope: :math:`s_{peu}`, shape ``(P, E)``.
        hessian: :math:`H_{peuu'}`, shape ``(P, E, U)``.
    """

    slope: np.ndarray
    hessian: np.ndarray


class SharedSubspace:
    r"""A subspace V that nearly contains the dominant eigenvectors of all paths' matrices for one control u.

    These are combinations of the same Hessians and gradients of the E examples, with coefficients of the path:

    .. math:: M_{pu}^\top = \sum_e s_{peu} \nabla^2\theta_{eu}
              + \Big(\sum_{u'} H_{peuu'} \nabla\theta_{eu'}\Big) \nabla\theta_{eu}^\top .

    Once :math:`V^\top \nabla^2\theta_{eu} V` and :math:`V^\top \nabla\theta_{eu}` are known, the eigenvalues of
    :math:`V^\top M_{pu}^\top V` cost no product for any number of paths, and nor do the norms of their residuals,
    of which sketches are kept (sums of entries with random signs). Where these are large V grows by the
    residuals themselves, the largest first.

    Args:
        hessians: of the encoder.
        gradients: :math:`\nabla\theta_{eu}`, shape ``(E, U, n_weights)``.
        u: the control.
        coefficients: of all paths.
        tolerance: relative residual to stop at.
        max_size: columns of V at most; the memory is that of ``max_size + 24`` vectors.
        seed: of starting vectors and signs.
    """

    def __init__(
        self,
        hessians: ExampleHessians,
        gradients: Tensor,
        u: int,
        coefficients: Coefficients,
        *,
        tolerance: float,
        max_size: int,
        seed: int,
    ) -> None:
        self._hessians, self._gradients, self._u, self._c = hessians, gradients, u, coefficients
        self._tolerance, self._max_size, self._seed = tolerance, max_size, seed
        n_examples, n_controls, n = gradients.shape
        generator = torch.Generator().manual_seed(seed)
        self._signs = torch.randint(0, 2, (n,), generator=generator, dtype=torch.int8).mul_(2).sub_(1)
        self._signs = self._signs.to(gradients.device)
        self._basis = gradients.new_empty(max_size, n)
        self.size = 0
        self._inner = np.zeros((n_examples, 0, 0))
        self._sketched = np.zeros((n_examples, SKETCH, 0))
        self._sketched_basis = np.zeros((SKETCH, 0))
        self._projected = np.zeros((n_examples, n_controls, 0))
        flat = self._sketch(gradients.reshape(-1, n))
        self._sketched_gradients = flat.T.reshape(n_examples, n_controls, SKETCH)

    @property
    def n_paths(self) -> int:
        """How many matrices there are."""
        return len(self._c.slope)

    def grow(self) -> Iterator[float]:
        """Enlarge V until all residuals are within the tolerance or it is full; yield how many are, each time."""
        self._extend(self._first_directions())
        open_ = list(range(self.n_paths))
        while open_:
            found = {p: self.value(p) for p in open_}
            open_ = [p for p in open_ if found[p][1] > self._tolerance]
            yield 1 - len(open_) / self.n_paths
            before = self.size
            room = min(N_NEW, (self._max_size - self.size) // 2)
            wanted = self._worst({p: found[p] for p in open_}, room)
            self._extend([part for p in wanted for part in self._residual(p, found[p][0], found[p][2])])
            if self.size == before:
                return

    def value(self, path: int) -> tuple[complex, float, np.ndarray]:
        """Return the best Ritz value of a path, its relative residual (estimated) and its vector in V."""
        values, vectors = np.linalg.eig(self._matrix(path))
        best = int(np.abs(values).argmax())
        value, x = complex(values[best]), vectors[:, best]
        if value == 0:
            return value, 0.0 if self._vanishes(path) else np.inf, x
        return value, float(np.linalg.norm(self._sketched_residual(path, value, x))) / abs(value), x

    def refined(self, path: int, max_products: int, max_basis: int) -> Eigenvalue:
        """Return a value by Arnoldi's method from the best vector of V."""
        _, _, x = self.value(path)
        return dominant_eigenvalue(
            lambda vector: self._product(path, vector),
            self._vector(_stronger(x)),
            tolerance=self._tolerance,
            max_products=max_products,
            max_basis=max_basis,
        )

    def _product(self, path: int, vector: Tensor) -> Tensor:
        """Return the transposed matrix of a path times a vector of weights."""
        u, slope = self._u, self._c.slope[path]
        along = (self._gradients[:, u] @ vector).double().cpu().numpy()
        weights = torch.from_numpy(self._c.hessian[path] * along[:, None]).to(vector)
        total = torch.einsum("eu,eun->n", weights, self._gradients)
        for e in range(len(slope)):
            if slope[e]:
                total.add_(self._hessians.product(e, u, vector), alpha=float(slope[e]))
        return total

    def _matrix(self, path: int) -> np.ndarray:
        slope, hessian = self._c.slope[path], self._c.hessian[path]
        range_ = np.einsum("eu,euk->ek", hessian, self._projected)
        return np.einsum("e,ekl->kl", slope, self._inner) + range_.T @ self._projected[:, self._u]

    def _sketched_residual(self, path: int, value: complex, x: np.ndarray) -> np.ndarray:
        slope, hessian = self._c.slope[path], self._c.hessian[path]
        curved = np.einsum("e,emk,k->m", slope, self._sketched, x, optimize=True)
        along = self._projected[:, self._u] @ x
        ranged = np.einsum("eu,e,eum->m", hessian, along, self._sketched_gradients, optimize=True)
        return curved + ranged - value * (self._sketched_basis @ x)

    def _residual(self, path: int, value: complex, x: np.ndarray) -> list[Tensor]:
        """Return real and imaginary part of a path's residual; that of real vectors is real."""
        parts = [self._vector(np.real(x)), self._vector(np.imag(x))] if np.imag(x).any() else []
        if not parts:
            vector = self._vector(np.real(x))
            return [self._product(path, vector) - value.real * vector]
        re, im = (self._product(path, part) for part in parts)
        return [
            re - value.real * parts[0] + value.imag * parts[1],
            im - value.real * parts[1] - value.imag * parts[0],
        ]

    def _vanishes(self, path: int) -> bool:
        return not (self._c.slope[path].any() or self._c.hessian[path].any())

    def _worst(self, found: dict[int, tuple[complex, float, np.ndarray]], n: int) -> list[int]:
        """Choose ``n`` paths at most, whose residuals are large and point in different directions."""
        paths = [p for p, (value, residual, _) in found.items() if value and np.isfinite(residual)]
        if not paths:
            return []
        left = np.array([self._sketched_residual(p, found[p][0], found[p][2]) / abs(found[p][0]) for p in paths])
        chosen: list[int] = []
        while len(chosen) < min(n, len(paths)):
            norms = np.linalg.norm(left, axis=1)
            best = int(norms.argmax())
            # What is smaller adds little, and its sketch is mostly noise.
            if norms[best] <= self._tolerance / 2:
                break
            chosen.append(paths[best])
            direction = left[best] / norms[best]
            left = left - np.outer(left @ direction.conj(), direction)
        return chosen

    def _first_directions(self) -> list[Tensor]:
        """Return dominant gradients, and Krylov spaces of a few different paths from random vectors."""
        directions = list(_principal(self._gradients.flatten(0, 1), self._max_size // 4))
        generator = torch.Generator().manual_seed(self._seed)
        n = self._gradients.shape[-1]
        for path in self._different(N_EXPLORED):
            start = torch.randn(n, generator=generator, dtype=torch.float64).to(self._gradients)
            directions += self._krylov_space(path, start)
        return directions[: self._max_size]

    def _krylov_space(self, path: int, start: Tensor) -> list[Tensor]:
        return krylov_search(
            lambda vector: self._product(path, vector),
            start,
            tolerance=self._tolerance,
            max_products=N_KRYLOV,
            max_basis=N_KRYLOV,
        )[1]

    def _different(self, n: int) -> list[int]:
        """Choose paths whose coefficients point in different directions."""
        left = np.concatenate([self._c.slope, self._c.hessian.reshape(self.n_paths, -1)], 1)
        chosen = []
        for _ in range(min(n, self.n_paths)):
            norms = np.linalg.norm(left, axis=1)
            best = int(norms.argmax())
            if norms[best] < 1e-6:
                break
            chosen.append(best)
            left = left - np.outer(left @ left[best], left[best]) / norms[best] ** 2
        return chosen

    def _extend(self, directions: list[Tensor]) -> None:
        """Add directions to V, with their products."""
        first = self.size
        for direction in directions:
            self._add(direction)
        new = self._basis[first : self.size]
        if not len(new):
            return
        size, old = self.size, first
        inner, sketched = np.zeros((len(self._inner), size, size)), [self._sketched]
        inner[:, :old, :old] = self._inner
        block = np.empty((len(self._inner), SKETCH, size - old))
        for e in range(len(self._inner)):
            products = torch.stack([self._hessians.product(e, self._u, vector) for vector in new])
            inner[e, :, old:] = (self._basis[:size] @ products.T).double().cpu().numpy()
            inner[e, old:, :old] = inner[e, :old, old:].T  # Hessians are symmetric
            block[e] = self._sketch(products)
        if not np.isfinite(inner).all():
            raise FloatingPointError("a product with the encoder's Hessian has an inf or a NaN")
        self._inner, self._sketched = inner, np.concatenate([*sketched, block], 2)
        self._sketched_basis = np.concatenate([self._sketched_basis, self._sketch(new)], 1)
        projected = torch.einsum("eun,kn->euk", self._gradients, new).double().cpu().numpy()
        self._projected = np.concatenate([self._projected, projected], 2)

    def _add(self, direction: Tensor) -> None:
        if self.size == self._max_size:
            return
        norm = torch.linalg.vector_norm(direction)
        if not norm > 0:
            return
        rest = direction / norm
        known = self._basis[: self.size]
        for _ in range(2):
            rest = rest - (known @ rest) @ known
        left = torch.linalg.vector_norm(rest)
        # What is left of a direction that V has already is rounding.
        if left > 1e2 * torch.finfo(rest.dtype).eps:
            rest = rest / left
            rest = rest - (known @ rest) @ known
            self._basis[self.size] = rest / torch.linalg.vector_norm(rest)
            self.size += 1

    def _sketch(self, rows: Tensor) -> np.ndarray:
        """Return sums of entries with random signs, shape ``(SKETCH, len(rows))``."""
        signed = rows * self._signs
        padded = torch.nn.functional.pad(signed, (0, -signed.shape[-1] % SKETCH))
        return padded.view(len(rows), -1, SKETCH).sum(1).double().cpu().numpy().T

    def _vector(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self._basis) @ self._basis[: self.size]


def _stronger(x: np.ndarray) -> np.ndarray:
    """Return the larger of real and imaginary part."""
    return max(np.real(x), np.imag(x), key=np.linalg.norm)


def _principal(vectors: Tensor, n: int) -> Tensor:
    """Return at most ``n`` principal directions of some vectors, those below a hundredth of the first left out."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    unit = vectors[norms > 0] / norms[norms > 0, None]
    values, weights = torch.linalg.eigh((unit @ unit.T).double())
    kept = values.flip(0) > 1e-4 * values.max() if len(values) else values > 0
    return weights.flip(1)[:, kept][:, : max(1, n)].T.to(unit) @ unit
