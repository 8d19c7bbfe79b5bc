"""How the values of theta-importance are computed: path by path, or with a subspace shared by all paths."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim.eigenvalue import Eigenvalue, dominant_eigenvalue
from scrapl_optim.encoder_curvature import EncoderCurvature
from scrapl_optim.example_hessians import ExampleHessians
from scrapl_optim.importance_arguments import Limits, Problem
from scrapl_optim.importance_store import ImportanceStore
from scrapl_optim.path_curvature import PathCurvature, path_curvature
from scrapl_optim.shared_subspace import Coefficients, SharedSubspace

_Value = Callable[[list[PathCurvature], int, int, int], Eigenvalue]
"""The value of a path and control from derivatives on all batches, with the control's row in each Hessian."""

Curvature = Callable[[Tensor, Any, Sequence[int]], Iterable[tuple[int, Tensor, Tensor]]]


class Search(NamedTuple):
    """Finds the values of some paths and controls.

    Attributes:
        problem: whose they are.
        thetas: controls of each batch.
        method: one of ``METHODS``.
        dtype: of the controls for the synthesizer.
        seed: of starting vectors.
        limits: when to stop.
        curvature: what takes the place of double backward passes, or ``None``.
        split: cuts a batch into examples, or ``None``.
        advance: called after each piece of work with the stage, path and control and the value, if there is one.
    """

    problem: Problem
    thetas: list[Tensor]
    method: str
    dtype: torch.dtype | None
    seed: int
    limits: Limits
    curvature: Curvature | None
    split: Callable[[Any], Sequence[Any]] | None
    advance: Callable[..., None]

    def run(self, store: ImportanceStore, controls: dict[int, list[int]]) -> None:
        """Find and keep the values of the controls of each path that are not known yet."""
        for p, us in controls.items():
            for u in us:
                known = store.get(p, u)
                if known is not None:
                    self.advance("values", p, u, known)
        if all(store.get(p, u) is not None for p, us in controls.items() for u in us):
            return
        if self.method == "shared_subspace":
            self._together(store, controls)
        else:
            self._one_by_one(store, controls)

    def derivatives(
        self, store: ImportanceStore, controls: dict[int, list[int]]
    ) -> Iterator[tuple[int, list[PathCurvature]]]:
        """Yield s and H of each path on all batches, with the rows of ``controls`` in each H."""
        known = {p: store.derivatives(p, us) for p, us in controls.items()}
        fresh = self._fresh({p: us for p, us in controls.items() if known[p] is None})
        for p, us in controls.items():
            found = known[p]
            if found is None:
                found = next(fresh)
                store.put_derivatives(p, us, found)
            yield p, found

    def _fresh(self, controls: dict[int, list[int]]) -> Iterator[list[PathCurvature]]:
        if not controls:
            return
        streams = [
            self._stream(batch, theta if self.dtype is None else theta.to(self.dtype), controls)
            for batch, theta in zip(self.problem.batches, self.thetas, strict=True)
        ]
        for p in controls:
            found = [next(stream) for stream in streams]
            for curvature in found:
                if not bool(curvature.slope.isfinite().all() and curvature.hessian.isfinite().all()):
                    raise FloatingPointError(
                        f"the derivatives of path {p} with respect to the controls have an inf or a NaN; look for "
                        "a square root or a norm at zero in the synthesizer or the loss of this path"
                    )
            yield found

    def _stream(self, batch: Any, theta: Tensor, controls: dict[int, list[int]]) -> Iterator[PathCurvature]:
        if self.curvature is not None:
            given = self.curvature(theta, batch, list(controls))
            for (p, us), (path, slope, hessian) in zip(controls.items(), given, strict=True):
                if path != p:
                    raise ValueError(f"curvature gave path {path} where path {p} was asked for; keep the order")
                yield PathCurvature(slope.detach(), hessian.detach()[:, us])
            return
        for p, us in controls.items():
            yield path_curvature(self.loss(batch, p), theta, us)

    def loss(self, batch: Any, path: int) -> Callable[[Tensor], Tensor]:
        """Return the loss of a path as a function of the controls."""
        problem = self.problem
        return lambda theta: problem.path_loss(problem.synth(theta, batch), batch, path)

    def _one_by_one(self, store: ImportanceStore, controls: dict[int, list[int]]) -> None:
        makers: dict[str, Callable[[], _Value]] = {"exact": self._exact, "gauss_newton": self._gauss_newton}
        value = _control_curvature if self.method == "control_curvature" else makers[self.method]()
        open_ = {p: [u for u in us if store.get(p, u) is None] for p, us in controls.items()}
        for p, curvatures in self.derivatives(store, {p: us for p, us in open_.items() if us}):
            self.advance("derivatives", p)
            for row, u in enumerate(open_[p]):
                found = value(curvatures, p, u, row)
                store.put(p, u, found)
                self.advance("values", p, u, found)

    def _exact(self) -> _Value:
        problem = self.problem
        encoder = EncoderCurvature(problem.encoder, problem.batches, problem.params, self.limits.max_graphs)
        return partial(self._arnoldi, encoder)

    def _gauss_newton(self) -> _Value:
        gradients = self._gradients(self._hessians())
        n_examples, n_controls, _ = gradients.shape
        flat = gradients.flatten(0, 1)
        gram = (flat @ flat.T).double().cpu().numpy().reshape(n_examples, n_controls, n_examples, n_controls)

        def value(curvatures: list[PathCurvature], path: int, u: int, row: int) -> Eigenvalue:
            hessian = np.concatenate([c.hessian[:, row].double().cpu().numpy() for c in curvatures])
            # A sum of h g^T over examples has the non-zero eigenvalues of the small matrix of products g . h.
            small = np.einsum("efv,fv->ef", gram[:, u], hessian)
            values = np.linalg.eigvals(small)
            return Eigenvalue(complex(values[np.abs(values).argmax()]), 0.0, 0, True)

        return value

    def _hessians(self) -> ExampleHessians:
        problem = self.problem
        return ExampleHessians(problem.encoder, self._examples(), problem.params, self.limits.max_graphs)

    def _gradients(self, hessians: ExampleHessians) -> Tensor:
        """Return the gradient of each control of each example, shape (E, U, n_weights)."""
        n_controls = self.thetas[0].shape[1]
        return torch.stack([
            torch.stack([hessians.gradient(e, u) for u in range(n_controls)]) for e in range(hessians.n_examples)
        ])  # fmt: skip

    def _arnoldi(
        self, encoder: EncoderCurvature, curvatures: list[PathCurvature], path: int, u: int, row: int
    ) -> Eigenvalue:
        n_controls = self.thetas[0].shape[1]
        generator = torch.Generator("cpu").manual_seed((self.seed * self.problem.n_paths + path) * n_controls + u)
        # On the CPU, whatever the default device and the weights', so that a seed means the same everywhere.
        start = torch.randn(encoder.n_weights, generator=generator, dtype=torch.float64, device="cpu")
        scale = _largest(curvatures, u, row)
        if scale == 0.0:
            return Eigenvalue(0j, 0.0, 0, True)
        # Gradients of path losses may be too small for the squares in float32 norms.
        scaled = [PathCurvature(c.slope / scale, c.hessian / scale) for c in curvatures]
        try:
            found = dominant_eigenvalue(
                encoder.products(scaled, u, row),
                start.to(encoder.device, encoder.dtype),
                tolerance=self.limits.tolerance,
                max_products=self.limits.max_products,
                max_basis=self.limits.max_basis,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"path {path}, control {u}: {error}; look into the encoder") from error
        return found._replace(value=found.value * scale)

    def _together(self, store: ImportanceStore, controls: dict[int, list[int]]) -> None:
        """Find all values of a control with one subspace; those known take part, so that a resumed run agrees."""
        known = {}
        for p, curvatures in self.derivatives(store, controls):
            known[p] = curvatures
            self.advance("derivatives", p)
        hessians = self._hessians()
        gradients = self._gradients(hessians)
        for u in range(gradients.shape[1]):
            paths = [p for p, us in controls.items() if u in us]
            rows = [controls[p].index(u) for p in paths]
            scales = [_largest(known[p], u, row) for p, row in zip(paths, rows, strict=True)]
            acting = [i for i, scale in enumerate(scales) if scale > 0]
            for i in set(range(len(paths))) - set(acting):
                self._keep(store, paths[i], u, Eigenvalue(0j, 0.0, 0, True))
            if acting:
                chosen = [(paths[i], scales[i]) for i in acting]
                coefficients = _coefficients([(known[paths[i]], u, rows[i], scales[i]) for i in acting])
                self._subspace(store, hessians, gradients, u, coefficients, chosen)
            hessians.forget()

    def _subspace(
        self,
        store: ImportanceStore,
        hessians: ExampleHessians,
        gradients: Tensor,
        u: int,
        coefficients: Coefficients,
        paths: list[tuple[int, float]],
    ) -> None:
        limits = self.limits
        seed = self.seed * gradients.shape[1] + u
        sub = SharedSubspace(
            hessians, gradients, u, coefficients,
            tolerance=limits.tolerance, max_size=min(limits.max_subspace, hessians.n_weights), seed=seed,
        )  # fmt: skip
        try:
            for _ in sub.grow():
                self.advance("subspace")
            for i, (p, scale) in enumerate(paths):
                value, residual, _ = sub.value(i)
                found = Eigenvalue(value, residual, 0, residual <= limits.tolerance)
                if not found.converged:
                    found = sub.refined(i, limits.max_products, limits.max_basis)
                self._keep(store, p, u, found._replace(value=found.value * scale))
        except FloatingPointError as error:
            raise FloatingPointError(f"control {u}: {error}; look into the encoder") from error

    def _keep(self, store: ImportanceStore, p: int, u: int, found: Eigenvalue) -> None:
        if store.get(p, u) is None:
            store.put(p, u, found)
            self.advance("values", p, u, found)

    def _examples(self) -> list[tuple[Any, int]]:
        """Return each example as a batch and a row of its controls."""
        examples: list[tuple[Any, int]] = []
        for batch, theta in zip(self.problem.batches, self.thetas, strict=True):
            if self.split is None:
                examples += [(batch, b) for b in range(theta.shape[0])]
                continue
            parts = list(self.split(batch))
            with torch.no_grad():
                apart = [self.problem.encoder(part) for part in parts]
            if sum(len(part) for part in apart) != theta.shape[0] or not torch.allclose(
                torch.cat(apart), theta, rtol=1e-3, atol=1e-5
            ):
                raise ValueError(
                    "split does not cut a batch into its examples: the encoder does not give the parts, in order, "
                    "what it gives the batch; leave split out, or see whether the encoder couples examples"
                )
            examples += [(part, b) for part, found in zip(parts, apart, strict=True) for b in range(len(found))]
        return examples


def _control_curvature(curvatures: list[PathCurvature], path: int, u: int, row: int) -> Eigenvalue:
    return Eigenvalue(complex(sum(float(c.hessian[:, row, u].sum()) for c in curvatures)), 0.0, 0, True)


def _largest(curvatures: list[PathCurvature], u: int, row: int) -> float:
    """Return the largest of the numbers that make up the matrix of a control."""
    return max(max(float(c.hessian[:, row].abs().max()), float(c.slope[:, u].abs().max())) for c in curvatures)


def _coefficients(paths: list[tuple[list[PathCurvature], int, int, float]]) -> Coefficients:
    slopes = [np.concatenate([c.slope[:, u].cpu().numpy() / scale for c in cs]) for cs, u, _, scale in paths]
    rows = [np.concatenate([c.hessian[:, row].cpu().numpy() / scale for c in cs]) for cs, _, row, scale in paths]
    return Coefficients(np.array(slopes, dtype=np.float64), np.array(rows, dtype=np.float64))
