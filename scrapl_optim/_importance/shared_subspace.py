"""The method that finds the eigenvalues of all paths, mixtures of the same few matrices, from one subspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim._importance.checks import checked_options
from scrapl_optim._importance.derivatives import PathDerivatives
from scrapl_optim._importance.eigenvalue import Eigenvalue, dominant_eigenvalue
from scrapl_optim._importance.encoder import EncoderDerivatives, Example
from scrapl_optim._importance.search import Search, largest_entry

# Numbers that stand for a vector when its norm is estimated: the error is 1 / sqrt(2 _SKETCH) of it, 2%.
_SKETCH = 1024
# Paths whose Krylov spaces, from random vectors, the subspace starts from, and their dimension at most.
_N_EXPLORED, _N_KRYLOV = 2, 12
# Paths chosen at a time, by whose residuals the subspace grows.
_N_CHOSEN = 16


@dataclass(frozen=True)
class SharedSubspace:
    r"""Find the eigenvalues of all paths of a control from one subspace; single ones finish by Arnoldi's method.

    The values are those of :class:`Arnoldi` to the same tolerance, much faster where paths are many and examples
    few; which paths take part changes them within the tolerance.

    Args:
        tolerance: relative residual of an eigenvalue to stop at.
        max_size: largest dimension of the shared subspace. Values that it does not settle are finished one by one.
            The memory is ``max_size`` numbers for each weight, and U for each weight and example.
        split_batch: cuts a batch into batches of one example for the encoder, as in ``lambda x: x.split(1)``,
            which makes a product B times cheaper; ``None`` leaves batches whole.
        max_products: products to take at most for an eigenvalue that the subspace does not settle.
        max_basis: Arnoldi vectors kept before a restart then, at least 4.
        max_graphs: examples whose graph through the encoder's gradient is kept between products. More are faster,
            fewer take less memory.

    Raises:
        TypeError: if an option is not a number, or ``split_batch`` cannot be called with a batch.
        ValueError: if an option is out of its domain.

    Example:
        >>> SharedSubspace(tolerance=1e-2, max_size=200).max_size
        200
    """

    tolerance: float = 1e-3
    max_size: int = 120
    split_batch: Callable[[Any], Sequence[Any]] | None = None
    max_products: int = 60
    max_basis: int = 20
    max_graphs: int = 1

    # What folders of results and ThetaImportance.method call it.
    label: ClassVar[str] = "shared_subspace"

    def __post_init__(self) -> None:
        checked_options(self)

    def find_values(self, search: Search, paths: Sequence[int]) -> None:
        """Find the values of some paths; :func:`theta_importance` calls it.

        Those that are known take part, so that a resumed run agrees with one that was never interrupted.
        """
        derivatives: list[list[PathDerivatives]] = []
        for p, of_path in search.derivatives(paths):
            derivatives.append(of_path)
            search.advance("derivatives", p)
        encoder = EncoderDerivatives(search.problem.encoder, search.problem.params, self.max_graphs)
        examples = self._examples(search)
        gradients = torch.stack([
            torch.stack([encoder.gradient(example, u) for u in range(search.n_controls)]) for example in examples
        ])  # fmt: skip
        for u in range(search.n_controls):
            scales = [largest_entry(of_path, u) for of_path in derivatives]
            for p, scale in zip(paths, scales, strict=True):
                if scale == 0:
                    search.keep(p, u, Eigenvalue(0j, 0.0, 0, True))
            acting = [i for i, scale in enumerate(scales) if scale > 0]
            if acting:
                coefficients = _coefficients([derivatives[i] for i in acting], [scales[i] for i in acting], u)
                subspace = Subspace(
                    encoder, examples, gradients, u, coefficients, tolerance=self.tolerance,
                    max_size=min(self.max_size, encoder.n_weights), seed=search.seed * search.n_controls + u,
                )  # fmt: skip
                self._read_values(search, subspace, u, [(paths[i], scales[i]) for i in acting])
            encoder.forget()

    def _read_values(self, search: Search, subspace: Subspace, u: int, paths: list[tuple[int, float]]) -> None:
        """Grow the subspace of a control and keep the values of paths, each with the scale of its coefficients."""
        try:
            for _ in subspace.grow():
                search.advance("subspace")
            for i, (p, scale) in enumerate(paths):
                value, residual, _ = subspace.value(i)
                eigenvalue = Eigenvalue(value, residual, 0, residual <= self.tolerance)
                if not eigenvalue.converged:
                    eigenvalue = subspace.refined(i, self.max_products, self.max_basis)
                search.keep(p, u, eigenvalue._replace(value=eigenvalue.value * scale))
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; look into the encoder, by control {u}") from error

    def _examples(self, search: Search) -> list[Example]:
        """Return the examples of all batches in order."""
        examples: list[Example] = []
        for batch, theta in zip(search.problem.batches, search.thetas, strict=True):
            if self.split_batch is None:
                examples += [Example(batch, b) for b in range(theta.shape[0])]
                continue
            parts = list(self.split_batch(batch))
            with torch.no_grad():
                controls = [search.problem.encoder(part) for part in parts]
            if sum(len(part) for part in controls) != theta.shape[0] or not torch.allclose(
                torch.cat(controls), theta, rtol=1e-3, atol=1e-5
            ):
                raise ValueError(
                    "Invalid split_batch: it does not cut a batch into its examples, as the encoder does not give "
                    "the parts, in order, what it gives the batch; expected parts that do; leave split_batch out, "
                    "or see whether the encoder couples examples"
                )
            examples += [
                Example(part, b) for part, theta in zip(parts, controls, strict=True) for b in range(len(theta))
            ]
        return examples


def _coefficients(derivatives: list[list[PathDerivatives]], scales: list[float], u: int) -> Coefficients:
    """Return s and H of a control for all paths and examples, divided by the scale of each path."""
    slopes = [
        np.concatenate([slope[:, u].cpu().numpy() / scale for slope, _ in of_path])
        for of_path, scale in zip(derivatives, scales, strict=True)
    ]
    rows = [
        np.concatenate([hessian[:, u].cpu().numpy() / scale for _, hessian in of_path])
        for of_path, scale in zip(derivatives, scales, strict=True)
    ]
    return Coefficients(np.array(slopes, dtype=np.float64), np.array(rows, dtype=np.float64))


class Coefficients(NamedTuple):
    r"""Coefficients of the matrices of one control u, those of each path scaled to a largest entry of one.

    Attributes:
        slope: :math:`s_{peu}`, shape ``(P, E)``.
        hessian: :math:`H_{peuu'}`, shape ``(P, E, U)``.
    """

    slope: np.ndarray
    hessian: np.ndarray


class Subspace:
    r"""A subspace V that nearly contains the dominant eigenvectors of all paths' matrices for one control u.

    These are combinations of the same Hessians and gradients of the E examples, with coefficients of the path:

    .. math:: M_{pu}^\top = \sum_e s_{peu} \nabla^2\theta_{eu}
              + \Big(\sum_{u'} H_{peuu'} \nabla\theta_{eu'}\Big) \nabla\theta_{eu}^\top .

    Once :math:`V^\top \nabla^2\theta_{eu} V` and :math:`V^\top \nabla\theta_{eu}` are known, the eigenvalues of
    :math:`V^\top M_{pu}^\top V` cost no product for any number of paths, and nor do the norms of their residuals,
    of which sketches are kept (sums of entries with random signs). Where these are large V grows by the
    residuals themselves, the largest and most different first.

    Args:
        encoder: gives the products with its Hessians.
        examples: E of them.
        gradients: :math:`\nabla\theta_{eu}`, shape ``(E, U, n_weights)``.
        u: the control.
        coefficients: of all paths.
        tolerance: relative residual to stop at.
        max_size: columns of V at most; the memory is that of ``max_size + E`` vectors of all
            weights, besides the gradients.
        seed: of starting vectors and signs.
    """

    def __init__(
        self,
        encoder: EncoderDerivatives,
        examples: Sequence[Example],
        gradients: Tensor,
        u: int,
        coefficients: Coefficients,
        *,
        tolerance: float,
        max_size: int,
        seed: int,
    ) -> None:
        self._encoder, self._examples = encoder, examples
        self._gradients, self._u, self._c = gradients, u, coefficients
        self._tolerance, self._max_size, self._seed = tolerance, max_size, seed
        n_examples, n_controls, n = gradients.shape
        generator = torch.Generator("cpu").manual_seed(seed)
        # Drawn on the CPU, whatever the default device and the weights', so that a seed means the same everywhere.
        signs = torch.randint(0, 2, (n,), generator=generator, dtype=torch.int8, device="cpu")
        self._signs = signs.mul_(2).sub_(1).to(gradients.device)
        # The first `size` rows and columns of these are filled.
        self._basis = gradients.new_empty(max_size, n)
        self.size = 0
        self._inner = np.zeros((n_examples, max_size, max_size))
        self._sketched = np.zeros((n_examples, _SKETCH, max_size))
        self._sketched_basis = np.zeros((_SKETCH, max_size))
        self._projected = np.zeros((n_examples, n_controls, max_size))
        flat = self._sketch(gradients.reshape(-1, n))
        self._sketched_gradients = flat.T.reshape(n_examples, n_controls, _SKETCH)

    @property
    def n_paths(self) -> int:
        """Number of matrices."""
        return len(self._c.slope)

    def grow(self) -> Iterator[float]:
        """Enlarge V until all residuals are within the tolerance or it is full; yield how many are, each time."""
        for direction in _principal(self._gradients.flatten(0, 1), self._max_size // 4):
            self._add(direction)
        generator = torch.Generator("cpu").manual_seed(self._seed)
        for path in self._different(_N_EXPLORED):
            start = torch.randn(self._basis.shape[1], generator=generator, dtype=torch.float64, device="cpu")
            self._explore(path, start.to(self._basis))
        open_ = list(range(self.n_paths))
        while open_:
            values = {p: self.value(p) for p in open_}
            open_ = [p for p in open_ if values[p][1] > self._tolerance]
            yield 1 - len(open_) / self.n_paths
            before = self.size
            for p in self._worst({p: values[p] for p in open_}):
                value, residual, x = self.value(p)
                if residual > self._tolerance and self.size < self._max_size:
                    self._add(self._residual(p, value, x))
            if self.size == before:
                return

    def _explore(self, path: int, start: Tensor) -> None:
        """Add the Krylov space of a path's matrix and a vector, until the path's residual is small."""
        direction = start
        for _ in range(_N_KRYLOV):
            products = self._add(direction)
            if products is None or self.value(path)[1] <= self._tolerance:
                return
            direction = self._combined(path, self._basis[self.size - 1], products)

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
        products = (
            self._encoder.hessian_product(example, u, vector) if s else None
            for example, s in zip(self._examples, slope, strict=True)
        )
        return self._combined(path, vector, products)

    def _combined(self, path: int, vector: Tensor, products: Iterable[Tensor | None]) -> Tensor:
        """Return the same from the examples' products."""
        along = (self._gradients[:, self._u] @ vector).double().cpu().numpy()
        weights = torch.from_numpy(self._c.hessian[path] * along[:, None]).to(vector)
        total = torch.einsum("eu,eun->n", weights, self._gradients)
        for weight, product in zip(self._c.slope[path].tolist(), products, strict=True):
            if product is not None:
                total.add_(product, alpha=weight)
        return total

    def _matrix(self, path: int) -> np.ndarray:
        slope, hessian = self._c.slope[path], self._c.hessian[path]
        k = self.size
        projected = self._projected[:, :, :k]
        ranged = np.einsum("eu,euk->ek", hessian, projected)
        return np.tensordot(slope, self._inner[:, :k, :k], 1) + ranged.T @ projected[:, self._u]

    def _sketched_residual(self, path: int, value: complex, x: np.ndarray) -> np.ndarray:
        slope, hessian = self._c.slope[path], self._c.hessian[path]
        k = self.size
        curved = slope @ (self._sketched[:, :, :k] @ x)
        along = self._projected[:, self._u, :k] @ x
        ranged = np.tensordot(hessian * along[:, None], self._sketched_gradients, 2)
        return curved + ranged - value * (self._sketched_basis[:, :k] @ x)

    def _residual(self, path: int, value: complex, x: np.ndarray) -> Tensor:
        """Return the residual of a path, or the larger of its real and imaginary part."""
        re, im = (self._vector(part) for part in (np.real(x), np.imag(x)))
        if not np.imag(x).any():
            return self._product(path, re) - value.real * re
        return max(
            self._product(path, re) - value.real * re + value.imag * im,
            self._product(path, im) - value.real * im - value.imag * re,
            key=torch.linalg.vector_norm,
        )

    def _vanishes(self, path: int) -> bool:
        return not (self._c.slope[path].any() or self._c.hessian[path].any())

    def _worst(self, values: dict[int, tuple[complex, float, np.ndarray]]) -> list[int]:
        """Choose a few paths whose residuals are large and point in different directions."""
        paths = [p for p, (value, residual, _) in values.items() if value and np.isfinite(residual)]
        if not paths:
            return []
        left = np.array(
            [self._sketched_residual(p, values[p][0], values[p][2]) / abs(values[p][0]) for p in paths]
        )
        chosen: list[int] = []
        while len(chosen) < min(_N_CHOSEN, len(paths)):
            norms = np.linalg.norm(left, axis=1)
            best = int(norms.argmax())
            # What is smaller adds little, and its sketch is mostly noise.
            if norms[best] <= self._tolerance / 2:
                break
            chosen.append(paths[best])
            direction = left[best] / norms[best]
            left = left - np.outer(left @ direction.conj(), direction)
        return chosen

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

    def _add(self, direction: Tensor) -> list[Tensor] | None:
        """Add what a direction has outside V; return its product with each example's Hessian, None if nothing."""
        vector = self._outside(direction)
        if vector is None:
            return None
        k = self.size
        self._basis[k] = vector
        products = [self._encoder.hessian_product(example, self._u, vector) for example in self._examples]
        for e, product in enumerate(products):
            column = (self._basis[: k + 1] @ product).double().cpu().numpy()
            if not np.isfinite(column).all():
                raise FloatingPointError(
                    "Invalid Hessian of the encoder: an inf or a NaN; expected finite numbers"
                )
            self._inner[e, : k + 1, k] = self._inner[e, k, : k + 1] = column  # Hessians are symmetric
            self._sketched[e, :, k] = self._sketch(product[None])[:, 0]
        self._sketched_basis[:, k] = self._sketch(vector[None])[:, 0]
        self._projected[:, :, k] = (self._gradients @ vector).double().cpu().numpy()
        self.size += 1
        return products

    def _outside(self, direction: Tensor) -> Tensor | None:
        """Return the unit vector along what a direction has outside V, None if that is rounding or V is full."""
        norm = torch.linalg.vector_norm(direction)
        if self.size == self._max_size or not norm > 0:
            return None
        rest, known = direction / norm, self._basis[: self.size]
        for _ in range(3):
            rest = rest - (known @ rest) @ known
            if not torch.linalg.vector_norm(rest) > 1e2 * torch.finfo(rest.dtype).eps:
                return None
        return rest / torch.linalg.vector_norm(rest)

    def _sketch(self, rows: Tensor) -> np.ndarray:
        """Return sums of entries with random signs, shape ``(_SKETCH, len(rows))``."""
        signed = rows * self._signs
        padded = torch.nn.functional.pad(signed, (0, -signed.shape[-1] % _SKETCH))
        return padded.view(len(rows), -1, _SKETCH).sum(1).double().cpu().numpy().T

    def _vector(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(x)).to(self._basis) @ self._basis[: self.size]


def _stronger(x: np.ndarray) -> np.ndarray:
    """Return the larger of real and imaginary part."""
    return max(np.real(x), np.imag(x), key=np.linalg.norm)


def _principal(vectors: Tensor, n: int) -> Tensor:
    """Return at most ``n`` principal directions of some vectors, those below a hundredth of the first left out."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    unit = vectors[norms > 0] / norms[norms > 0, None]
    values, weights = torch.linalg.eigh((unit @ unit.T).double())
    large = values.flip(0) > 1e-4 * values.max() if len(values) else values > 0
    return weights.flip(1)[:, large][:, : max(1, n)].T.to(unit) @ unit
