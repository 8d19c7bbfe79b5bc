"""theta-importance sampling: which paths tell most about the controls of a synthesizer."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from scrapl_optim.eigenvalue import Eigenvalue, dominant_eigenvalue
from scrapl_optim.encoder_curvature import EncoderCurvature
from scrapl_optim.importance_checks import check_problem
from scrapl_optim.importance_store import ImportanceStore
from scrapl_optim.path_curvature import PathCurvature, path_curvature
from scrapl_optim.probabilities import probabilities

METHODS = ("exact", "control_curvature")


class Problem(NamedTuple):
    """What the importance of paths is asked of.

    Attributes:
        encoder: maps a batch to controls theta of shape ``(B, U)``; deterministic.
        synth: maps controls and the batch to a sound, or whatever the path loss takes; deterministic.
        path_loss: maps the sound, the batch and a path to a scalar, a mean or sum over examples.
        batches: the data; anything that the three understand.
        params: weights of the encoder.
        n_paths: P.
    """

    encoder: Callable[[Any], Tensor]
    synth: Callable[[Tensor, Any], Any]
    path_loss: Callable[[Any, Any, int], Tensor]
    batches: Sequence[Any]
    params: Sequence[Tensor]
    n_paths: int


class Progress(NamedTuple):
    """Where a run stands.

    Attributes:
        done: values of C that are known, those found on disk included.
        total: values of C that this process is to know.
        path_idx: path of the last one.
        control: its control u.
        found: the value with its residual.
    """

    done: int
    total: int
    path_idx: int
    control: int
    found: Eigenvalue


@dataclass(frozen=True)
class ThetaImportance:
    r"""Importances and what they are worth.

    Attributes:
        curvature: C, :math:`|\lambda_{max}|` for each control and path, shape ``(U, P)``, float64; NaN where
            another process has not been yet.
        residual: relative residual of each, shape ``(U, P)``; 0 for surrogates.
        n_products: products with the matrix that each took, shape ``(U, P)``, int64.
        tolerance: residual that was asked for.
        method: how C was computed.
    """

    curvature: Tensor
    residual: Tensor
    n_products: Tensor
    tolerance: float
    method: str

    @property
    def pi(self) -> Tensor:
        """Probabilities of the paths, shape ``(P,)``, float64, of equation (10).

        Raises:
            RuntimeError: if values are missing.
        """
        missing = self.curvature.isnan().any(0).nonzero().flatten().tolist()
        if missing:
            raise RuntimeError(
                f"{len(missing)} paths have no importance yet (first: {missing[:5]}); let the processes that "
                "share the work finish, then run again with the same folder"
            )
        return probabilities(self.curvature)

    @property
    def unconverged(self) -> list[tuple[int, int]]:
        """Path and control of each value whose residual is above the tolerance."""
        return [(int(p), int(u)) for u, p in (self.residual > self.tolerance).nonzero().tolist()]


def theta_importance(
    encoder: Callable[[Any], Tensor],
    synth: Callable[[Tensor, Any], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    batches: Sequence[Any],
    params: Iterable[Tensor],
    n_paths: int,
    *,
    paths: Iterable[int] | None = None,
    method: Literal["exact", "control_curvature"] = "exact",
    tolerance: float = 1e-3,
    max_products: int = 60,
    max_basis: int = 20,
    max_graphs: int = 1,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
    folder: str | Path | None = None,
    share: tuple[int, int] = (0, 1),
    check: bool = True,
    progress: bool | Callable[[Progress], None] = False,
) -> ThetaImportance:
    r"""Find the curvature C of each path's loss in the weights that set each control, and pi from it.

    .. math:: C_{up} = |\lambda_{max}(M_{pu})|, \qquad
              M_{pu} = \nabla_w \sum_b s_{pbu}(w) \nabla_w \theta_{bu}(w), \qquad
              s_{pbu} = \frac{\partial L_p}{\partial \theta_{bu}} .

    Synthesizer and transform are differentiated twice, once for each path and control; the eigenvalue is then
    found by products that touch the encoder alone (:class:`scrapl_optim.encoder_curvature.EncoderCurvature`).

    Args:
        encoder: maps a batch to controls of shape ``(B, U)``.
        synth: ``synth(theta, batch)``: the sound, or whatever ``path_loss`` takes.
        path_loss: ``path_loss(sound, batch, path_idx)``: a scalar, mean or sum over examples.
        batches: the data, a sequence of anything that the three understand. Their matrices add up: with a loss
            that is a mean over examples, let batches be of one size. Encoder, synthesizer and loss must give the
            same for the same batch each time.
        params: weights of the encoder to consider, all of one dtype and device.
        n_paths: P.
        paths: paths to compute; all if ``None``. The others' values are NaN unless ``folder`` has them.
        method: ``"exact"``, or a surrogate, named for what it computes: ``"control_curvature"``,
            :math:`|\sum_b H_{pbuu}|`, which leaves the encoder out.
        tolerance: relative residual of an eigenvalue to stop at.
        max_products: products to take at most for one eigenvalue; values not converged by then are named in
            ``ThetaImportance.unconverged``.
        max_basis: memory of the eigenvalue search: at most one and a half times as many vectors as large as all
            weights; at least 4.
        max_graphs: batches whose graph through the encoder's gradient is kept between products. More are
            faster, fewer take less memory; a batch's own share is for you to choose by its size.
        dtype: controls are cast to it before ``synth``; ``None`` leaves them as they are. Weak paths need
            float64 (their curvature was up to 450 times too large in float32).
        seed: of the vectors that searches start from; each path and control has one of its own.
        folder: directory for results as they come; a run that finds it goes on from there.
        share: ``(rank, count)``: take each ``count``-th path and control; processes may use one folder.
        check: look for what would make the result meaningless first; see Raises.
        progress: ``True`` for a bar (needs tqdm), or a callable.

    Returns:
        C, residuals, pi.

    Raises:
        TypeError, ValueError: if an argument is not what is expected, controls do not have shape ``(B, U)``
            with one U, or ``folder`` belongs to another run.
        RuntimeError: if encoder or synthesizer are not deterministic, are in training mode with dropout or
            batch norm, weights do not reach the controls, or a loss couples examples; it says who is at fault.
        FloatingPointError: if the curvature of a path, which is named, is not finite.

    Example:
        >>> import torch
        >>> encoder = torch.nn.Linear(3, 2).double()
        >>> x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> found = theta_importance(
        ...     lambda batch: encoder(batch).tanh(), lambda theta, batch: theta.sin(),
        ...     lambda sound, batch, path: (path + 1) * ((sound - 1) ** 2).mean(),
        ...     [x], encoder.parameters(), n_paths=3)
        >>> (found.pi * 6).round(decimals=3)  # three losses, one twice and one three times the first
        tensor([1., 2., 3.], dtype=torch.float64)

    Source: SCRAPL, section 3.4, equations (10) to (12).
    """
    problem = Problem(encoder, synth, path_loss, list(batches), list(params), n_paths)
    chosen = _chosen_paths(problem, paths, method, share, max_graphs)
    thetas = check_problem(problem, chosen, dtype, seed, thorough=check)
    n_controls = thetas[0].shape[1]
    store = ImportanceStore(folder, n_controls, n_paths)
    store.claim(problem.params, thetas, {"method": method, "tolerance": tolerance, "seed": seed})
    units = [(p, u) for p in chosen for u in range(n_controls)][share[0] :: share[1]]
    search = _Search(problem, thetas, method, dtype, seed, (tolerance, max_products, max_basis), max_graphs)
    with _reporter(progress) as report:
        for done, (p, u, found) in enumerate(_values(store, search, units), 1):
            report(Progress(done, len(units), p, u, found))
    return ThetaImportance(**store.table(), tolerance=tolerance, method=method)


def _chosen_paths(
    problem: Problem, paths: Iterable[int] | None, method: str, share: tuple[int, int], max_graphs: int
) -> list[int]:
    """Return the paths to compute; raise where arguments are not what is expected."""
    if not problem.batches:
        raise ValueError("batches is empty, expected at least one batch")
    if not problem.params:
        raise ValueError("params is empty, expected the weights of the encoder")
    kinds = {(param.dtype, param.device) for param in problem.params}
    if len(kinds) > 1:
        raise ValueError(f"params are of several dtypes or devices, {sorted(map(str, kinds))}; expected one")
    if method not in METHODS:
        raise ValueError(f"method={method!r}, expected one of {METHODS}")
    if problem.n_paths < 1:
        raise ValueError(f"n_paths={problem.n_paths}, expected at least 1")
    if max_graphs < 0:
        raise ValueError(f"max_graphs={max_graphs}, expected 0 or more")
    rank, count = share
    if not 0 <= rank < count:
        raise ValueError(f"share={share}, expected (rank, count) with 0 <= rank < count")
    chosen = list(range(problem.n_paths)) if paths is None else sorted({operator.index(p) for p in paths})
    outside = [p for p in chosen if not 0 <= p < problem.n_paths]
    if outside or not chosen:
        raise ValueError(f"paths={outside or chosen}, expected some in [0, {problem.n_paths})")
    return chosen


@contextmanager
def _reporter(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda _: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise RuntimeError("progress=True needs tqdm: pip install tqdm, or pass a callable") from error
    with tqdm(unit="value") as bar:

        def show(state: Progress) -> None:
            bar.total = state.total
            bar.set_postfix(path=state.path_idx, control=state.control, residual=f"{state.found.residual:.0e}")
            bar.update(state.done - bar.n)

        yield show


def _values(
    store: ImportanceStore, search: "_Search", units: list[tuple[int, int]]
) -> Iterator[tuple[int, int, Eigenvalue]]:
    """Yield the value of each unit, found on disk or now; the controls of a path are taken together."""
    for p in dict.fromkeys(path for path, _ in units):
        controls = [u for path, u in units if path == p]
        for u in controls:
            known = store.get(p, u)
            if known is not None:
                yield p, u, known
        missing = [u for u in controls if store.get(p, u) is None]
        for u, found in search.path(p, missing):
            store.put(p, u, found)
            yield p, u, found


class _Search(NamedTuple):
    """Finds the values of a path."""

    problem: Problem
    thetas: list[Tensor]
    method: str
    dtype: torch.dtype | None
    seed: int
    limits: tuple[float, int, int]
    max_graphs: int

    def path(self, path: int, controls: list[int]) -> Iterator[tuple[int, Eigenvalue]]:
        if not controls:
            return
        curvatures = [
            self._curvature(batch, theta, path, controls)
            for batch, theta in zip(self.problem.batches, self.thetas, strict=True)
        ]
        encoder = EncoderCurvature(
            self.problem.encoder, self.problem.batches, self.problem.params, self.max_graphs
        )
        for row, u in enumerate(controls):
            if self.method == "control_curvature":
                value = sum(float(c.hessian[:, row, u].sum()) for c in curvatures)
                yield u, Eigenvalue(complex(value), 0.0, 0, True)
            else:
                yield u, self._eigenvalue(encoder, curvatures, path, u, row)

    def _curvature(self, batch: Any, theta: Tensor, path: int, controls: list[int]) -> PathCurvature:
        problem = self.problem

        def loss(controls: Tensor) -> Tensor:
            return problem.path_loss(problem.synth(controls, batch), batch, path)

        found = path_curvature(loss, theta if self.dtype is None else theta.to(self.dtype), controls)
        if not bool(found.slope.isfinite().all() and found.hessian.isfinite().all()):
            raise FloatingPointError(
                f"the derivatives of path {path} with respect to the controls have an inf or a NaN; look for a "
                "square root or a norm at zero in the synthesizer or the loss of this path"
            )
        return found

    def _eigenvalue(
        self, encoder: EncoderCurvature, curvatures: list[PathCurvature], path: int, u: int, row: int
    ) -> Eigenvalue:
        n_controls = self.thetas[0].shape[1]
        generator = torch.Generator().manual_seed((self.seed * self.problem.n_paths + path) * n_controls + u)
        start = torch.randn(encoder.n_weights, generator=generator, dtype=torch.float64)
        scale = max(float(c.hessian[:, row].abs().max()) for c in curvatures)
        scale = max(scale, *(float(c.slope[:, u].abs().max()) for c in curvatures))
        if scale == 0.0:
            return Eigenvalue(0j, 0.0, 0, True)
        # Gradients of path losses may be too small for the squares in float32 norms.
        scaled = [PathCurvature(c.slope / scale, c.hessian / scale) for c in curvatures]
        tolerance, max_products, max_basis = self.limits
        try:
            found = dominant_eigenvalue(
                encoder.products(scaled, u, row),
                start.to(encoder.device, encoder.dtype),
                tolerance=tolerance,
                max_products=max_products,
                max_basis=max_basis,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"path {path}, control {u}: {error}; look into the encoder") from error
        return found._replace(value=found.value * scale)
