"""Sizes of a scattering of images: everything that follows from its settings alone."""

from __future__ import annotations

import numbers
from typing import Any, Literal, NamedTuple

from scrapl_jtfs._transform.geometry import positive_int

Averaging = Literal["local", "global"]

# Pixels along one axis at most, and orientations: filters take memory in proportion to both.
_MOST_PIXELS = 2**14
_MOST_ORIENTATIONS = 64


class Axis(NamedTuple):
    """One axis of an image and its continuation beyond both ends.

    Attributes:
        size: pixels of the image.
        before: pixels added before it.
        after: pixels added after it.
    """

    size: int
    before: int
    after: int

    @property
    def padded(self) -> int:
        """Pixels of the continuation, which is periodic."""
        return self.before + self.size + self.after

    def kept(self, j: int) -> slice:
        """Return those samples of a band of stride 2**j that lie within the image."""
        stride = 2**j
        return slice(-(-self.before // stride), -(-(self.before + self.size) // stride))


class Geometry(NamedTuple):
    """Settings of a scattering of images, checked, and the sizes that follow.

    Attributes:
        shape: (height, width) of the images in pixels.
        J: octaves; the average spans 2**J pixels.
        L: orientations.
        max_order: 1 or 2.
        average: "local" (a Gauss low-pass and a stride of 2**J) or "global" (the mean over the image).
    """

    shape: tuple[int, int]
    J: int
    L: int
    max_order: int
    average: Averaging

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis."""
        return _continued(self.shape[0], self.J), _continued(self.shape[1], self.J)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the continuation."""
        vertical, horizontal = self.axes
        return vertical.padded, horizontal.padded


def make_geometry(shape: Any, J: int, L: int, max_order: int, average: Averaging) -> Geometry:
    """Check the settings of a scattering of images.

    Raises:
        TypeError: a count is not an integer, or the shape not a pair of them.
        ValueError: a value is out of range; the message names it and the remedy.
    """
    height, width = _as_shape(shape)
    J, L = positive_int(J, "J"), positive_int(L, "L", _MOST_ORIENTATIONS)
    longest = min(height, width).bit_length() - 1
    if longest < J:
        if longest < 1:
            raise ValueError(f"Invalid shape: {(height, width)}; expected at least 2 pixels along each axis")
        raise ValueError(
            f"Invalid J: {J}; expected J <= {longest}, since the average spans 2**J pixels of an image of "
            f"{height} by {width}; use a smaller J or larger images"
        )
    if isinstance(max_order, bool) or not isinstance(max_order, numbers.Integral) or max_order not in (1, 2):
        raise ValueError(f"Invalid max_order: {max_order!r}; expected 1 or 2")
    if not isinstance(average, str) or average not in ("local", "global"):
        raise ValueError(f"Invalid average: {average!r}; expected 'local' or 'global'")
    return Geometry((height, width), J, L, int(max_order), average)


def _as_shape(shape: Any) -> tuple[int, int]:
    """Return (height, width).

    Raises:
        TypeError: it is not a pair of integers.
        ValueError: one is not positive, or too large.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        many = isinstance(shape, (tuple, list)) and len(shape) > 2
        remedy = "; leave channels and batches out, any axes may come before these two" if many else ""
        raise TypeError(f"Invalid shape: {shape!r}; expected (height, width) in pixels{remedy}")
    return positive_int(shape[0], "height", _MOST_PIXELS), positive_int(shape[1], "width", _MOST_PIXELS)


def _continued(size: int, J: int) -> Axis:
    """Return kymatio's continuation: two more strides of 2**J than there are in the image, in equal halves."""
    added = (size // 2**J + 2) * 2**J - size
    return Axis(size, added // 2, added - added // 2)
