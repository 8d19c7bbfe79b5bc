"""Distributions over paths: from importances, from files, to files; also those of scrapl-loss."""

import re
from pathlib import Path

import torch
from torch import Tensor

_VALUES = re.compile(r"vals_(\d+)\.pt")


def probabilities(curvature: Tensor) -> Tensor:
    r"""Return pi of equation (10): :math:`\pi_p = \frac1U \sum_u C_{up} / \sum_{p'} C_{up'}`.

    Args:
        curvature: C, shape ``(U, P)``, finite and not negative.

    Raises:
        ValueError: if C is not, or no path depends on a control.

    Example:
        >>> import torch
        >>> probabilities(torch.tensor([[1.0, 3.0], [1.0, 1.0]]))
        tensor([0.3750, 0.6250], dtype=torch.float64)
    """
    if curvature.ndim != 2:
        raise ValueError(f"C has shape {tuple(curvature.shape)}, expected (U, P)")
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
    return (curvature / totals).mean(0)


def load_pi(path: str | Path, n_paths: int | None = None) -> Tensor:
    r"""Return a distribution over paths from a file, or from the folder of a warm-up of scrapl-loss.

    A file holds pi, a tensor of shape ``(P,)`` (``torch.save``; scrapl-loss's ``probs.pt``). In a folder of
    scrapl-loss, each ``vals_{p}.pt`` has the eigenvalues of a path, of shape ``(n, U)``; pi follows by equation
    (10). Files are read with ``weights_only=True``.

    Args:
        path: file or folder.
        n_paths: P, to check, and to know whether a folder is complete; else the files' own.

    Returns:
        Probabilities, shape ``(P,)``, float64, of sum 1.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no values in the folder.
        ValueError: if the content is not what is expected; it says what is missing.

    Source: SCRAPL, equation (10).
    """
    path = Path(path)
    pi = _from_folder(path, n_paths) if path.is_dir() else _tensor(path)
    if pi.ndim != 1 or pi.numel() == 0 or not pi.is_floating_point():
        raise ValueError(f"{path} holds shape {tuple(pi.shape)} and {pi.dtype}, expected floating numbers, (P,)")
    pi = pi.double()
    if not bool(pi.isfinite().all()) or bool((pi < 0).any()) or not float(pi.sum()) > 0:
        raise ValueError(f"{path} has negative or non-finite probabilities, or they are all zero")
    if n_paths is not None and pi.numel() != n_paths:
        raise ValueError(f"{path} has {pi.numel()} paths, expected {n_paths}; it is of another transform")
    return pi / pi.sum()


def save_pi(pi: Tensor, path: str | Path) -> None:
    """Write a distribution that :func:`load_pi` and scrapl-loss's ``load_probs`` read."""
    torch.save(pi.detach().cpu().double(), path)


def _tensor(path: Path) -> Tensor:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Tensor):
        raise ValueError(f"{path} holds {type(content).__name__}, expected a tensor")
    return content


def _from_folder(folder: Path, n_paths: int | None) -> Tensor:
    matches = [match for file in folder.iterdir() if (match := _VALUES.fullmatch(file.name))]
    found = {int(match[1]): _tensor(folder / match[0]).double() for match in matches}
    if not found:
        raise FileNotFoundError(f"{folder} has no vals_*.pt of scrapl-loss")
    expected = n_paths if n_paths is not None else max(found) + 1
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
