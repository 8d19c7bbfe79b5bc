"""Parts that the project cannot vouch for, or advises against; they may change or go in any release.

- :class:`AdaptivePathSampler`: draws from a distribution that follows training. In the project's own benchmark it
  did not beat uniform draws.
- :func:`host_rows`: rows in host memory, untested on a GPU.
- :func:`nearest`: rows rounded to nearest, which lose small changes of the moments; for comparison only.
"""

from __future__ import annotations

from scrapl_optim.experimental.adaptive import AdaptivePathSampler
from scrapl_optim.experimental.storages import host_rows, nearest

__all__ = ["AdaptivePathSampler", "host_rows", "nearest"]
