"""The table of paths of a scattering of images: index <-> (j1, l1, j2, l2), wavelengths, angles, cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from scrapl_jtfs._image_scattering.filters import angle, wavelength
from scrapl_jtfs._image_scattering.geometry import Geometry
from scrapl_jtfs._validation import is_number

# (lowest, highest), both included.
Range: TypeAlias = "tuple[float, float]"
_MAX_PIXELS = 1e9


@dataclass(frozen=True)
class ImagePath:
    """One path of a scattering of images, in pixels and degrees.

    Args:
        index: path id, in kymatio's order.
        order: 0 (the image's average), 1 (one band) or 2 (how one band's strength changes over the image).
        j: scales of the wavelets, (), (j1,) or (j1, j2), by order.
        orientation: numbers of their orientations, (), (l1,) or (l1, l2).
        wavelength: their wavelengths in pixels.
        angle: angles of their wave vectors in degrees, from 0 to below 180, counterclockwise from the horizontal
            as the image is seen, with rows downwards: upright stripes have 0, level ones 90.
        average: pixels that the average spans, None for the mean over the image.
        cost: estimated cost of one evaluation, relative to the mean over the table.
    """

    index: int
    order: int
    j: tuple[int, ...]
    orientation: tuple[int, ...]
    wavelength: tuple[float, ...]
    angle: tuple[float, ...]
    average: int | None
    cost: float

    def __str__(self) -> str:
        """Return what the path listens to, as in "path 2: wavelength 2.67 pixels at 90 degrees"."""
        if self.order == 0:
            what = "mean over the image" if self.average is None else f"average over {self.average} pixels"
            return f"path {self.index}: {what}"
        waves = [f"{w:.3g} pixels at {a:.4g} degrees" for w, a in zip(self.wavelength, self.angle, strict=True)]
        return f"path {self.index}: wavelength " + "; its strength: wavelength ".join(waves)


class ImagePathTable(tuple[ImagePath, ...]):
    """Paths of a scattering of images: a tuple of :class:`ImagePath` in which the p-th has the id p.

    A slice of it is a plain tuple. ``print`` shows the number of paths of each pair of wavelengths.

    Args:
        paths: every path, in the order of ids.

    Example:
        >>> from scrapl_jtfs import ImageScattering
        >>> paths = ImageScattering((64, 64), J=3, L=4).paths
        >>> paths
        ImagePathTable(61 paths of orders 0 to 2, wavelengths 2.67 to 10.7 pixels, 4 angles)
        >>> print(paths[30])
        path 30: wavelength 2.67 pixels at 45 degrees; its strength: wavelength 5.33 pixels at 90 degrees
        >>> paths.where(order=1, angle=(80, 100))
        (2, 6, 10)
    """

    __slots__ = ()

    def __new__(cls, paths: Iterable[ImagePath]) -> ImagePathTable:
        """Make a table of every path."""
        return super().__new__(cls, paths)

    def where(
        self,
        *,
        order: int | None = None,
        wavelength: Range | None = None,
        angle: Range | None = None,
        second_wavelength: Range | None = None,
        second_angle: Range | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of the paths that meet every condition, ascending.

        Args:
            order: 0, 1 or 2.
            wavelength: (lowest, highest) of the first wavelet in pixels, both included.
            angle: (first, last) of the first wavelet in degrees, counterclockwise from one to the other, both
                included: (170, 10) is about the horizontal.
            second_wavelength: of the second wavelet, which paths of order 2 have.
            second_angle: the same.

        Raises:
            ValueError: a condition is no pair of numbers, an order is none of 0, 1 and 2, or no path meets all.
        """
        if order is not None and (isinstance(order, bool) or order not in (0, 1, 2)):
            raise ValueError(f"Invalid order: {order!r}; expected 0, 1 or 2")
        kept = [path for path in self if order in (None, path.order)]
        for place, waves, angles in ((0, wavelength, angle), (1, second_wavelength, second_angle)):
            of = "second_" * place
            if waves is not None:
                lowest, highest = _pair(waves, f"{of}wavelength")
                kept = [p for p in kept if p.order > place and lowest <= p.wavelength[place] <= highest]
            if angles is not None:
                first, last = _pair(angles, f"{of}angle")
                span = last - first if last - first >= 180 else (last - first) % 180
                kept = [p for p in kept if p.order > place and (p.angle[place] - first) % 180 <= span]
        if not kept:
            raise ValueError(
                f"Invalid conditions: no path meets them all; expected those of {self._extent()}; widen them, or "
                "see the wavelengths and angles of the paths"
            )
        return tuple(path.index for path in kept)

    def __repr__(self) -> str:
        """Return the number of paths and their ranges."""
        return f"ImagePathTable({self._extent()})"

    def __str__(self) -> str:
        """Return a table with a line for each pair of wavelengths."""
        groups: dict[tuple[int, ...], list[ImagePath]] = {}
        for path in self:
            groups.setdefault(path.j, []).append(path)
        lines = [f"{self._extent()}; wavelengths in pixels"]
        for group in groups.values():
            waves = " then ".join(f"{wave:.3g}" for wave in group[0].wavelength) or "order 0"
            lines.append(f"{waves:>16}: ids {group[0].index} to {group[-1].index}")
        return "\n".join(lines)

    def _extent(self) -> str:
        waves = sorted({wave for path in self for wave in path.wavelength})
        angles = {angle for path in self for angle in path.angle}
        return (
            f"{len(self)} paths of orders 0 to {self[-1].order}, wavelengths {waves[0]:.3g} to {waves[-1]:.3g} "
            f"pixels, {len(angles)} angle{'s' * (len(angles) > 1)}"
        )


