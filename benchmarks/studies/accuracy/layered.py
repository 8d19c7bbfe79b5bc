"""A transform whose second layer has any smoothing of its own, to find out which it should have."""

from __future__ import annotations

from typing import Any

from scrapl_jtfs import JTFSPath


class LayeredJTFS(JTFSPath):
    """JTFSPath with eps in the first layer and `second` times eps in the second; JTFSPath's own factor is 0.01.

    The moduli of the second layer are smaller than those of the first. This reaches into JTFSPath, which has no
    such option; a test tells when that no longer has an effect.
    """

    def __init__(self, *args: Any, second: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.second = second
        self._epsilons = self.smoothing, self.smoothing * second
