"""Picture of the comparison of two sounds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from scrapl_jtfs.commands._compare.distances import Comparison
from scrapl_jtfs.commands.drawing import plain_title
from scrapl_jtfs.figures import draw_rate_scale, draw_scalogram
from scrapl_jtfs.transform import JTFSPath

__all__ = ["FORMATS", "draw_comparison"]

FORMATS = ("jpg", "pdf", "png", "svg")


def draw_comparison(jtfs: JTFSPath, samples: Tensor, names: Sequence[str], comparison: Comparison) -> Figure:
    """Draw scalograms of both sounds (2, N), and below them each path's share of the squared distance."""
    figure = Figure(figsize=(9, 8), layout="constrained", dpi=120)
    grid = figure.add_gridspec(2, 2)
    cells = [figure.add_subplot(grid[0, k]) for k in range(2)]
    meshes = [draw_scalogram(cell, jtfs, sound, label=None) for cell, sound in zip(cells, samples, strict=True)]
    for cell, name in zip(cells, names, strict=True):
        cell.set_title(plain_title(name), fontsize=10, parse_math=False)
    figure.colorbar(meshes[0], ax=cells, label="dB below its loudest point")
    below = figure.add_subplot(grid[1, :])
    title = f"Relative distance {comparison.distance:.3f} (0 the same, 1 as far as silence)"
    if not comparison.is_rounding:
        draw_rate_scale(
            below,
            jtfs.paths,
            comparison.shares * jtfs.n_paths,
            label="share of the squared distance, times uniform",
        )
        title = f"{title}: where it comes from"
    else:
        below.set_axis_off()
    below.set_title(title, fontsize=10)
    return figure