def list_paths(geometry: Geometry) -> ImagePathTable:
    """List every path in kymatio's order: order 0, order 1 by (j1, l1), order 2 by (j1, l1, j2, l2), j2 > j1."""
    bands = [(j, orientation) for j in range(geometry.J) for orientation in range(geometry.L)]
    chains: list[tuple[tuple[int, int], ...]] = [(), *((band,) for band in bands)]
    if geometry.max_order == 2:
        chains += [(first, second) for first in bands for second in bands if second[0] > first[0]]
    operations = [_operations(geometry, [j for j, _ in chain]) for chain in chains]
    mean = sum(operations) / len(operations)
    return ImagePathTable(
        ImagePath(
            index=index,
            order=len(chain),
            j=tuple(j for j, _ in chain),
            orientation=tuple(orientation for _, orientation in chain),
            wavelength=tuple(wavelength(j) for j, _ in chain),
            angle=tuple(angle(orientation, geometry.L) for _, orientation in chain),
            average=2**geometry.J if geometry.average == "local" else None,
            cost=cost / mean,
        )
        for index, (chain, cost) in enumerate(zip(chains, operations, strict=True))
    )


def _operations(geometry: Geometry, scales: list[int]) -> float:
    """Return the real operations of one path: FFTs in and out of each band, the product, and the average."""
    n_pixels = math.prod(geometry.padded)

    def fft(n: float) -> float:
        return 5.0 * n * math.log2(max(n, 2.0))

    total, before = 2.0 * n_pixels, 0
    for j in scales:
        n_in, n_out = n_pixels / 4**before, n_pixels / 4**j
        total += fft(n_in) + 4.0 * n_in + fft(n_out) + 2.0 * n_out
        before = j
    return total


def _pair(bounds: Any, name: str) -> tuple[float, float]:
    if (
        not isinstance(bounds, (tuple, list))
        or len(bounds) != 2
        or not all(is_number(bound, -_MAX_PIXELS, _MAX_PIXELS) for bound in bounds)
    ):
        raise ValueError(f"Invalid {name}: {bounds!r}; expected a pair of numbers, (lowest, highest)")
    return bounds[0], bounds[1]
