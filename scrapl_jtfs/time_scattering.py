"""TimeScattering: the scattering transform along time, its arguments, filters and calls."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs._time_scattering import layers
from scrapl_jtfs._time_scattering.filters import TimeFilters, make_time_geometry
from scrapl_jtfs._time_scattering.paths import TimePath, TimePathTable, Unit, list_time_paths
from scrapl_jtfs._transform import scattering
from scrapl_jtfs._transform.budget import first_layer_budget, second_layer_budget
from scrapl_jtfs._transform.eager import eager
from scrapl_jtfs._transform.filterbank import wavelet_bank
from scrapl_jtfs._transform.geometry import Boundary, Support
from scrapl_jtfs._transform.layer import scattering_layer
from scrapl_jtfs._transform.linear.autograd import full_precision
from scrapl_jtfs._validation import (
    PathIndices,
    check_not_swapped,
    check_options,
    check_shapes,
    is_number,
)
from scrapl_jtfs.path_transform import PathTransform
from scrapl_jtfs.paths import Banks

__all__ = ["TimePath", "TimePathTable", "TimeScattering"]

# eps of the second layer over that of the first, as in the JTFS.
_SECOND_SMOOTHING = 0.01


class _Batch(NamedTuple):
    """Signals that are computed together, continued at their ends.

    Attributes:
        shape: leading axes of the signals.
        continued: (batch, samples).
        level: (batch, 1) what they were divided by, None if nothing.
        differentiated: signals, from the first on, that are differentiated.
    """

    shape: torch.Size
    continued: Tensor
    level: Tensor | None
    differentiated: int


class TimeScattering(PathTransform):
    r"""The scattering transform along time, whole; calling it computes one path.

    It is made of the average of a signal, those of its scalogram, and those of the scalogram's modulations:

    .. math::
        S_0 x = x * \phi_T, \qquad S_1 x(n_1) = |x * \psi_{n_1}| * \phi_T, \qquad
        S_2 x(n_1, n_2) = \big| |x * \psi_{n_1}| * \psi_{n_2} \big| * \phi_T .

    Where the JTFS hears how neighbouring bands are modulated together, this hears how fast each is by itself, and
    not what rises or falls. Wavelets, padding, strides, frames and the order of paths are those of kymatio's
    Scattering1D, and with ``boundary="reflect"`` so are coefficients, to 1e-5 of a path's largest.

    Args:
        n_samples: N, samples of the signals.
        J: octaves; the largest wavelet spans 2**J samples.
        Q: wavelets per octave, (Q1, Q2) for the first and second order, or Q1 alone (Q2 = 1).
        T: support in samples of the average :math:`\phi_T`; None for 2**J, "global" for the mean over the signal,
            0 for no average.
        max_order: 2, or 1 to leave out modulations.
        by: what a path of order 2 is. "pair": a pair of wavelets, :math:`S_2 x(n_1, n_2)` with j1 < j2, and at
            order 1 a wavelet n1; these are the rows of kymatio's array, each (..., frames). "second": a wavelet n2
            with all n1 that it hears, (..., rows, frames) from high to low frequency; order 1 is one path with all
            n1, and order 0 one with a single row. With T=0, where frames of the n1 have several strides, order 1
            has a path for each stride.
        sample_rate: in Hz, for the frequencies and rates in ``paths``; without it they are in cycles per sample.
        smoothing: eps of smooth moduli in units of the signal's root mean square, as in :class:`JTFSPath`.
        memory: bytes that each layer may spend on sub-bands, as in :class:`JTFSPath`.
        boundary: continuation of signals at their ends, "reflect" or "even", as in :class:`JTFSPath`.

    Note:
        Kymatio 0.3.0 weakens coefficients by its strides: :math:`S_1` by :math:`2^{k_1}`, the stride of its
        wavelet, and :math:`S_2` by :math:`2^{k_1 + k_2}`, the product of both strides; with T=0 :math:`S_2` alone,
        by :math:`2^{k_1}`. Its development version, which scrapl-loss is built on, has mended this, and this class
        agrees with that. With T="global" that version averages over the reflections at the ends as well, this one
        over the signal alone.

    Attributes:
        paths: the table of paths, a :class:`TimePathTable`: a tuple of :class:`TimePath`.
        signal_shape: ``(n_samples,)``.

    Raises:
        TypeError: a count is not an integer; a signal is not a real floating-point tensor.
        ValueError: a setting is out of range, or a signal has the wrong length.
        IndexError: a path id is out of range.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import TimeScattering
        >>> scattering = TimeScattering(16384, J=10, Q=(8, 1), sample_rate=16384)
        >>> scattering.n_paths
        374
        >>> print(scattering.paths[200])
        path 200: 1635 Hz, modulated at 358 Hz
        >>> scattering(torch.randn(4, 16384), path_idx=200).shape  # batch, frames
        torch.Size([4, 16])
        >>> scattering.stack(torch.randn(4, 16384)).shape
        torch.Size([4, 374, 16])

    Source: Mallat, Group invariant scattering (2012); Anden & Mallat, Deep scattering spectrum (2014).
    """

    # Narrower than any path transform's; it is set once.
    paths: TimePathTable  # pyright: ignore[reportIncompatibleVariableOverride]

    _OWN = ("_filters",)

    def __init__(
        self,
        n_samples: int,
        J: int,
        Q: int | tuple[int, int],
        T: Support = None,
        *,
        max_order: int = 2,
        by: Unit = "pair",
        sample_rate: float = 1.0,
        smoothing: float = 0.0,
        memory: int | None = None,
        boundary: Boundary = "reflect",
    ) -> None:
        super().__init__()
        check_options(None, smoothing, memory)
        if not (is_number(sample_rate, 0.0, sys.float_info.max) and sample_rate > 0):
            raise ValueError(f"Invalid sample_rate: {sample_rate!r}; expected a positive number of Hz")
        if isinstance(max_order, bool) or max_order not in (1, 2):
            raise ValueError(f"Invalid max_order: {max_order!r}; expected 1 or 2")
        if not isinstance(by, str) or by not in ("pair", "second"):
            raise ValueError(f"Invalid by: {by!r}; expected 'pair' or 'second'")
        self.geometry = make_time_geometry(n_samples, J, Q, T, boundary)
        self.sample_rate, self.max_order, self.by = float(sample_rate), int(max_order), by
        self.smoothing, self.memory = smoothing, memory
        self._epsilons = smoothing, smoothing * _SECOND_SMOOTHING  # of the two layers
        q1, q2 = self.geometry.Q
        banks = Banks(wavelet_bank(J, q1), wavelet_bank(J, q2), ())
        self.paths = list_time_paths(self.geometry, banks, self.sample_rate, self.max_order, self.by)
        self.signal_shape = (self.geometry.n_samples,)
        n2s = {path.n2 for path in self.paths if path.n2 is not None}
        self._filters = TimeFilters(self.geometry, banks, n2s)
        self._to_default_device()

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the filters, and of the signals expected."""
        return self._filters.like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the filters."""
        return self._filters.like.device

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that coefficients depend on, by name; transforms with equal ones compute the same."""
        g = self.geometry
        return {
            "n_samples": g.n_samples,
            "J": g.J,
            "Q": g.Q,
            "T": str(g.time),
            "max_order": self.max_order,
            "by": self.by,
            "smoothing": self.smoothing,
            "boundary": g.boundary,
        }

    def __repr__(self) -> str:
        if len(self._modules) > 1:  # parts of a subclass
            return super().__repr__()
        return f"{self._get_name()}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        g = self.geometry
        return (
            f"n_samples={g.n_samples}, J={g.J}, Q={g.Q}, T={g.time}, max_order={self.max_order}, by={self.by!r}, "
            f"sample_rate={self.sample_rate:g}, smoothing={self.smoothing}, memory={self.memory}, "
            f"boundary={g.boundary!r}, n_paths={self.n_paths}, dtype={self.dtype}, device={self.device}"
        )

    @eager
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        """Compute the coefficients of one path; no sub-band is computed but those that it is made of.

        Args:
            x: (..., n_samples) real signals of the module's dtype and device (half precision is converted).
            path_idx: path id p, from 0 to P - 1.

        Returns:
            (..., frames) with ``by="pair"``, (..., rows, frames) with ``by="second"``, rows from high to low
                frequency; non-negative up to rounding but at order 0.
        """
        index = self.checked_index(path_idx)
        return self.select(x, [index])[0]

    @eager
    def select(self, x: Tensor, path_indices: PathIndices) -> list[Tensor]:
        """Compute several paths, sharing the scalogram and each temporal modulation.

        Args:
            x: as in :meth:`forward`.
            path_indices: path ids, in any order: a list, a range, a one-dimensional array or tensor of integers.

        Returns:
            Their coefficients in that order.
        """
        ids = self.paths.indices(path_indices)
        batch = self._batch(self.checked_signal(x))
        coefficients = dict(self._coefficients(batch, ids))
        return [coefficients[p] for p in ids]

    def stream(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) for every path, by ascending id.

        With ``by="second"`` each is computed when it is asked for. With ``by="pair"`` all are computed before the
        first of order 2, as kymatio's order takes n1 first and the computation n2.
        """
        yield from self._ascending(self._batch(self.checked_signal(x)), range(self.n_paths))

    def stream_pairs(self, x: Any, target: Tensor, path_indices: PathIndices) -> Iterator[tuple[int, Any, Tensor]]:
        """Yield (path_idx, coefficients of x, of the target) by ascending id, computed together.

        No gradient flows to the target.

        Args:
            x: as in :meth:`forward`, or a list of several of one shape, whose coefficients are a tuple.
            target: signals of the same shape.
            path_indices: path ids, as in :meth:`select`.

        Raises:
            ValueError: the signals differ in shape, or the target alone requires a gradient.
        """
        ids = self.paths.indices(path_indices)
        several = isinstance(x, (list, tuple))
        xs = [self.checked_signal(one) for one in (x if several else [x])]
        target = self.checked_signal(target, "target")
        for one in xs:
            check_shapes(one.shape, target.shape)
        check_not_swapped(xs, target)
        batch = self._batch(torch.stack([*xs, target.detach()]), len(xs))
        for path_idx, phi in self._ascending(batch, ids):
            yield path_idx, tuple(phi[:-1]) if several else phi[0], phi[-1].detach()

    def row_frequencies(self, path_idx: int) -> Tensor:
        """Return the centre frequency of each row of a path: those of ``paths[path_idx].frequencies``.

        Args:
            path_idx: path id p.

        Returns:
            (rows,) falling, in Hz (cycles per sample without a sample rate), float64 on the CPU.

        Example:
            >>> from scrapl_jtfs import TimeScattering
            >>> scattering = TimeScattering(16384, J=10, Q=(8, 1), by="second", sample_rate=16384)
            >>> [round(frequency) for frequency in scattering.row_frequencies(2)[:3].tolist()]
            [7133, 6541, 5998]
        """
        return torch.tensor(
            self.paths[self.checked_index(path_idx)].frequencies, dtype=torch.float64, device="cpu"
        )

    def frame_times(self, path_idx: int) -> Tensor:
        """Return the time of the centre of each frame of a path; the signal starts at 0 s.

        With T="global" the one frame stands in the middle of the signal.

        Args:
            path_idx: path id p.

        Returns:
            (frames,) rising, in seconds (samples without a sample rate), float64 on the CPU.

        Example:
            >>> from scrapl_jtfs import TimeScattering
            >>> TimeScattering(16384, J=10, Q=(8, 1), sample_rate=16384).frame_times(0)[:3]
            tensor([0.0000, 0.0625, 0.1250], dtype=torch.float64)
        """
        path, time = self.paths[self.checked_index(path_idx)], self.geometry.time
        if time.averaging == "global":
            centres = np.array([(self.geometry.n_samples - 1) / 2])
        elif time.averaging == "local":
            centres = self.geometry.frame_centres(time.log2_stride, averaged=True)
        else:
            stride = path.j1 if path.j2 is None else path.j2
            centres = self.geometry.frame_centres(stride or 0, averaged=False)
        return torch.from_numpy(centres / self.sample_rate)

    @eager
    def _batch(self, x: Tensor, n_differentiated: int | None = None) -> _Batch:
        """Continue signals (..., n_samples), of which the first entries of the first axis are differentiated."""
        flat = x.reshape(-1, self.geometry.n_samples)
        differentiated = flat.shape[0]
        if n_differentiated is not None:
            differentiated = differentiated // x.shape[0] * n_differentiated
        with full_precision(flat.device):
            level = scattering.signal_level(flat) if self.smoothing else None
            continued = scattering.continued(self._filters, flat if level is None else flat / level)
        return _Batch(x.shape[:-1], continued, level, differentiated)

    def _ascending(self, batch: _Batch, ids: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) of paths by ascending id, holding those whose turn has not come."""
        waiting: dict[int, Tensor] = {}
        computed = self._coefficients(batch, ids)
        for path_idx in sorted(set(ids)):
            while path_idx not in waiting:
                waiting.update([next(computed)])
            yield path_idx, waiting.pop(path_idx)

    def _coefficients(self, batch: _Batch, ids: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) of paths, each once, those of one n2 one after the other."""
        paths = [self.paths[p] for p in sorted(set(ids))]
        zero, one, two = ([path for path in paths if path.order == order] for order in range(3))
        bundles = {n2: [path for path in two if path.n2 == n2] for n2 in sorted({path.n2 or 0 for path in two})}
        readers = {n2: {n1 for path in bundle for n1 in path.n1} for n2, bundle in bundles.items()}
        for path in zero:
            yield path.index, self._finished(batch, [self._order_zero(batch)])
        first = self._first_layer(batch, {n1 for path in one for n1 in path.n1}, readers)
        averages = layers.order_one(first)
        for path in one:
            yield path.index, self._finished(batch, [averages[n1] for n1 in path.n1])
        for n2, bundle in bundles.items():
            moduli = self._order_two(batch, first, n2, readers[n2], len(bundles))
            for path in bundle:
                yield path.index, self._finished(batch, [moduli[n1] for n1 in path.n1])

    def _finished(self, batch: _Batch, rows: Sequence[Tensor]) -> Tensor:
        """Return the coefficients of a path, given its rows (batch, frames) from high to low frequency."""
        phi = rows[0] if self.by == "pair" else torch.stack(list(rows), dim=1)
        if batch.level is not None:
            phi = phi * (batch.level if self.by == "pair" else batch.level.unsqueeze(-1))
        return phi.reshape(*batch.shape, *phi.shape[1:])

    @eager
    def _order_zero(self, batch: _Batch) -> Tensor:
        with full_precision(self.device):
            return layers.order_zero(self._filters, batch.continued)

    @eager
    def _first_layer(
        self, batch: _Batch, averaged: set[int], readers: dict[int, set[int]]
    ) -> Sequence[layers.Rows]:
        x = batch.continued
        with full_precision(self.device):
            budget = first_layer_budget(x, x.shape[-1], self.memory)
            layer = partial(scattering_layer, differentiated=batch.differentiated)
            return layers.first_layer(self._filters, x, averaged, readers, self._epsilons[0], budget, layer)

    @eager
    def _order_two(
        self, batch: _Batch, first: Sequence[layers.Rows], n2: int, wanted: set[int], n_calls: int
    ) -> dict[int, Tensor]:
        with full_precision(self.device):
            budget = second_layer_budget(batch.continued, self.memory, n_calls)
            layer = partial(scattering_layer, differentiated=batch.differentiated)
            return layers.order_two(self._filters, first, n2, wanted, self._epsilons[1], budget, layer)
