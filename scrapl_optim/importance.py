"""theta-importance sampling: which paths tell most about the controls of a synthesizer (equations 10 to 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scrapl_optim._deprecation import rename_fields, renamed_property
from scrapl_optim._importance.arnoldi import Arnoldi
from scrapl_optim._importance.checks import as_path_ids, check_options, check_rank
from scrapl_optim._importance.derivatives import PathDerivatives as PathDerivatives  # of scrapl_jtfs.taylor
from scrapl_optim._importance.old_call import as_new_call
from scrapl_optim._importance.problem import as_problem, check_derivatives, check_problem
from scrapl_optim._importance.progress import Progress, reporter
from scrapl_optim._importance.search import Derivatives, Method, Search
from scrapl_optim._importance.shared_subspace import SharedSubspace
from scrapl_optim._importance.store import ImportanceStore
from scrapl_optim._validation import as_int
from scrapl_optim.probabilities import probabilities

__all__ = ["Arnoldi", "Progress", "SharedSubspace", "ThetaImportance", "theta_importance"]


@rename_fields(curvature="importance")
@dataclass(frozen=True)
class ThetaImportance:
    r"""Importances C of paths, with the residuals that say how far they are to be trusted.

    Attributes:
        importance: C, :math:`|\lambda_{max}|` for each control and path, shape ``(U, P)``, float64; NaN where
            another process has not been yet.
        residual: relative residual of each, shape ``(U, P)``.
        n_products: products with the matrix that each took alone, shape ``(U, P)``, int64; 0 where the shared
            subspace was enough.
        tolerance: residual that was asked for.
        method: name of the method that computed C: "exact" for :class:`Arnoldi`, "shared_subspace".
    """

    importance: Tensor
    residual: Tensor
    n_products: Tensor
    tolerance: float
    method: str

    @property
    def probs(self) -> Tensor:
        r"""Probabilities :math:`\pi` of the paths, shape ``(P,)``, float64, of equation (10).

        Raises:
            RuntimeError: if values are missing.
        """
        missing = self.importance.isnan().any(0).nonzero().flatten().tolist()
        if missing:
            raise RuntimeError(
                f"Invalid importance: {len(missing)} paths have none yet (first: {missing[:5]}); expected all; "
                "let the processes that share the work finish, then run again with the same folder"
            )
        return probabilities(self.importance)

    @property
    def unconverged(self) -> list[tuple[int, int]]:
        """Path and control of each value whose residual is above the tolerance."""
        return [(int(p), int(u)) for u, p in (self.residual > self.tolerance).nonzero().tolist()]


ThetaImportance.pi = renamed_property("ThetaImportance", "pi", "probs")  # type: ignore[attr-defined]


def theta_importance(
    encoder: Callable[[Any], Tensor],
    synth: Callable[[Tensor, Any], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    batches: Sequence[Any],
    params: Iterable[Tensor],
    n_paths: int,
    *,
    method: Method = Arnoldi(),  # noqa: B008 (it cannot be changed)
    paths: Iterable[int] | None = None,
    derivatives: Derivatives | None = None,
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
    folder: str | Path | None = None,
    rank: int = 0,
    world_size: int = 1,
    check: bool = True,
    progress: bool | Callable[[Progress], None] = False,
    **deprecated: Any,
) -> ThetaImportance:
    r"""Find the importance C of each path for each control of a synthesizer, and probabilities from it.

    Importance is the curvature of the path's loss in the weights of the encoder that sets the control:

    .. math:: C_{up} = |\lambda_{max}(M_{pu})|, \qquad
              M_{pu} = \nabla_w \sum_b s_{pbu}(w) \nabla_w \theta_{bu}(w), \qquad
              s_{pbu} = \frac{\partial L_p}{\partial \theta_{bu}} .

    Synthesizer and transform are differentiated twice, once for each path and control; the eigenvalue is then
    found by products with M that touch the encoder alone. The examples b are added up within M, as in scrapl-loss;
    the paper prints the mean over examples of the eigenvalues, which is the same for one example.
    :func:`scrapl_optim.reference.importances` is this equation, literally.

    Args:
        encoder: maps a batch to controls of shape ``(B, U)``.
        synth: ``synth(theta, batch)``: the sound, or whatever ``path_loss`` takes.
        path_loss: ``path_loss(sound, batch, path_idx)``: a scalar, mean or sum over examples.
        batches: the data, a sequence of anything that the three understand. Their matrices add up: with a loss
            that is a mean over examples, let batches be of one size. Encoder, synthesizer and loss must give the
            same for the same batch each time.
        params: weights of the encoder to consider, all of one dtype and device.
        n_paths: the number P of paths.
        method: how the eigenvalues are found, with its options: :class:`Arnoldi`, each value by itself, or
            :class:`SharedSubspace`, the same values to the same tolerance from one subspace for all paths of a
            control, much faster where paths are many and examples few.
        paths: ids of the paths to compute; all if ``None``. The others' values are NaN unless ``folder`` has them.
        derivatives: ``derivatives(theta, batch, paths)`` yields ``(path, slope, hessian)`` for each of ``paths``
            in order: s and H of shapes ``(B, U)`` and ``(B, U, U)``, where there is a cheaper way than double
            backward passes (for JTFS paths ``scrapl_jtfs.PathTaylor``). It is checked against these on a path.
        dtype: controls are cast to it before ``synth``; ``None`` leaves them as they are. Weak paths need
            float64 (their importance was up to 450 times too large in float32).
        seed: of the vectors that searches start from; each path and control has one of its own.
        folder: directory for results as they come; a run that finds it goes on from there.
        rank: number of this process, from 0, where several share the work: it takes each ``world_size``-th path.
            Processes may use one folder; those in excess of the paths have nothing to do.
        world_size: number of processes.
        check: look first for faults that make the result meaningless; see Raises.
        progress: ``True`` for a bar (needs tqdm), or a callable.

    Returns:
        C, its residuals, and the probabilities.

    Raises:
        TypeError, ValueError: if an argument is out of its domain, controls do not have shape ``(B, U)`` with one
            U, or ``folder`` belongs to another run.
        RuntimeError: if encoder or synthesizer are not deterministic, are in training mode with dropout or
            batch norm, weights do not reach the controls, or a loss couples examples; it says which.
        FloatingPointError: if a derivative of a path, which is named, is not finite.

    Options of a method, a method's name, ``curvature`` (now ``derivatives``) and ``share`` (now ``rank`` and
    ``world_size``) are taken as loose keywords for one more release.

    Example:
        >>> import torch
        >>> encoder = torch.nn.Linear(3, 2).double()
        >>> x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> result = theta_importance(
        ...     lambda batch: encoder(batch).tanh(), lambda theta, batch: theta.sin(),
        ...     lambda sound, batch, path: (path + 1) * ((sound - 1) ** 2).mean(),
        ...     [x], encoder.parameters(), n_paths=3)
        >>> (result.probs * 6).round(decimals=3)  # three losses, one twice and one three times the first
        tensor([1., 2., 3.], dtype=torch.float64)

    Source: SCRAPL, section 3.4, equations (10) to (12).
    """
    method, derivatives, rank, world_size = as_new_call(method, derivatives, rank, world_size, deprecated)
    problem = as_problem(encoder, synth, path_loss, batches, params, n_paths)
    check_options(method, derivatives, dtype, folder, check, progress)
    path_ids, seed = as_path_ids(paths, problem.n_paths), as_int(seed, "seed")
    rank, world_size = check_rank(rank, world_size)
    thetas = check_problem(problem, path_ids, dtype, seed, thorough=check)
    store = ImportanceStore(folder, thetas[0].shape[1], problem.n_paths)
    store.claim(problem.params, thetas, {"method": method.label, "tolerance": method.tolerance, "seed": seed})
    if check and derivatives is not None:
        check_derivatives(problem, derivatives, thetas[0], dtype, path_ids[0])
    with reporter(progress) as report:
        search = Search(problem, thetas, store, seed=seed, dtype=dtype, derivatives=derivatives, report=report)
        search.run(method, path_ids[rank::world_size])
    return ThetaImportance(**store.table(), tolerance=method.tolerance, method=method.label)
