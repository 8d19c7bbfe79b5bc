"""Picture of an alignment: what each path tells about each control, and what their sum makes of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scrapl_jtfs._figures.numbers import need_matplotlib
from scrapl_jtfs._figures.rate_scale import draw_rate_scale
from scrapl_optim import Alignment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scrapl_jtfs.paths import Path

# Errors are cut into as many classes of equal counts.
_CLASSES = 6


def draw_alignment(
    axes: Sequence[Axes],
    paths: Sequence[Path],
    alignment: Alignment,
    probs: Any = None,
    *,
    names: Sequence[str] | None = None,
    equal_votes: bool = True,
) -> None:
    r"""Draw how well paths, and their sum under a distribution, lead each control to the truth.

    A map for each control shows the correlation of each path's slope with the error: red paths lead to the truth,
    blue ones away from it, white ones do not hear the control. Its title has the correlation of the sum, with a
    bootstrap interval. The last axes show from how far the sum leads to the truth: the share of pairs in which its
    sign is that of the error, over the size of the error. A loss that is at one half for small errors leaves
    controls at about that distance.

    Args:
        axes: one of matplotlib for each control, and one more.
        paths: the table of paths, ``jtfs.paths``.
        alignment: the measurement, of these paths.
        probs: (P,) pi of the sum, by default uniform.
        names: of the controls, for titles.
        equal_votes: whether each path's slopes are divided by their root mean square first, as P-Adam does.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: ``alignment`` is none.
        ValueError: there are not as many axes, paths or names as the alignment needs.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_alignment
        >>> from scrapl_optim import Alignment
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> theta, theta_hat = torch.rand(2, 32, 1)
        >>> alignment = Alignment(theta, theta_hat, torch.randn(32, jtfs.n_paths, 1))
        >>> draw_alignment(Figure(figsize=(9, 4)).subplots(1, 2), jtfs.paths, alignment)
    """
    need_matplotlib()
    from matplotlib.colors import Normalize

    if not isinstance(alignment, Alignment):
        raise TypeError(f"Invalid alignment: {type(alignment).__name__}; expected what measure_alignment returns")
    n_controls = alignment.theta.shape[1]
    labels = [f"control {u}" for u in range(n_controls)] if names is None else list(names)
    for name, count, expected in (
        ("axes", len(axes), n_controls + 1),
        ("names", len(labels), n_controls),
        ("paths", len(paths), alignment.n_paths),
    ):
        if count != expected:
            raise ValueError(
                f"Invalid {name}: {count} of them; expected {expected}, for {n_controls} controls and "
                f"{alignment.n_paths} paths"
            )
    of_paths = alignment.of_paths()
    scores = alignment.correlation(probs, equal_votes=equal_votes).tolist()
    low, high = alignment.interval(probs, equal_votes=equal_votes).tolist()
    updates = alignment.updates(probs, equal_votes=equal_votes)
    for u, label in enumerate(labels):
        draw_rate_scale(
            axes[u],
            paths,
            of_paths[:, u],
            label="correlation with the error",
            norm=Normalize(-1, 1),
            cmap="RdBu_r",
        )
        axes[u].set_title(f"{label}: sum {scores[u]:.2f} ({low[u]:.2f} to {high[u]:.2f})")
        _draw_signs(axes[-1], updates[:, u].numpy(), alignment.errors[:, u].numpy(), label)
    axes[-1].axhline(0.5, color="0.3", ls="--", lw=1, zorder=0)
    axes[-1].set(xlabel="size of the error", ylabel="share of pairs led to the truth", ylim=(0, 1.02))
    axes[-1].legend(loc="lower right", frameon=False)


def _draw_signs(axes: Axes, updates: Any, errors: Any, label: str) -> None:
    """Draw the share of updates of the right sign over the size of the error, with its standard error."""
    sizes = np.abs(errors)
    order = np.argsort(sizes)
    right = (np.sign(updates) == np.sign(errors))[order]
    classes = [part for part in np.array_split(np.arange(len(order)), _CLASSES) if len(part)]
    x = [sizes[order][part].mean() for part in classes]
    y = np.array([right[part].mean() for part in classes])
    counts = np.array([len(part) for part in classes])
    # Of a share k / n, with one pair more on either side, since a share of 0 or 1 has an error, too.
    smoothed = (y * counts + 1) / (counts + 2)
    axes.errorbar(x, y, np.sqrt(smoothed * (1 - smoothed) / counts), fmt="o-", capsize=3, label=label)
