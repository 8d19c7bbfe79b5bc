"""Deprecated: this module has moved to ``scrapl_jtfs.experimental.cuda_graphs``."""

from __future__ import annotations

from typing import Any

from scrapl_jtfs._deprecation import warn_renamed


def __getattr__(name: str) -> Any:
    if name == "GraphedPathLoss":
        from scrapl_jtfs.experimental.cuda_graphs import GraphedPathLoss

        warn_renamed("scrapl_jtfs.graphs.GraphedPathLoss", "scrapl_jtfs.experimental.GraphedPathLoss")
        return GraphedPathLoss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
