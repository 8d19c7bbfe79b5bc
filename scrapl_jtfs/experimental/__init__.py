"""Parts that the project cannot vouch for yet; they may change or go without notice.

``cuda_graphs``: path losses as CUDA graphs, which have not been run on a GPU.
"""

from __future__ import annotations

from scrapl_jtfs.experimental.cuda_graphs import GraphedPathLoss

__all__ = ["GraphedPathLoss"]
