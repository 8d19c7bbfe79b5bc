"""ImageScattering: the scattering transform of images, one differentiable path at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from scrapl_jtfs._image_scattering.bank import Bank, spectrum_of
from scrapl_jtfs._image_scattering.geometry import Averaging, make_geometry
from scrapl_jtfs._image_scattering.paths import ImagePath, ImagePathTable, bands_of, list_paths
from scrapl_jtfs._transform.eager import eager
from scrapl_jtfs._validation import PathIndices, as_dense, as_path_index
from scrapl_jtfs.path_transform import PathTransform


class ImageScattering(PathTransform):
    r"""The scattering transform of images; calling it computes one path.

    With Morlet wavelets :math:`\psi_{j, l}` of J scales and L orientations and a low-pass :math:`\phi_J` of
    :math:`2^J` pixels, the paths are

    .. math::
        x * \phi_J , \qquad |x * \psi_{j_1, l_1}| * \phi_J , \qquad
        \bigl| |x * \psi_{j_1, l_1}| * \psi_{j_2, l_2} \bigr| * \phi_J \quad (j_2 > j_1) .

    Filters, padding, strides and the order of paths are those of kymatio's Scattering2D, whose coefficients these
    are to 1e-5. One path costs the two bands that it is made of: bands are computed at their own stride, and an
    average is two small matrices.

    Args:
        shape: (height, width) of the images in pixels.
        J: octaves; the largest wavelet has a wavelength of 8/3 2**(J - 1) pixels, the average spans 2**J.
        L: orientations, evenly spaced over 180 degrees.
        max_order: 1 or 2.
        average: "local", with height // 2**J by width // 2**J frames as kymatio; or "global", the mean over those
            samples of a band that lie in the image, one frame.

    Note:
        Images are continued by their reflection, which mirrors the angle of what it continues: with "local",
        frames at the edges hear some of it.

    Attributes:
        paths: the table of paths, an :class:`ImagePathTable`: a tuple of :class:`ImagePath`.
        n_paths: P, their number: 1 + J L, and J (J - 1) / 2 L**2 more of order 2.
        signal_shape: ``shape``.

    Raises:
        TypeError: a count is not an integer; an image is not a real floating-point tensor.
        ValueError: a setting is out of range, or an image has another size.
        IndexError: a path id is out of range.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import ImageScattering
        >>> scattering = ImageScattering((64, 48), J=3)
        >>> scattering.n_paths
        217
        >>> print(scattering.paths[25])
        path 25: wavelength 2.67 pixels at 157.5 degrees; its strength: wavelength 5.33 pixels at 157.5 degrees
        >>> scattering(torch.rand(4, 3, 64, 48), path_idx=25).shape  # batch, channels, frames down, frames across
        torch.Size([4, 3, 8, 6])
        >>> scattering.stack(torch.rand(4, 64, 48)).shape  # as kymatio has them
        torch.Size([4, 217, 8, 6])

    Source: SCRAPL paper, Equation 1 for any scattering transform; Bruna and Mallat 2013 for images.
    """

    paths: ImagePathTable

    _OWN = ("_bank",)

    def __init__(
        self,
        shape: tuple[int, int],
        J: int,
        L: int = 8,
        *,
        max_order: int = 2,
        average: Averaging = "local",
    ) -> None:
        super().__init__()
        del self._like  # the filters tell dtype and device
        self.geometry = make_geometry(shape, J, L, max_order, average)
        self.signal_shape = self.geometry.shape
        self.paths = list_paths(self.geometry)
        self._bank = Bank(self.geometry)
        self._to_default_device()

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the filters, and of the images expected."""
        return self._bank.like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the filters."""
        return self._bank.like.device

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that coefficients depend on, by name; transforms with equal ones compute the same."""
        return self.geometry._asdict()

    def __repr__(self) -> str:
        return f"{self._get_name()}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        g = self.geometry
        return (
            f"shape={g.shape}, J={g.J}, L={g.L}, max_order={g.max_order}, average={g.average!r}, "
            f"n_paths={self.n_paths}, dtype={self.dtype}, device={self.device}"
        )

    @eager
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        """Compute the coefficients of one path.

        Args:
            x: (..., height, width) real images of the module's dtype and device (half precision is converted);
                channels are among the leading axes.
            path_idx: path id p, from 0 to P - 1.

        Returns:
            (..., frames down, frames across) real; (..., 1, 1) with average "global".
        """
        index = as_path_index(path_idx, self.n_paths, "scattering.select(x, path_indices)")
        return next(self._coefficients(x, [index]))[1]

    @eager
    def select(self, x: Tensor, path_indices: PathIndices | Iterable[ImagePath]) -> list[Tensor]:
        """Compute several paths, sharing the bands of the first order.

        Args:
            x: as in :meth:`forward`.
            path_indices: path ids, in any order: a list, a range, a one-dimensional array or tensor of integers;
                or paths of the table.

        Returns:
            Their coefficients in that order, as in :meth:`forward`.
        """
        ids = self.paths.indices(path_indices)
        coefficients = dict(self._coefficients(x, sorted(set(ids))))
        return [coefficients[p] for p in ids]

    def stream(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) for every path by ascending id; a caller need not hold them all."""
        yield from self._coefficients(x, range(self.n_paths))

    def checked_signal(self, x: Any, name: str = "x") -> Tensor:
        """Return images of the transform's dtype; half precision is converted.

        Args:
            x: images (..., height, width).
            name: what the caller calls them, for messages.

        Raises:
            TypeError: not a dense tensor of real floating-point numbers.
            ValueError: of another size, dtype or device than the transform, or none at all.
        """
        x = as_dense(x, name)
        if x.ndim < 2 or x.shape[-2:] != self.signal_shape:
            height, width = self.signal_shape
            raise ValueError(
                f"Invalid {name}: shape {tuple(x.shape)}; expected (..., {height}, {width}), height and width on "
                f"the last two axes; {_remedy(x.shape, (height, width))}"
            )
        return super().checked_signal(x, name)

    def _coefficients(self, x: Any, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) of paths, whose ids ascend."""
        x = self.checked_signal(x)
        flat, batch_shape = x.reshape(-1, *self.signal_shape), x.shape[:-2]
        for p, phi in self._averages(flat, [self.paths[p] for p in ids]):
            yield p, phi.reshape(*batch_shape, *phi.shape[-2:])

    def _averages(self, x: Tensor, paths: Sequence[ImagePath]) -> Iterator[tuple[int, Tensor]]:
        bank = self._bank
        continued = bank.continued(x)
        moduli = self._first_order(continued, paths)
        for order, group in itertools.groupby(paths, lambda path: path.order):
            if order == 0:
                yield from ((path.index, bank.averaged(continued, 0)) for path in group)
            elif order == 1:
                for j, some in itertools.groupby(group, lambda path: bands_of(path)[0][0]):
                    some = list(some)
                    stacked = torch.stack([moduli[bands_of(path)[0]] for path in some], 1)
                    averages = bank.averaged(stacked, j).unbind(1)
                    yield from ((path.index, phi) for path, phi in zip(some, averages, strict=True))
            else:
                yield from self._second_order(moduli, group)

    def _first_order(self, continued: Tensor, paths: Iterable[ImagePath]) -> dict[tuple[int, int], Tensor]:
        """Return the moduli (batch, height, width) of every first-order band that paths need, by (j, l)."""
        bands = sorted({bands_of(path)[0] for path in paths if path.order})
        moduli: dict[tuple[int, int], Tensor] = {}
        if bands:
            spectrum = spectrum_of(continued)
            for j, some in itertools.groupby(bands, lambda band: band[0]):
                orientations = [orientation for _, orientation in some]
                together = self._bank.bands(spectrum, 0, j, orientations).unbind(1)
                moduli.update(((j, l1), u) for l1, u in zip(orientations, together, strict=True))
        return moduli

    def _second_order(
        self, moduli: dict[tuple[int, int], Tensor], paths: Iterable[ImagePath]
    ) -> Iterator[tuple[int, Tensor]]:
        for first, siblings in itertools.groupby(paths, lambda path: bands_of(path)[0]):
            spectrum = spectrum_of(moduli[first])
            for j2, some in itertools.groupby(siblings, lambda path: bands_of(path)[1][0]):
                some = list(some)
                bands = self._bank.bands(spectrum, first[0], j2, [bands_of(path)[1][1] for path in some])
                averages = self._bank.averaged(bands, j2).unbind(1)
                yield from ((path.index, phi) for path, phi in zip(some, averages, strict=True))


def _remedy(found: torch.Size, shape: tuple[int, int]) -> str:
    """Return what brings images of a wrong shape to the right one."""
    if len(found) >= 3 and found[-3:-1] == shape:
        return "channels come before them, as in x.movedim(-1, -3)"
    if len(found) >= 2 and found[-2:] == shape[::-1]:
        return "swap them with x.mT"
    if len(found) < 2:
        return "reshape it"
    return f"crop, pad or resize it, or build ImageScattering(({found[-2]}, {found[-1]}), ...)"
