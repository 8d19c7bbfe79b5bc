"""Results of theta-importance as they come: on disk if asked, so that they survive and can be shared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scrapl_optim._importance.derivatives import PathDerivatives
from scrapl_optim._importance.eigenvalue import Eigenvalue
from scrapl_optim.checkpoint import write_atomically

_RUN = "run.json"


class ImportanceStore:
    """Values of C by path and control.

    Each value is a small file of its own that appears whole or not at all. Processes with the same folder see
    each other's; a killed one loses the value it was at.
    """

    def __init__(self, folder: str | Path | None, n_controls: int, n_paths: int) -> None:
        self.n_controls, self.n_paths = n_controls, n_paths
        self._folder = None if folder is None else Path(folder)
        self._values: dict[tuple[int, int], Eigenvalue] = {}

    def claim(self, params: Sequence[Tensor], thetas: Sequence[Tensor], settings: dict[str, Any]) -> None:
        """Make the folder this run's, or check that it is.

        Raises:
            ValueError: if it belongs to a run with other weights, data or settings.
        """
        if self._folder is None:
            return
        run = {"n_controls": self.n_controls, "n_paths": self.n_paths, **settings}
        run |= {"weights": _digest(params), "controls": [_fingerprint(theta) for theta in thetas]}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / _RUN
        if not path.exists():
            _write(path, run)
        theirs = json.loads(path.read_text())
        differing = sorted(key for key in run if not _agree(key, theirs.get(key), run[key]))
        if differing:
            raise ValueError(
                f"Invalid folder: {self._folder} holds results of another run, whose {', '.join(differing)} "
                "differ; expected one of this run, or none; use another folder, or delete this one to start over"
            )

    def get(self, path_idx: int, control: int) -> Eigenvalue | None:
        """Return a value if it is known."""
        known = self._values.get((path_idx, control))
        if known is None and self._folder is not None:
            known = _read(self._file(path_idx, control))
            if known is not None:
                self._values[path_idx, control] = known
        return known

    def put(self, path_idx: int, control: int, eigenvalue: Eigenvalue) -> None:
        """Keep a value."""
        self._values[path_idx, control] = eigenvalue
        if self._folder is not None:
            value = [eigenvalue.value.real, eigenvalue.value.imag]
            _write(self._file(path_idx, control), {**eigenvalue._asdict(), "value": value})

    def derivatives(self, path_idx: int) -> list[PathDerivatives] | None:
        """Return s and H of a path on each batch if they are known."""
        return None if self._folder is None else self._read_derivatives(self._derivatives_file(path_idx))

    def put_derivatives(self, path_idx: int, derivatives: list[PathDerivatives]) -> None:
        """Keep s and H of a path on disk, if there is a folder: the caller has them in memory."""
        if self._folder is not None:
            batches = [{"slope": d.slope.tolist(), "hessian": d.hessian.tolist()} for d in derivatives]
            content = {"controls": list(range(self.n_controls)), "batches": batches}
            _write(self._derivatives_file(path_idx), content)

    def _read_derivatives(self, file: Path) -> list[PathDerivatives] | None:
        try:
            content = json.loads(file.read_text())
            # Older versions left some rows of each Hessian to other processes: such a file does not serve.
            if content["controls"] != list(range(self.n_controls)):
                return None
            return [
                PathDerivatives(*(_as_tensor(batch[name]) for name in PathDerivatives._fields))
                for batch in content["batches"]
            ]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def table(self) -> dict[str, Tensor]:
        """Return what is known as tensors of shape (U, P): NaN, NaN and 0 where nothing is."""
        shape = (self.n_controls, self.n_paths)
        importance = torch.full(shape, torch.nan, dtype=torch.float64, device="cpu")
        residual = torch.full(shape, torch.nan, dtype=torch.float64, device="cpu")
        n_products = torch.zeros(shape, dtype=torch.int64, device="cpu")
        for path_idx in range(self.n_paths):
            for control in range(self.n_controls):
                known = self.get(path_idx, control)
                if known is not None:
                    importance[control, path_idx] = abs(known.value)
                    residual[control, path_idx] = known.residual
                    n_products[control, path_idx] = known.n_products
        return {"importance": importance, "residual": residual, "n_products": n_products}

    def _derivatives_file(self, path_idx: int) -> Path:
        return (self._folder or Path()) / f"derivatives_{path_idx:05d}.json"

    def _file(self, path_idx: int, control: int) -> Path:
        return (self._folder or Path()) / f"path_{path_idx:05d}_control_{control:03d}.json"


def _read(file: Path) -> Eigenvalue | None:
    """Return the value that a file holds; a damaged one holds none, and is computed again."""
    try:
        content = json.loads(file.read_text())
        real, imaginary = content.pop("value")
        return Eigenvalue(complex(real, imaginary), **content)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _as_tensor(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content)
    write_atomically(path, lambda partial: partial.write_text(text))


def _fingerprint(theta: Tensor) -> list[float]:
    """A few numbers that tell controls apart but not machines, which round differently."""
    theta = theta.double().cpu()
    weights = torch.cos(torch.arange(theta.numel(), dtype=torch.float64, device="cpu")).view_as(theta)
    return [float(theta.shape[0]), float(theta.mean()), float((weights * theta).sum())]


def _agree(key: str, theirs: Any, ours: Any) -> bool:
    """Return whether two runs have the same settings; controls may differ by what machines round."""
    if key != "controls" or theirs is None:
        return theirs == ours
    return len(theirs) == len(ours) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3)
        for one, other in zip(theirs, ours, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
