"""What scrapl-jtfs compare draws."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from ..figures import draw_rate_scale, draw_scalogram
from ..transform import JTFSPath
from .comparison import Comparison
from .drawing import plain_title

__all__ = ["FORMATS", "draw_comparison"]

FORMATS = ("jpg", "pdf", "png", "svg")


def draw_comparison(jtfs: JTFSPath, samples: Tensor, names: Sequence[str], found: Comparison) -> Figure:
    """Scalograms of both sounds (2, N); below, each path's share of the squared distance, times uniform."""
    figure = Figure(figsize=(9, 8), layout="constrained", dpi=120)
    grid = figure.add_gridspec(2, 2)
    cells = [figure.add_subplot(grid[0, k]) for k in range(2)]
    meshes = [draw_scalogram(cell, jtfs, sound, label=None) for cell, sound in zip(cells, samples, strict=True)]
    for cell, name in zip(cells, names, strict=True):
        cell.set_title(plain_title(name), fontsize=10, parse_math=False)
    figure.colorbar(meshes[0], ax=cells, label="dB below its loudest point")
    below = figure.add_subplot(grid[1, :])
    title = f"Relative distance {found.distance:.3f} (0 the same, 1 as far as silence)"
    if not found.is_rounding:
        draw_rate_scale(
            below, jtfs.paths, found.shares * jtfs.n_paths, label="share of the squared distance, times uniform"
        )
        title = f"{title}: where it comes from"
    else:
        below.set_axis_off()
    below.set_title(title, fontsize=10)
    return figure
