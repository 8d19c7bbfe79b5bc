"""Distributions over paths: their check, from importances, from files and to files; also those of scrapl-loss."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._deprecation import rename_arguments, warn_renamed
from scrapl_optim._validation import MOST_PATHS, as_floats, as_n_paths, as_path, instead_of_paths

# Probabilities may come from float32 arithmetic over thousands of paths; a larger error of their sum is a mistake.
_SUM_TOLERANCE = 1e-5
_VALUES = re.compile(r"vals_(\d+)\.pt")


def as_distribution(probs: Any, n_paths: int | None = None, name: str = "probs") -> npt.NDArray[np.float64]:
    r"""Return probabilities :math:`\pi` of paths as a new float64 array of sum one.

    Samplers, files, drawings and the testing kit all read a distribution by this function. A sum within 1e-5 of
    one is divided out, as it comes from rounding; any other is refused, since such numbers are rarely meant as
    probabilities (they are losses, importances, or a part of a distribution) and normalising would hide that.

    Args:
        probs: :math:`\pi`, real numbers of shape ``(P,)``.
        n_paths: P, which is checked unless it is ``None``.
        name: of ``probs`` in errors.

    Raises:
        TypeError: if ``probs`` are not real numbers.
        ValueError: if they are no distribution over ``n_paths`` paths.
    """
    if probs is None:
        raise ValueError(
            f"Invalid {name}: None; expected probabilities of shape (P,), or n_paths where there are none; "
            "PathSampler(n_paths=...) draws uniformly"
        )
    try:
        pi = as_floats(probs, name)
    except TypeError as error:
        remedy = instead_of_paths(probs)
        raise TypeError(f"{error}; {remedy}" if remedy else str(error)) from None
    if pi.ndim != 1 or pi.size == 0:
        number = float(pi) if pi.ndim == 0 else 0.0
        is_count = 1 <= number <= MOST_PATHS and number.is_integer()
        remedy = f"; for {number:.0f} paths: PathSampler(n_paths={number:.0f})" if is_count else ""
        raise ValueError(f"Invalid {name}: shape {pi.shape}; expected (P,), at least one path{remedy}")
    if n_paths is not None and pi.size != n_paths:
        raise ValueError(
            f"Invalid {name}: {pi.size} entries; expected one for each of n_paths={n_paths} paths, also for those "
            "that are never drawn"
        )
    bad = np.flatnonzero(~(np.isfinite(pi) & (pi >= 0)))
    if bad.size:
        raise ValueError(f"Invalid {name}: entry {bad[0]} is {pi[bad[0]]}; expected finite numbers >= 0")
    # fsum is correctly rounded: the distribution does not depend on the order of a SIMD sum.
    total = math.fsum(pi) if pi.max() <= 2.0 else float(pi.max())  # a sum of huge numbers overflows
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise ValueError(
            f"Invalid {name}: sum {total:.9g}; expected 1 within {_SUM_TOLERANCE:g}; normalise with "
            "probs / probs.sum(), or give importances C (U, P) to probabilities(C)"
        )
    return pi / total


@rename_arguments(curvature="importance")
def probabilities(importance: Tensor) -> Tensor:
    r"""Return pi of equation (10): :math:`\pi_p = \frac1U \sum_u C_{up} / \sum_{p'} C_{up'}`.

    A path whose C vanishes for every control has probability 0: :class:`PathSampler` never draws it, whatever
    its ``min_prob_frac``.

    Args:
        importance: C, shape ``(U, P)``, finite and not negative.

    Raises:
        TypeError: if C is not a dense tensor of real numbers.
        ValueError: if C is not what is expected, or no path depends on a control.

    Example:
        >>> import torch
        >>> probabilities(torch.tensor([[1.0, 3.0], [1.0, 1.0]]))
        tensor([0.3750, 0.6250], dtype=torch.float64)
    """
    _check_tensor(importance, "importance")
    if importance.ndim != 2 or importance.numel() == 0:
        raise ValueError(
            f"Invalid importance: shape {tuple(importance.shape)}; expected (U, P), at least one of each"
        )
    importance = importance.double()
    if not bool(torch.isfinite(importance).all()) or bool((importance < 0).any()):
        raise ValueError(
            "Invalid importance: an entry is negative or not finite; expected magnitudes of eigenvalues"
        )
    totals = importance.sum(1, keepdim=True)
    idle = (totals.flatten() == 0).nonzero().flatten().tolist()
    if idle:
        raise ValueError(
            f"Invalid importance: it vanishes on all paths for controls {idle}; expected a path that depends on "
            "each control; leave such controls out, or look for a synthesizer that ignores them"
        )
    if not bool(torch.isfinite(totals).all()):  # a sum of numbers near the largest
        importance = importance / importance.amax(1, keepdim=True)
        totals = importance.sum(1, keepdim=True)
    return (importance / totals).mean(0)


def _check_tensor(values: object, name: str) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"Invalid {name}: {type(values).__name__}; expected a torch.Tensor; use torch.as_tensor")
    if values.is_complex() or values.layout is not torch.strided or values.is_meta:
        raise TypeError(
            f"Invalid {name}: {values.dtype}, {values.layout}, on {values.device}; expected dense real numbers"
        )


def load_probs(path: str | Path, n_paths: int | None = None) -> Tensor:
    r"""Return a distribution :math:`\pi` over paths from a file, or from the folder of a warm-up of scrapl-loss.

    A file holds pi, a tensor of shape ``(P,)`` (``torch.save``; scrapl-loss's ``probs.pt``). In a folder of
    scrapl-loss, each ``vals_{p}.pt`` has the eigenvalues of a path, of shape ``(n, U)``; pi follows by equation
    (10). Files are read with ``weights_only=True``. scrapl-loss's ``probs.pt`` has its ``min_prob_frac`` in it
    already: give :class:`PathSampler` none then.

    Args:
        path: file or folder.
        n_paths: P, to check, and to know whether a folder is complete; else the files' own.

    Returns:
        Probabilities, shape ``(P,)``, float64, of sum 1.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no values in the folder.
        TypeError: if ``path`` is no path, or ``n_paths`` no integer.
        ValueError: if the content is not what is expected; it says what is missing.

    Source: SCRAPL, equation (10).
    """
    return _load(path, n_paths)


def save_probs(probs: Tensor, path: str | Path) -> None:
    r"""Write a distribution :math:`\pi` as :func:`load_probs` returns it, of sum one.

    scrapl-loss reads such a file by its own ``load_probs``.

    Raises:
        TypeError: if it is not a dense tensor of real numbers, or ``path`` is no path.
        ValueError: if :func:`load_probs` would refuse it; nothing is written then.

    Example:
        >>> import tempfile
        >>> import torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_probs(torch.tensor([0.25, 0.75]), f"{folder}/probs.pt")
        ...     load_probs(f"{folder}/probs.pt")
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    file = Path(as_path(path))
    torch.save(torch.from_numpy(as_distribution(probs)), file)


def load_pi(path: str | Path, n_paths: int | None = None) -> Tensor:
    """Return what :func:`load_probs`, its new name, returns; probabilities of any sum are divided by it."""
    warn_renamed("load_pi", "load_probs")
    return _load(path, n_paths, divide=True)


def save_pi(pi: Tensor, path: str | Path) -> None:
    """Write what :func:`save_probs`, its new name, writes; probabilities of any sum are divided by it."""
    warn_renamed("save_pi", "save_probs")
    save_probs(_divided(pi) if isinstance(pi, Tensor) else pi, path)


def _load(path: str | Path, n_paths: int | None, divide: bool = False) -> Tensor:
    path = Path(as_path(path))
    n_paths = None if n_paths is None else as_n_paths(n_paths)
    pi = _from_folder(path, n_paths) if path.is_dir() else _tensor(path)
    return torch.from_numpy(as_distribution(_divided(pi) if divide else pi, n_paths, f"probabilities of {path}"))


def _divided(pi: Tensor) -> Tensor:
    """Return ``pi`` divided by its sum, as files were read before there was one check for all distributions."""
    total = float(pi.double().sum()) if pi.is_floating_point() else 0.0
    return pi.double() / total if 0 < total < math.inf else pi


def _tensor(path: Path) -> Tensor:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever flipped bits make the reader do
        raise ValueError(
            f"Invalid path: {path} is damaged, or of another kind; expected a tensor of torch.save"
        ) from error
    if not isinstance(content, Tensor) or content.layout is not torch.strided or content.is_meta:
        raise ValueError(f"Invalid content of {path}: {type(content).__name__}; expected a dense tensor")
    return content


def _from_folder(folder: Path, n_paths: int | None) -> Tensor:
    matches = [match for file in folder.iterdir() if (match := _VALUES.fullmatch(file.name))]
    values = {int(match[1]): _tensor(folder / match[0]).real.double() for match in matches}
    if not values:
        raise FileNotFoundError(f"Invalid path: {folder} has no vals_*.pt; expected a warm-up of scrapl-loss")
    n_expected = n_paths if n_paths is not None else max(values) + 1
    if n_expected > MOST_PATHS:
        raise ValueError(f"Invalid path: {folder} has vals_{max(values)}.pt; expected at most {MOST_PATHS} paths")
    missing = sorted(set(range(n_expected)) - set(values))
    if missing:
        raise ValueError(
            f"Invalid path: {folder} lacks {len(missing)} of {n_expected} paths (first: {missing[:5]}); expected "
            "all; let the warm-up finish"
        )
    shapes = {tuple(of_path.shape) for of_path in values.values()}
    if len(shapes) > 1 or any(len(shape) != 2 or shape[0] != 1 for shape in shapes):
        raise ValueError(
            f"Invalid path: the values in {folder} have shapes {sorted(shapes)}; expected (1, U), as values for "
            "each parameter tensor are not those of a single matrix; aggregate them in scrapl-loss and load its "
            "probs.pt"
        )
    return probabilities(torch.stack([values[p][0].abs() for p in range(n_expected)], 1))
