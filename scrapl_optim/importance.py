"""theta-importance sampling: which paths tell most about the controls of a synthesizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._validation import as_int
from scrapl_optim.eigenvalue import Eigenvalue
from scrapl_optim.importance_arguments import as_chosen, as_limits, as_problem, as_share, check_options
from scrapl_optim.importance_checks import check_curvature, check_problem
from scrapl_optim.importance_search import Curvature, Search
from scrapl_optim.importance_store import ImportanceStore
from scrapl_optim.probabilities import probabilities


class Progress(NamedTuple):
    """Where a run stands.

    Attributes:
        done: values of C that are known, those found on disk included.
        total: values of C that this process is to know.
        stage: what was done last: "derivatives" of a path, a larger "subspace", or one of the "values".
        path_idx: path of the last derivatives or value.
        control: control u of the last value, ``None`` at other stages.
        found: the value with its residual.
    """

    done: int
    total: int
    stage: str
    path_idx: int | None = None
    control: int | None = None
    found: Eigenvalue | None = None


@dataclass(frozen=True)
class ThetaImportance:
    r"""Importances and what they are worth.

    Attributes:
        curvature: C, :math:`|\lambda_{max}|` for each control and path, shape ``(U, P)``, float64; NaN where
            another process has not been yet.
        residual: relative residual of each, shape ``(U, P)``; 0 for surrogates.
        n_products: products with the matrix that each took alone, shape ``(U, P)``, int64; 0 where the shared
            subspace was enough.
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
    method: Literal["exact", "shared_subspace", "gauss_newton", "control_curvature"] = "exact",
    curvature: Curvature | None = None,
    split: Callable[[Any], Sequence[Any]] | None = None,
    tolerance: float = 1e-3,
    max_products: int = 60,
    max_basis: int = 20,
    max_subspace: int = 120,
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
        method: ``"exact"``, each value apart by Arnoldi's method. ``"shared_subspace"``, the same values to the
            same tolerance from one subspace for all paths of a control, much faster where paths are many and
            examples few (:class:`scrapl_optim.shared_subspace.SharedSubspace`); which paths take part changes
            them within the tolerance. Or a surrogate, named for what it computes: ``"gauss_newton"``, the
            eigenvalue of :math:`\sum_b (\sum_{u'} H_{pbuu'} \nabla\theta_{bu'}) \nabla\theta_{bu}^\top`, without
            the encoder's own curvature; ``"control_curvature"``, :math:`|\sum_b H_{pbuu}|`, without the encoder.
        curvature: ``curvature(theta, batch, paths)`` yields ``(path, slope, hessian)`` for each of ``paths`` in
            order: s and H of shapes ``(B, U)`` and ``(B, U, U)``, where there is a cheaper way than double
            backward passes (for JTFS paths ``scrapl_jtfs.PathTaylor``). It is checked against these on a path.
        split: cuts a batch into batches of one example for the encoder, in which ``"shared_subspace"`` is B
            times cheaper.
        tolerance: relative residual of an eigenvalue to stop at. A loose one may be met at the second-largest
            eigenvalue first: at 1e-2 ``"exact"`` left single values up to 8% low, pi 6e-4 off.
        max_products: products to take at most for one eigenvalue; values not converged by then are named in
            ``ThetaImportance.unconverged``.
        max_basis: memory of the eigenvalue search: at most one and a half times as many vectors as large as all
            weights; at least 4.
        max_subspace: dimension of a shared subspace at most, beyond which values are found one by one from what
            there is. Its memory is ``max_subspace`` vectors as large as all weights, and U for each example.
        max_graphs: batches, or examples for a shared subspace, whose graph through the encoder's gradient is
            kept between products. More are faster, fewer take less memory; a batch's own share is for you to
            choose by its size.
        dtype: controls are cast to it before ``synth``; ``None`` leaves them as they are. Weak paths need
            float64 (their curvature was up to 450 times too large in float32).
        seed: of the vectors that searches start from; each path and control has one of its own.
        folder: directory for results as they come; a run that finds it goes on from there.
        share: ``(rank, count)``: take each ``count``-th path, or each ``count``-th path and control if there are
            more processes than paths; processes may use one folder.
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
    problem = as_problem(encoder, synth, path_loss, batches, params, n_paths)
    limits = as_limits(tolerance, max_products, max_basis, max_subspace, max_graphs)
    check_options(method, curvature, split, dtype, folder, check, progress)
    chosen, share, seed = as_chosen(paths, problem.n_paths), as_share(share), as_int(seed, "seed")
    thetas = check_problem(problem, chosen, dtype, seed, thorough=check)
    n_controls = thetas[0].shape[1]
    store = ImportanceStore(folder, n_controls, problem.n_paths)
    store.claim(problem.params, thetas, {"method": method, "tolerance": limits.tolerance, "seed": seed})
    controls = _shared_out(chosen, n_controls, share)
    with reporter(progress) as report:
        done, total = 0, sum(map(len, controls.values()))

        def advance(stage: str, p: int | None = None, u: int | None = None, found: Any = None) -> None:
            nonlocal done
            done += stage == "values"
            report(Progress(done, total, stage, p, u, found))

        search = Search(problem, thetas, method, dtype, seed, limits, curvature, split, advance)
        if check and curvature is not None:
            check_curvature(search, chosen[0])
        search.run(store, controls)
    return ThetaImportance(**store.table(), tolerance=limits.tolerance, method=method)


def _shared_out(paths: list[int], n_controls: int, share: tuple[int, int]) -> dict[int, list[int]]:
    """Return the controls of each path that are this process's."""
    rank, count = share
    if count <= len(paths):
        return {p: list(range(n_controls)) for p in paths[rank::count]}
    units = [(p, u) for p in paths for u in range(n_controls)][rank::count]
    return {p: [u for path, u in units if path == p] for p in dict.fromkeys(p for p, _ in units)}


@contextmanager
def reporter(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Give what tells a callable, a bar or nobody where a run stands."""
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
            residual = "" if state.found is None else f"{state.found.residual:.0e}"
            bar.set_postfix(stage=state.stage, path=state.path_idx, control=state.control, residual=residual)
            bar.update(state.done - bar.n)

        yield show
