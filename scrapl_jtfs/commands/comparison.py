r"""How far two sounds are apart, path by path.

With S_p x the coefficients of path p,

    d(x, y)^2 = sum_p ||S_p x - S_p y||^2 / max(sum_p ||S_p x||^2, sum_p ||S_p y||^2),

which is `scrapl_jtfs.relative_distance`; the share of path p is ||S_p x - S_p y||^2 over the sum of these.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..path_table import PathTable
from ..paths import Path
from ..transform import JTFSPath
from .progress import Progress

__all__ = ["Comparison", "compare"]

_ROUNDING = 1e-5


@dataclass(frozen=True)
class Comparison:
    """Squared distance of two sounds on each path (P,) and energies of both (2, P), in float64."""

    paths: PathTable
    apart: Tensor
    energies: Tensor

    @property
    def distance(self) -> float:
        """0 for the same, 1 as far as silence."""
        return float((self.apart.sum() / self.energies.sum(-1).max()).sqrt())

    @property
    def is_rounding(self) -> bool:
        """Whether there is no difference beyond the rounding of 32-bit floats."""
        return self.distance < _ROUNDING

    @property
    def shares(self) -> Tensor:
        """(P,) parts of the squared distance, which sum to one; NaN for sounds that are the same."""
        return self.apart / self.apart.sum()

    def by(self, name: Callable[[Path], str]) -> dict[str, float]:
        """Sum of the shares of all paths of one name."""
        found: dict[str, float] = {}
        for path, share in zip(self.paths, self.shares.tolist(), strict=True):
            found[name(path)] = found.get(name(path), 0.0) + share
        return found

    def most(self, n: int) -> list[tuple[Path, float, bool]]:
        """The n paths of largest share, their share, and whether the second sound is the stronger one there."""
        shares, chosen = self.shares.topk(min(n, len(self.paths)))
        stronger = (self.energies[1] > self.energies[0])[chosen].tolist()
        return [
            (self.paths[p], share, second)
            for p, share, second in zip(chosen.tolist(), shares.tolist(), stronger, strict=True)
        ]


@torch.no_grad()
def compare(jtfs: JTFSPath, x: Tensor, y: Tensor) -> Comparison:
    """Compute all paths of two signals (N,), with a progress bar."""
    apart = torch.zeros(jtfs.n_paths, dtype=torch.float64)
    energies = torch.zeros(2, jtfs.n_paths, dtype=torch.float64)
    with Progress(jtfs.n_paths, disable=None, unit="paths") as bar:
        # One after the other and not as a batch, in which equal signals differ by rounding.
        for (p, a), (_, b) in zip(jtfs.stream(x), jtfs.stream(y), strict=True):
            a, b = a.double(), b.double()
            apart[p] = (a - b).square().sum()
            energies[:, p] = torch.stack([a.square().sum(), b.square().sum()])
            bar.step()
    return Comparison(jtfs.paths, apart, energies)
