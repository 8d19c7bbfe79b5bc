r"""Distance of two sounds, path by path.

With S_p x the coefficients of path p,

    d(x, y)^2 = sum_p ||S_p x - S_p y||^2 / max(sum_p ||S_p x||^2, sum_p ||S_p y||^2),

which is `scrapl_jtfs.relative_distance`; the share of path p is ||S_p x - S_p y||^2 over the sum of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs.commands.progress import Progress
from scrapl_jtfs.path_table import PathTable
from scrapl_jtfs.paths import Path
from scrapl_jtfs.transform import JTFSPath

__all__ = ["Comparison", "compare"]

_ROUNDING = 1e-5


class Comparison(NamedTuple):
    """Comparison of two sounds on all paths.

    Attributes:
        paths: the table of paths.
        distances: (P,) squared distance on each path, float64.
        energies: (2, P) energy of each sound on each path, float64.
    """

    paths: PathTable
    distances: Tensor
    energies: Tensor

    @property
    def distance(self) -> float:
        """Relative distance: 0 for equal sounds, 1 as far as silence."""
        return float((self.distances.sum() / self.energies.sum(-1).max()).sqrt())

    @property
    def is_rounding(self) -> bool:
        """True if the sounds differ by no more than the rounding of 32-bit floats."""
        return self.distance < _ROUNDING

    @property
    def shares(self) -> Tensor:
        """Share of each path in the squared distance (P,), NaN for equal sounds."""
        return self.distances / self.distances.sum()

    def by(self, name: Callable[[Path], str]) -> dict[str, float]:
        """Return the sums of the shares of paths that have the same name."""
        sums: dict[str, float] = {}
        for path, share in zip(self.paths, self.shares.tolist(), strict=True):
            sums[name(path)] = sums.get(name(path), 0.0) + share
        return sums

    def most(self, n: int) -> list[tuple[Path, float, bool]]:
        """Return the n paths of largest share with that share, and True if the second sound is stronger there."""
        shares, chosen = self.shares.topk(min(n, len(self.paths)))
        stronger = (self.energies[1] > self.energies[0])[chosen].tolist()
        return [
            (self.paths[p], share, second)
            for p, share, second in zip(chosen.tolist(), shares.tolist(), stronger, strict=True)
        ]


@torch.no_grad()
def compare(jtfs: JTFSPath, x: Tensor, y: Tensor) -> Comparison:
    """Compute all paths of two signals (N,), with a progress bar."""
    distances = torch.zeros(jtfs.n_paths, dtype=torch.float64)
    energies = torch.zeros(2, jtfs.n_paths, dtype=torch.float64)
    with Progress(jtfs.n_paths, disable=None, unit="paths") as bar:
        # One after the other and not as a batch, in which equal signals differ by rounding.
        for (p, a), (_, b) in zip(jtfs.stream(x), jtfs.stream(y), strict=True):
            a, b = a.double(), b.double()
            distances[p] = (a - b).square().sum()
            energies[:, p] = torch.stack([a.square().sum(), b.square().sum()])
            bar.step()
    return Comparison(jtfs.paths, distances, energies)
