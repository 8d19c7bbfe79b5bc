"""Distributions over paths: from importances, from files, to files; also those of scrapl-loss."""

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from scrapl_optim._validation import MOST_PATHS, as_n_paths, as_path

_VALUES = re.compile(r"vals_(\d+)\.pt")


def probabilities(curvature: Tensor) -> Tensor:
    r"""Return pi of equation (10): :math:`\pi_p = \frac1U \sum_u C_{up} / \sum_{p'} C_{up'}`.

    A path whose C vanishes for every control has probability 0: :class:`PathSampler` never draws it, whatever
    its ``min_prob_frac``.

    Args:
        curvature: C, shape ``(U, P)``, finite and not negative.

    Raises:
        TypeError: if C is not a dense tensor of real numbers.
        ValueError: if C is not what is expected, or no path depends on a control.

    Example:
        >>> import torch
        >>> probabilities(torch.tensor([[1.0, 3.0], [1.0, 1.0]]))
        tensor([0.3750, 0.6250], dtype=torch.float64)
    """
    _check_tensor(curvature, "C")
    if curvature.ndim != 2 or curvature.numel() == 0:
        raise ValueError(f"C has shape {tuple(curvature.shape)}, expected (U, P), at least one of each")
    curvature = curvature.double()
    if not bool(torch.isfinite(curvature).all()) or bool((curvature < 0).any()):
        raise ValueError("C has entries that are negative or not finite, expected magnitudes of eigenvalues")
    totals = curvature.sum(1, keepdim=True)
    idle = (totals.flatten() == 0).nonzero().flatten().tolist()
    if idle:
        raise ValueError(
            f"no path's loss curves with controls {idle}: C vanishes for them; leave such controls out, or look "
            "for a synthesizer that ignores them"
        )
    if not bool(torch.isfinite(totals).all()):  # a sum of numbers near the largest
        curvature = curvature / curvature.amax(1, keepdim=True)
        totals = curvature.sum(1, keepdim=True)
    return (curvature / totals).mean(0)


def _check_tensor(values: object, name: str) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a torch.Tensor; use torch.as_tensor")
    if values.is_complex() or values.layout is not torch.strided or values.is_meta:
        raise TypeError(
            f"{name} is of {values.dtype}, {values.layout}, on {values.device}; expected a dense tensor of real "
            "numbers"
        )


def load_pi(path: str | Path, n_paths: int | None = None) -> Tensor:
    r"""Return a distribution over paths from a file, or from the folder of a warm-up of scrapl-loss.

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
    path = Path(as_path(path))
    n_paths = None if n_paths is None else as_n_paths(n_paths)
    pi = _from_folder(path, n_paths) if path.is_dir() else _tensor(path)
    return _checked(pi, path, n_paths)


def _checked(pi: Tensor, path: Path, n_paths: int | None) -> Tensor:
    """Return pi with sum 1; raise ValueError if it is no distribution over ``n_paths``."""
    if pi.ndim != 1 or pi.numel() == 0 or not pi.is_floating_point():
        raise ValueError(f"{path} holds shape {tuple(pi.shape)} and {pi.dtype}, expected floating numbers, (P,)")
    pi = pi.double()
    if not bool(pi.isfinite().all()) or bool((pi < 0).any()) or not 0 < float(pi.sum()) < math.inf:
        raise ValueError(f"{path} has negative or non-finite probabilities, or they are all zero or have no sum")
    if n_paths is not None and pi.numel() != n_paths:
        raise ValueError(f"{path} has {pi.numel()} paths, expected {n_paths}; it is of another transform")
    return pi / pi.sum()


def save_pi(pi: Tensor, path: str | Path) -> None:
    """Write a distribution that :func:`load_pi` and scrapl-loss's ``load_probs`` read.

    Raises:
        TypeError: if it is not a dense tensor of real numbers, or ``path`` is no path.
        ValueError: if :func:`load_pi` would refuse it; nothing is written then.
    """
    _check_tensor(pi, "pi")
    file = Path(as_path(path))
    _checked(pi, file, None)
    torch.save(pi.detach().cpu().double(), file)


def _tensor(path: Path) -> Tensor:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever flipped bits make the reader do
        raise ValueError(
            f"{path} cannot be read as a tensor of torch.save: it is damaged, or of another kind"
        ) from error
    if not isinstance(content, Tensor) or content.layout is not torch.strided or content.is_meta:
        raise ValueError(f"{path} holds {type(content).__name__}, expected a dense tensor")
    return content


def _from_folder(folder: Path, n_paths: int | None) -> Tensor:
    matches = [match for file in folder.iterdir() if (match := _VALUES.fullmatch(file.name))]
    found = {int(match[1]): _tensor(folder / match[0]).real.double() for match in matches}
    if not found:
        raise FileNotFoundError(f"{folder} has no vals_*.pt of scrapl-loss")
    expected = n_paths if n_paths is not None else max(found) + 1
    if expected > MOST_PATHS:
        raise ValueError(f"{folder} has vals_{max(found)}.pt, expected at most {MOST_PATHS} paths")
    missing = sorted(set(range(expected)) - set(found))
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of {expected} paths (first: {missing[:5]})")
    shapes = {tuple(values.shape) for values in found.values()}
    if len(shapes) > 1 or any(len(shape) != 2 or shape[0] != 1 for shape in shapes):
        raise ValueError(
            f"the values in {folder} have shapes {sorted(shapes)}, expected (1, U); a warm-up with values for "
            "each parameter tensor is not a single matrix's: aggregate it in scrapl-loss and load its probs.pt"
        )
    return probabilities(torch.stack([found[p][0].abs() for p in range(expected)], 1))
