"""Deprecated: this module has moved to ``scrapl_optim.experimental.adaptive``."""

from __future__ import annotations

from typing import Any

from scrapl_optim._deprecation import warn_renamed


def __getattr__(name: str) -> Any:
    if name == "AdaptivePathSampler":
        from scrapl_optim.experimental.adaptive import AdaptivePathSampler

        warn_renamed("scrapl_optim.adaptive.AdaptivePathSampler", "scrapl_optim.experimental.AdaptivePathSampler")
        return AdaptivePathSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
