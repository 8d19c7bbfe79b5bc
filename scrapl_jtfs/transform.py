"""JTFSPath: the module that holds the constants of a transform and evaluates its paths."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import operators as ops
from . import scattering
from .geometry import Support, make_geometry
from .paths import Path, make_banks, path_table
from .subband import SubbandPlan


class JTFSPath(nn.Module):
    r"""Joint time-frequency scattering transform, one path at a time.

    For a path p = (n2, n_fr) of order 2,

    .. math::
        \phi_p(x) = \left| |x * \psi_{n_1}| *_t \psi_{n_2} *_{n_1} \psi_{n_{fr}} \right| * \Phi_{T,F}

    where psi_{n1} and psi_{n2} are Morlet wavelets along time, psi_{n_fr} one along log-frequency and
    Phi_{T,F} a low-pass of support T samples and F filters. Filters, padding, strides and the order of paths
    are those of kymatio's TimeFrequencyScattering, so probabilities over paths are interchangeable with
    scrapl-loss's.

    Args:
        n_samples: N, samples of the signals.
        J: octaves in time; the largest wavelet spans 2**J samples.
        Q: wavelets per octave, (Q1, Q2) for the first and second order, or Q1 alone (Q2 = 1).
        J_fr: octaves along log-frequency.
        Q_fr: wavelets per octave along log-frequency.
        T: support in samples of the average along time; None for 2**J, 0 for no average, "global" for the mean
            over the signal.
        F: support of the average along log-frequency in first-order filters; None for 2**J_fr, 0 or "global".
        sample_rate: in Hz, for the rates in ``paths``; without it rates are in cycles per sample.
        orders: which orders to include; scrapl-loss has order 2 alone. Order-1 paths (no temporal modulation,
            S1 * psi_{n_fr}) come first where included.

    Note:
        As in kymatio, the signal is continued by its reflection, in which rising patterns fall. A local average
        with T near ``n_samples`` hears as much of the reflection as of the signal and cannot tell the spin of a
        texture; "global" averages over the signal alone.

    Attributes:
        paths: the table of paths, a tuple of :class:`Path`.
        n_paths: P, their number.

    Raises:
        TypeError: a count is not an integer; a signal is not a real floating-point tensor.
        ValueError: a setting is out of range, or a signal has the wrong length.
        IndexError: a path id is out of range.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath
        >>> jtfs = JTFSPath(32768, J=12, Q=(8, 2), J_fr=3, Q_fr=2, T=4096, F=8, sample_rate=8192)
        >>> jtfs.n_paths
        315
        >>> jtfs(torch.randn(4, 32768), path_idx=100).shape  # batch, rows, frames
        torch.Size([4, 5, 8])

    Source: SCRAPL paper, Equation 1, sections 3 and 4.1.
    """

    def __init__(
        self,
        n_samples: int,
        J: int,
        Q: int | tuple[int, int],
        J_fr: int,
        Q_fr: int = 1,
        T: Support = None,
        F: Support = None,
        *,
        sample_rate: float = 1.0,
        orders: Collection[int] = (2,),
    ) -> None:
        super().__init__()
        if not (isinstance(sample_rate, (int, float)) and 0 < sample_rate < math.inf):
            raise ValueError(f"Invalid sample_rate: {sample_rate!r}; expected a positive number of Hz.")
        if not isinstance(orders, Collection):
            raise TypeError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2).")
        if not set(orders) or not set(orders) <= {1, 2}:
            raise ValueError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2).")
        self.geometry = make_geometry(n_samples, J, Q, J_fr, Q_fr, T, F)
        self.sample_rate = float(sample_rate)
        self._banks = make_banks(self.geometry)
        self.paths: tuple[Path, ...] = path_table(self.geometry, self._banks, self.sample_rate, set(orders))
        if not self.paths:
            raise ValueError(
                f"J={J} with Q={Q!r} leaves no path: no second-order wavelet is slower than a first-order one. "
                "Use a larger J."
            )
        n_first, n_rows = len(self._banks.first), self.geometry.n_rows_padded
        if n_first > n_rows:
            raise ValueError(
                f"Invalid J_fr: {J_fr}; padding leaves {n_rows} rows for {n_first} first-order wavelets, which "
                "would wrap around. Use a smaller J_fr, or a larger F."
            )
        device = torch.empty(0).device
        with torch.device("cpu"):  # whatever the default device, the exact constants stay here
            self._build_constants()
        if device.type != "cpu":
            self.to(device)

    def _build_constants(self) -> None:
        geometry, banks = self.geometry, self._banks
        self._exact: dict[str, Tensor] = {}
        first = ops.first_order_filters(geometry, banks)
        self._first_groups = tuple((f.j, f.group) for f in first)
        for f in first:
            self._keep(f"psi1_{f.j}", f.response)
        self._second_groups = {}
        for n2 in sorted({path.n2 for path in self.paths if path.n2 is not None}):
            self._second_groups[n2], response = ops.second_order_filter(geometry, banks, n2)
            self._keep(f"psi2_{n2}", response)
        self._frequential = tuple(ops.frequential_filters(geometry, banks))
        for n_fr, f in enumerate(self._frequential):
            self._keep(f"psi_fr_{n_fr}", f.matrix)
            if f.lowpass is not None:
                self._keep(f"phi_fr_{n_fr}", f.lowpass)
        self._averages: dict[str, ops.TimeAverage] = {}
        for j2 in sorted({path.j2 for path in self.paths if path.j2 is not None}):
            self._keep_average(f"second_{j2}", ops.second_order_average(geometry, j2))
        if any(path.order == 1 for path in self.paths):
            for j1, _ in self._first_groups:
                stride = geometry.time.stride_of(j1)
                self._keep_average(f"first_{j1}", ops.local_time_average(geometry, stride))

    def _keep(self, name: str, exact: Tensor) -> None:
        self._exact[name] = exact
        self.register_buffer(name, exact.to(_filter_dtype(torch.get_default_dtype())), persistent=False)

    def _keep_average(self, name: str, average: ops.TimeAverage) -> None:
        self._averages[name] = average
        constant = average.response if average.matrix is None else average.matrix
        if constant is not None:
            self._keep(f"phi_{name}", constant)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> JTFSPath:
        super()._apply(fn, recurse)
        for name, exact in self._exact.items():
            moved = self.get_buffer(name)
            if moved.device.type == "meta":
                continue
            # A change to float64 must not keep float32's rounding, nor to_empty what memory held.
            wanted = exact.to(device=moved.device, dtype=_filter_dtype(moved.dtype))
            if moved.dtype != wanted.dtype or not torch.equal(moved, wanted):
                setattr(self, name, wanted)
        return self

    @property
    def n_paths(self) -> int:
        """P, the number of paths."""
        return len(self.paths)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the filters, and of the signals expected."""
        return self.get_buffer("psi_fr_0").dtype

    @property
    def device(self) -> torch.device:
        """Device of the filters."""
        return self.get_buffer("psi_fr_0").device

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        g = self.geometry
        return (
            f"n_samples={g.n_samples}, J={g.J}, Q={g.Q}, J_fr={g.J_fr}, Q_fr={g.Q_fr}, T={g.time}, "
            f"F={g.frequency}, n_paths={self.n_paths}"
        )

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        """Compute the coefficients of one path.

        Args:
            x: (..., n_samples) real signals of the module's dtype and device (half precision is converted).
            path_idx: path id p, from 0 to P - 1.

        Returns:
            (..., rows, frames) real, non-negative up to rounding: rows along log-frequency from high to low,
                frames along time.
        """
        return next(self._coefficients(x, [self.checked_index(path_idx)]))[1]

    def select(self, x: Tensor, path_indices: Sequence[int]) -> list[Tensor]:
        """Compute several paths, sharing the scalogram and each temporal modulation.

        Args:
            x: as in :meth:`forward`.
            path_indices: path ids, in any order.

        Returns:
            Their coefficients in that order, each (..., rows, frames).
        """
        wanted = [self.checked_index(p) for p in path_indices]
        done = dict(self._coefficients(x, wanted)) if wanted else {}
        return [done[p] for p in wanted]

    def full(self, x: Tensor) -> list[Tensor]:
        """Compute every path: a list of P tensors (..., rows, frames) in the order of ``paths``."""
        return self.select(x, range(self.n_paths))

    def stream(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) for every path, so that a caller need not hold them all."""
        yield from self._coefficients(x, range(self.n_paths))

    def checked_index(self, path_idx: int) -> int:
        """Return a path id as an int.

        Raises:
            TypeError: not an integer.
            IndexError: not from 0 to P - 1.
        """
        if isinstance(path_idx, bool):
            raise TypeError(f"Invalid path_idx: {path_idx!r}; expected an integer.")
        try:
            index = operator.index(path_idx)
        except TypeError:
            raise TypeError(
                f"Invalid path_idx: {path_idx!r}; expected an integer from 0 to {self.n_paths - 1}."
            ) from None
        if not 0 <= index < self.n_paths:
            raise IndexError(f"path_idx {index} is out of range: there are {self.n_paths} paths, from 0.")
        return index

    def _coefficients(self, x: Tensor, wanted: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        flat, batch_shape = self._checked_signal(x)
        chosen = [self.paths[p] for p in sorted(set(wanted))]
        with torch.autocast(device_type=flat.device.type, enabled=False):
            padded = scattering.pad_signal(flat, self.geometry)
            first_order = any(path.order == 1 for path in chosen)
            j_end = self.geometry.J + 1 if first_order else max(path.j2 or 0 for path in chosen)
            u1 = self._scalogram(padded, j_end)
        if first_order:
            with torch.autocast(device_type=flat.device.type, enabled=False):
                s1 = self._averaged_scalogram(u1)
            for path in (path for path in chosen if path.order == 1):
                coefficients = self._order1(s1, path)
                yield path.index, coefficients.reshape(*batch_shape, *coefficients.shape[1:])
        n2, y2 = -1, padded
        for path in (path for path in chosen if path.order == 2):
            with torch.autocast(device_type=flat.device.type, enabled=False):
                if path.n2 != n2:
                    n2, y2 = path.n2 or 0, self._temporal_modulation(u1, path)
                coefficients = self._order2(y2, path)
            yield path.index, coefficients.reshape(*batch_shape, *coefficients.shape[1:])

    def _scalogram(self, padded: Tensor, j_end: int) -> list[Tensor]:
        groups = [(j, group) for j, group in self._first_groups if j < j_end]
        plan = SubbandPlan(self.geometry.n_padded, tuple(group for _, group in groups))
        return scattering.scalogram(padded, plan, [self.get_buffer(f"psi1_{j}") for j, _ in groups])

    def _averaged_scalogram(self, u1: Sequence[Tensor]) -> Tensor:
        rows = [self._average_time(u, f"first_{j}") for u, (j, _) in zip(u1, self._first_groups, strict=True)]
        return torch.cat(rows, dim=-2)

    def _temporal_modulation(self, u1: Sequence[Tensor], path: Path) -> Tensor:
        group = self._second_groups[path.n2 or 0]
        scales = [j for j, _ in self._first_groups if j < (path.j2 or 0)]
        plans = [ops.second_order_plan(self.geometry, group, j1) for j1 in scales]
        response = self.get_buffer(f"psi2_{path.n2}")
        return scattering.temporal_modulation(u1[: len(scales)], plans, [response] * len(scales))

    def _order1(self, s1: Tensor, path: Path) -> Tensor:
        u = self._modulate_rows(s1, path)
        if self.geometry.time.averaging == "global":
            u = u.mean(-1, keepdim=True)
        return self._average_rows(u, path)

    def _order2(self, y2: Tensor, path: Path) -> Tensor:
        u = self._modulate_rows(y2, path)
        return self._average_rows(self._average_time(u, f"second_{path.j2}"), path)

    def _modulate_rows(self, y: Tensor, path: Path) -> Tensor:
        rows = self._frequential[path.n_fr].rows_in(path.n_rows)
        matrix = torch.view_as_complex(self.get_buffer(f"psi_fr_{path.n_fr}"))
        return scattering.frequential_modulation(y, matrix[:rows, : path.n_rows])

    def _average_time(self, u: Tensor, name: str) -> Tensor:
        average = self._averages[name]
        if average.matrix is not None:
            return scattering.average_time(u, self.get_buffer(f"phi_{name}"))
        if average.response is not None:
            u = scattering.average_time_by_fft(u, self.get_buffer(f"phi_{name}"), average.n_out)
        return u[..., average.kept]

    def _average_rows(self, u: Tensor, path: Path) -> Tensor:
        psi = self._frequential[path.n_fr]
        if psi.lowpass is not None:
            lowpass = self.get_buffer(f"phi_fr_{path.n_fr}")
            return scattering.average_rows(u, lowpass[: psi.rows_out(path.n_rows), : u.shape[-2]])
        return u.mean(-2, keepdim=True) if psi.mean else u

    def _checked_signal(self, x: Any) -> tuple[Tensor, torch.Size]:
        if not isinstance(x, Tensor):
            raise TypeError(f"Expected a torch.Tensor, got {type(x).__name__}; use torch.as_tensor.")
        if not x.is_floating_point():
            raise TypeError(
                f"Expected a real floating-point signal, got {x.dtype}; convert it, e.g. x.to({self.dtype})"
                + (" or take its real part." if x.is_complex() else " / full scale.")
            )
        n = self.geometry.n_samples
        if x.ndim == 0 or x.shape[-1] != n:
            raise ValueError(
                f"Expected a signal of {n} samples on the last axis, got shape {tuple(x.shape)}; "
                f"crop or pad it, or build JTFSPath with n_samples={x.shape[-1] if x.ndim else 1}."
            )
        if x.numel() == 0:
            raise ValueError(f"Expected at least one signal, got an empty batch of shape {tuple(x.shape)}.")
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.to(self.dtype)
        if x.dtype != self.dtype or x.device != self.device:
            raise ValueError(
                f"The signal is {x.dtype} on {x.device} but the filters are {self.dtype} on {self.device}; "
                f"move one to the other, e.g. jtfs.to({str(x.device)!r}, {x.dtype})."
            )
        return x.reshape(-1, n), x.shape[:-1]


def _filter_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision cannot hold the filters."""
    return torch.float64 if dtype == torch.float64 else torch.float32
