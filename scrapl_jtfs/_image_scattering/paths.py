"""The table of paths of a scattering of images: index <-> (j1, l1, j2, l2), wavelengths, angles, cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from scrapl_jtfs._image_scattering.filters import angle, wavelength
from scrapl_jtfs._image_scattering.geometry import Geometry
from scrapl_jtfs.any_path_table import AnyPathTable


@dataclass(frozen=True)
class ImagePath:
    """One path of a scattering of images, in pixels and degrees.

    Angles are those of wave vectors, from 0 to below 180 degrees, counterclockwise from the horizontal as the
    image is seen, with rows downwards: upright stripes have 0, level ones 90.

    Args:
        index: path id, in kymatio's order.
        order: 0 (the image's average), 1 (one band) or 2 (how one band's strength changes over the image).
        j1: scale of the first wavelet; None at order 0, as the next three.
        l1: number of its orientation.
        wavelength: its wavelength in pixels.
        angle: its angle in degrees.
        j2: scale of the second wavelet; None below order 2, as the next three.
        l2: number of its orientation.
        second_wavelength: its wavelength in pixels.
        second_angle: its angle in degrees.
        average: pixels that the average spans, None for the mean over the image.
        cost: estimated cost of one evaluation, relative to the mean over the table.
    """

    index: int
    order: int
    j1: int | None
    l1: int | None
    wavelength: float | None
    angle: float | None
    j2: int | None
    l2: int | None
    second_wavelength: float | None
    second_angle: float | None
    average: int | None
    cost: float

    units: ClassVar[dict[str, str]] = {
        "wavelength": "pixels",
        "angle": "degrees",
        "second_wavelength": "pixels",
        "second_angle": "degrees",
        "average": "pixels",
    }

    def __str__(self) -> str:
        """Return what the path listens to, as in "path 2: wavelength 2.67 pixels at 90 degrees"."""
        if self.order == 0:
            what = "mean over the image" if self.average is None else f"average over {self.average} pixels"
            return f"path {self.index}: {what}"
        text = f"path {self.index}: wavelength {self.wavelength:.3g} pixels at {self.angle:.4g} degrees"
        if self.order == 1:
            return text
        second = f"wavelength {self.second_wavelength:.3g} pixels at {self.second_angle:.4g} degrees"
        return f"{text}; its strength: {second}"


class ImagePathTable(AnyPathTable[ImagePath]):
    """Paths of a scattering of images: a tuple of :class:`ImagePath` in which the p-th has the id p.

    A slice of it is a plain tuple. ``print`` shows a line for each path.

    Args:
        paths: every path, in the order of ids.

    Example:
        >>> from scrapl_jtfs import ImageScattering
        >>> paths = ImageScattering((64, 64), J=3, L=4).paths
        >>> print(paths[30])
        path 30: wavelength 2.67 pixels at 45 degrees; its strength: wavelength 5.33 pixels at 90 degrees
        >>> paths.where(order=1, angle=(80, 100))
        (2, 6, 10)
        >>> len(paths.bundles("wavelength"))  # that of order 0, and three
        4
    """

    __slots__ = ()

    _ENTRY: ClassVar[type] = ImagePath
    _OWN_NAME: ClassVar[str] = "scattering.paths"

    def where(self, **conditions: Any) -> tuple[int, ...]:
        """Return the ids of the paths that meet every condition, ascending.

        Args:
            conditions: by the name of an attribute of :class:`ImagePath`: (lowest, highest) of wavelengths in
                pixels or of angles in degrees, both included, None for no bound; of orders, scales and
                orientations one or several. A range of angles may pass the horizontal: (170, 10). Paths without a
                second wavelet meet no condition on it.

        Raises:
            TypeError: a condition is of another type.
            ValueError: a path has no such attribute, or no path meets all conditions.
        """
        for name in ("angle", "second_angle"):
            bounds = conditions.get(name)
            if (
                isinstance(bounds, (tuple, list))
                and len(bounds) == 2
                and None not in bounds
                and bounds[0] > bounds[1]
            ):
                conditions[name] = _past_the_horizontal(*bounds)
        return super().where(**conditions)

    def _is_same(self, own: ImagePath, path: ImagePath) -> bool:
        # Tables of images of different sizes differ in nothing but costs.
        return replace(own, cost=path.cost) == path


def bands_of(path: ImagePath) -> tuple[tuple[int, int], ...]:
    """Return scale and orientation of each wavelet of a path, as many as its order."""
    pairs = (path.j1, path.l1), (path.j2, path.l2)
    return tuple((j, orientation) for j, orientation in pairs if j is not None and orientation is not None)


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
            **_wavelet(chain[:1], ("j1", "l1", "wavelength", "angle"), geometry.L),
            **_wavelet(chain[1:], ("j2", "l2", "second_wavelength", "second_angle"), geometry.L),
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


def _wavelet(band: tuple[tuple[int, int], ...], names: tuple[str, ...], L: int) -> dict[str, Any]:
    """Return scale, orientation, wavelength and angle of a wavelet by names, None where there is none."""
    if not band:
        return dict.fromkeys(names)
    ((j, orientation),) = band
    return dict(zip(names, (j, orientation, wavelength(j), angle(orientation, L)), strict=True))


def _past_the_horizontal(first: float, last: float) -> Callable[[float | None], bool]:
    """Return a condition on angles from one to another, past 180 degrees, which are 0."""
    return lambda value: value is not None and (value >= first or value <= last)
