"""Deprecated: this module has moved to ``scrapl_optim.experimental.adaptive``."""

from __future__ import annotations

from typing import Any

from scrapl_optim._deprecation import moved


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"AdaptivePathSampler": "scrapl_optim.experimental"})
