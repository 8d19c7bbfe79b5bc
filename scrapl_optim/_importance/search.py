"""One run of theta-importance: the derivatives and values that are known, and those that a method asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from scrapl_optim._importance.derivatives import PathDerivatives, path_derivatives
from scrapl_optim._importance.eigenvalue import Eigenvalue
from scrapl_optim._importance.problem import Problem
from scrapl_optim._importance.progress import Progress
from scrapl_optim._importance.store import ImportanceStore

# Yields a path, its slope (B, U) and its Hessian (B, U, U), for each of the paths in order.
Derivatives = Callable[[Tensor, Any, Sequence[int]], Iterable[tuple[int, Tensor, Tensor]]]
# Returns the value of a path and a control from the derivatives of the path on all batches.
Value = Callable[[int, int, Sequence[PathDerivatives]], Eigenvalue]


class Method(Protocol):
    """A way to find the values, with the options that it needs.

    Attributes:
        label: name in folders of results and in ``ThetaImportance.method``.
    """

    label: ClassVar[str]

    @property
    def tolerance(self) -> float:
        """Relative residual of a value to stop at."""
        ...

    def find_values(self, search: Search, paths: Sequence[int]) -> None:
        """Find and keep what is not known of the values of some paths."""
        ...


class Search:
    """The state of one run, which a method asks for derivatives and hands values to.

    Args:
        problem: functions, data and weights that define the matrices.
        thetas: controls of each batch, detached.
        store: what is known.
        seed: of starting vectors.
        dtype: that controls are cast to before the synthesizer; ``None`` leaves them.
        derivatives: takes the place of double backward passes, or ``None``.
        report: called with where the run stands.
    """

    def __init__(
        self,
        problem: Problem,
        thetas: Sequence[Tensor],
        store: ImportanceStore,
        *,
        seed: int,
        dtype: torch.dtype | None,
        derivatives: Derivatives | None,
        report: Callable[[Progress], None],
    ) -> None:
        self.problem, self.thetas, self.seed = problem, thetas, seed
        self.n_controls = thetas[0].shape[1]
        self._store, self._dtype, self._derivatives, self._report = store, dtype, derivatives, report
        self._done = self._total = 0

    def run(self, method: Method, paths: Sequence[int]) -> None:
        """Let a method find the values of some paths that are not known yet."""
        self._total = len(paths) * self.n_controls
        for p in paths:
            for u in range(self.n_controls):
                known = self._store.get(p, u)
                if known is not None:
                    self.advance("values", p, u, known)
        if any(self._open_controls(p) for p in paths):
            method.find_values(self, paths)

    def find_one_by_one(self, paths: Sequence[int], value: Value) -> None:
        """Find the values that are not known, path by path."""
        incomplete = [p for p in paths if self._open_controls(p)]
        for p, derivatives in self.derivatives(incomplete):
            self.advance("derivatives", p)
            for u in self._open_controls(p):
                self.keep(p, u, value(p, u, derivatives))

    def derivatives(self, paths: Sequence[int]) -> Iterator[tuple[int, list[PathDerivatives]]]:
        """Yield paths with their s and H on all batches, from the store where it has them."""
        known = {p: self._store.derivatives(p) for p in paths}
        computed = self._compute([p for p in paths if known[p] is None])
        for p in paths:
            derivatives = known.pop(p)
            if derivatives is None:
                derivatives = next(computed)
                self._store.put_derivatives(p, derivatives)
            yield p, derivatives

    def keep(self, path: int, u: int, value: Eigenvalue) -> None:
        """Keep a value, unless it is known already."""
        if self._store.get(path, u) is None:
            self._store.put(path, u, value)
            self.advance("values", path, u, value)

    def advance(
        self, stage: str, path: int | None = None, u: int | None = None, value: Eigenvalue | None = None
    ) -> None:
        """Report a step of the work."""
        self._done += stage == "values"
        self._report(Progress(self._done, self._total, stage, path, u, value))

    def _open_controls(self, path: int) -> list[int]:
        """Return the controls of a path whose values are not known."""
        return [u for u in range(self.n_controls) if self._store.get(path, u) is None]

    def _compute(self, paths: Sequence[int]) -> Iterator[list[PathDerivatives]]:
        """Yield s and H of each path on all batches."""
        if not paths:
            return
        streams = [
            self._stream(batch, theta if self._dtype is None else theta.to(self._dtype), paths)
            for batch, theta in zip(self.problem.batches, self.thetas, strict=True)
        ]
        for p in paths:
            derivatives = [next(stream) for stream in streams]
            if not all(bool(part.isfinite().all()) for on_batch in derivatives for part in on_batch):
                raise FloatingPointError(
                    f"Invalid derivatives of path {p} with respect to the controls: an inf or a NaN; expected "
                    "finite ones; look for a square root or a norm at zero in the synthesizer or this path's loss"
                )
            yield derivatives

    def _stream(self, batch: Any, theta: Tensor, paths: Sequence[int]) -> Iterator[PathDerivatives]:
        """Yield s and H of each path on a batch."""
        if self._derivatives is None:
            for p in paths:
                yield path_derivatives(self.problem.loss(batch, p), theta)
            return
        for p, (path, slope, hessian) in zip(paths, self._derivatives(theta, batch, list(paths)), strict=True):
            if path != p:
                raise ValueError(f"Invalid derivatives: path {path} in place of {p}; expected the order of paths")
            yield PathDerivatives(slope.detach(), hessian.detach())


def largest_entry(derivatives: Sequence[PathDerivatives], u: int) -> float:
    """Return the largest of the numbers that make up the matrix of a control."""
    return max(
        max(float(hessian[:, u].abs().max()), float(slope[:, u].abs().max())) for slope, hessian in derivatives
    )
