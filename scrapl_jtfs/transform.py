"""JTFSPath: the joint time-frequency scattering transform, its arguments, filters and calls."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from scrapl_jtfs import features
from scrapl_jtfs._describe.description import Description, describe
from scrapl_jtfs._describe.long_average import warn_of_long_average
from scrapl_jtfs._describe.settings_for_sounds import settings_for_sounds
from scrapl_jtfs._transform import scattering
from scrapl_jtfs._transform.budget import first_layer_budget, second_layer_budget
from scrapl_jtfs._transform.eager import eager
from scrapl_jtfs._transform.even_filters import EVEN
from scrapl_jtfs._transform.filter_design import REFLECTED, make_filters
from scrapl_jtfs._transform.first_layer import FirstLayer, Settings
from scrapl_jtfs._transform.geometry import Boundary, Support, make_geometry
from scrapl_jtfs._transform.layer import scattering_layer
from scrapl_jtfs._transform.linear.autograd import full_precision
from scrapl_jtfs._validation import (
    PathIndices,
    as_path_index,
    as_path_indices,
    as_signal,
    check_not_swapped,
    check_options,
    check_orders,
    check_shapes,
    is_number,
)
from scrapl_jtfs.features import Features, Kept, Scalogram
from scrapl_jtfs.path_table import PathTable
from scrapl_jtfs.path_transform import PathTransform
from scrapl_jtfs.paths import Path, list_paths, make_banks
from scrapl_optim._deprecation import rename_arguments, renamed_property

# eps of the second layer over that of the first, whose moduli are larger and whose eps cures gradients.
_SECOND_SMOOTHING = 0.01


class JTFSPath(PathTransform):
    r"""The joint time-frequency scattering transform, whole; calling it computes one path.

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
        samples_per_bandwidth: density of the samples of sub-bands. With ``None`` it is kymatio's, and coefficients
            agree with kymatio's to 1e-5. A number s of at least 1 makes the transform compact: a sub-band has s
            samples for each unit of its wavelet's bandwidth (ten standard deviations in frequency), at least 512,
            and never more than in kymatio. On white noise, s = 2 makes a step 2.2 times as fast, coefficients
            change by 1e-4 in the median and a path's gradient by 1e-2; with s = 3 these are 1.6 times, 4e-5 and
            8e-3. Weak paths change by more. Single paths and the full tree agree with each other for every s.
            This is not kymatio's ``oversampling``, which adds samples.
        smoothing: eps, in units of the signal's root mean square: moduli are ``sqrt(|z|^2 + eps^2) - eps`` in the
            first layer, with a hundredth of eps in the second. At 0, kymatio's, the gradient with respect to the
            samples of a clean sound is rounding noise in sub-bands that are empty but for rounding; 1e-4 makes it
            reproducible to 1e-3, which matters to waveforms, not to the parameters of a synthesizer.
        memory: bytes that each layer may spend on sub-bands, by default 32 MiB on a CPU and 1 GiB on a GPU. Half
            is for sub-bands that are kept for the backward pass, which computes all others again. An eighth is
            for those computed at a time, of which there are always at least eight. Inputs, spectra, copies made by
            FFTs, coefficients and what the system's allocator holds back come on top.
        boundary: the continuation of signals at their ends. "reflect" is kymatio's: mirrored about the first and
            the last sample, and padded to a power of two. "even" repeats these samples, so that the continuation
            is even with a period of twice the signal (or of the next longer 1, 3 or 5 times a power of two), and
            half of every sub-band tells the other half. It is another condition at the ends, as valid, and not
            an approximation; FFTs are half as long, and products and sub-bands half as large. At the paper's
            settings white noise differs from kymatio's by 2e-2 in the median path with T=4096, by 1e-3 with
            T="global".

    Note:
        As in kymatio, the signal is continued by its reflection, in which rising patterns fall. A local average
        with T near ``n_samples`` hears as much of the reflection as of the signal and cannot tell the spin of a
        texture; "global" averages over the signal alone. One longer than an eighth of the signal warns, a
        UserWarning. With ``boundary="even"`` averages continue the moduli of each path by themselves: rising
        patterns rise there, too, and nothing warns.

        ``oversampling``, the former name of ``samples_per_bandwidth``, works for one more release.

        :meth:`for_sounds` chooses J, Q, J_fr, Q_fr and T by what is to be heard, :meth:`describe` tells what is.

    Attributes:
        paths: the table of paths, a :class:`PathTable`: a tuple of :class:`Path` to print and to choose from.
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

    paths: PathTable

    _OWN = ("_filters",)

    @rename_arguments(oversampling="samples_per_bandwidth")
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
        samples_per_bandwidth: float | None = None,
        smoothing: float = 0.0,
        memory: int | None = None,
        boundary: Boundary = "reflect",
    ) -> None:
        super().__init__()
        del self._like  # the filters tell dtype and device
        check_options(samples_per_bandwidth, smoothing, memory)
        if not (is_number(sample_rate, 0.0, sys.float_info.max) and sample_rate > 0):
            raise ValueError(f"Invalid sample_rate: {sample_rate!r}; expected a positive number of Hz")
        check_orders(orders)
        self.geometry = make_geometry(n_samples, J, Q, J_fr, Q_fr, T, F, boundary)
        self.sample_rate = float(sample_rate)
        self.samples_per_bandwidth, self.smoothing, self.memory = samples_per_bandwidth, smoothing, memory
        self._banks = make_banks(self.geometry)
        self.paths = PathTable(list_paths(self.geometry, self._banks, self.sample_rate, set(orders)))
        if not self.paths:
            raise ValueError(
                f"Invalid J: {J} with Q={Q!r}; expected a second-order wavelet slower than a first-order one; "
                "there is none; use a larger J"
            )
        n_first, n_rows = len(self._banks.first), self.geometry.n_rows_padded
        if n_first > n_rows:
            raise ValueError(
                f"Invalid J_fr: {J_fr}; padding leaves {n_rows} rows for {n_first} first-order wavelets, which "
                "would wrap around; expected at least as many rows; use a smaller J_fr, or a larger F"
            )
        self._orders = frozenset(path.order for path in self.paths)
        self._epsilons = smoothing, smoothing * _SECOND_SMOOTHING  # of the two layers
        self._build_filters()
        self._to_default_device()
        warn_of_long_average(self.geometry)

    @classmethod
    @rename_arguments(oversampling="samples_per_bandwidth")
    def for_sounds(
        cls,
        seconds: float,
        sample_rate: float,
        rates: tuple[float, float] = (2.0, 20.0),
        n_paths: int = 100,
        *,
        orders: Collection[int] = (2,),
        samples_per_bandwidth: float | None = None,
        smoothing: float = 0.0,
        memory: int | None = None,
        boundary: Boundary = "reflect",
    ) -> JTFSPath:
        """Return the transform for sounds of a length, with rates from the slowest to the fastest of a range.

        J is the smallest whose slowest rate is at most that of the range, Q1 is 8 and F is 2**J_fr. T is 2**J, or
        "global" where that is more than an eighth of the sound. Of Q2 in 1, 2, 3, 4, 6, 8, J_fr in 2, 3, 4, 5 and
        Q_fr in 1, 2, 3, 4 it takes those that bring the number of paths nearest to ``n_paths``; of two as near
        those with J_fr nearer to 3, then the smaller Q2. J_fr = 1, whose scales end at 1.4 cycles per octave, is
        taken only where all others make more than ``n_paths``. Faster rates are among the paths as well, up
        to what the sample rate allows; ``paths.where(rate=rates)`` keeps those between. What was chosen is in the
        ``repr`` and in :meth:`describe`.

        Args:
            seconds: length of the sounds; n_samples is the nearest to ``seconds * sample_rate``.
            sample_rate: in Hz.
            rates: (slowest, fastest) modulation to hear, in Hz.
            n_paths: P to come near to.
            orders: of :class:`JTFSPath`, with 2 among them.
            samples_per_bandwidth: density of the samples of sub-bands, as in :class:`JTFSPath`.
            smoothing: eps of smooth moduli, as in :class:`JTFSPath`.
            memory: bytes that each layer may spend on sub-bands.
            boundary: continuation of signals at their ends, "reflect" or "even", as in :class:`JTFSPath`.

        Raises:
            TypeError: ``n_paths`` is not an integer.
            ValueError: a value is out of its domain, a sound has less than one period of the slowest rate, or the
                fastest is too fast for the sample rate.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath.for_sounds(1.0, 16000, rates=(2, 20), n_paths=100)
            >>> jtfs.paths
            PathTable(90 paths of order 2, rates 1.37 to 700 Hz, scales 0 to 2.80 cycles/octave)
        """
        chosen = settings_for_sounds(seconds, sample_rate, rates, n_paths, orders)
        return cls(
            **chosen,
            sample_rate=sample_rate,
            orders=orders,
            samples_per_bandwidth=samples_per_bandwidth,
            smoothing=smoothing,
            memory=memory,
            boundary=boundary,
        )

    def describe(
        self,
        steps: int | None = None,
        n_parameters: int | None = None,
        paths: PathIndices | Iterable[Path] | None = None,
        measure: bool = False,
    ) -> Description:
        r"""Describe what the transform hears and what training on it takes; ``print`` shows it as text.

        The cost of a step is a count of operations relative to the mean path. Seconds depend on the machine: they
        are measured on request, of steps on paths of typical cost and of a spectrogram loss in turn (log and
        linear magnitudes, FFTs of 512, 1024 and 2048 samples or the signal's length), forward and backward on 4
        signals of white noise, as medians over 7 rounds after one of warm-up; none begins after 20 s.

        With Q2 = 1 the slowest rate is :math:`0.35 f_s / 2^J`. In general, with :math:`\xi, \sigma` centre and
        bandwidth of the fastest wavelet of the second order, :math:`\xi = \max(0.35, 1 / (1 + 2^{3/Q_2}))` and
        :math:`\sigma = \frac{\xi}{\sqrt{\ln 2}} \frac{1 - 2^{-1/Q_2}}{1 + 2^{-1/Q_2}}`, it is

        .. math:: \frac{f_s \xi}{Q_2} 2^{-k / Q_2} , \qquad k = \lceil Q_2 \log_2 (10 \, \sigma 2^J) \rceil - 1 .

        Args:
            steps: of training, to be told how often they visit each path.
            n_parameters: of the model, to be told what PathAdamSAGA's state takes for it.
            paths: the paths that are drawn, ids or paths of the table; by default all.
            measure: time a step, and one of a spectrogram loss, in the transform's dtype and on its device.

        Raises:
            TypeError: a number is not an integer, or ``measure`` not a bool.
            ValueError: a number is not positive, there are no such paths, or there is nothing to measure on the
                meta device.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000)
            >>> print(jtfs.describe(steps=1920, n_parameters=600_000))  # doctest: +ELLIPSIS
            90 paths of order 2, for signals of 16000 samples = 1 s
            10 rates: 1.37 to 700 Hz, 3.32 a decade; the slowest makes 1.37 periods in the signal
            4 scales: 0.35 to 2.80 cycles/octave, 1 an octave; and 0, the low-pass
            first order: 1.01 to 6966 Hz, 8 an octave
            average along time: over the whole signal (T='global'), 16000 samples = 1 s
            steps: 1920 visit each path 21.3 times on average; 25 visits of each path take 2250 steps
            cost of a step, in mean paths of the transform: 0.723 (path 0: ...) to 1.21 (path ...), 1 on average
            time of a step: measure=True (--measure) compares it with a spectrogram loss on this machine
            PathAdamSAGA's state once all were drawn, bytes a parameter (and for 600000 parameters):
              float32 724 (434 MB)
              bfloat16 364 (218 MB)
              int8 186.8 (112 MB)
              drawing bundles of one rate keeps 10 rows in place of 90
        """
        return describe(self, steps, n_parameters, paths, measure)

    def _build_filters(self) -> None:
        sampling = EVEN if self.geometry.boundary == "even" else REFLECTED
        self._filters = make_filters(self.geometry, self._banks, self.paths, self.samples_per_bandwidth, sampling)

    oversampling = renamed_property("JTFSPath", "oversampling", "samples_per_bandwidth")

    @property
    def n_paths(self) -> int:
        """P, the number of paths."""
        return len(self.paths)

    @property
    def signal_shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The axes of a signal, ``(n_samples,)``."""
        return (self.geometry.n_samples,)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that coefficients depend on, by name; transforms with equal ones compute the same."""
        return self._settings.named()

    @property
    def boundary(self) -> Boundary:
        """Continuation of signals at their ends, "reflect" or "even"."""
        return self.geometry.boundary

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the filters, and of the signals expected."""
        return self._filters.like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the filters."""
        return self._filters.like.device

    def __repr__(self) -> str:
        if len(self._modules) > 1:  # parts of a subclass
            return super().__repr__()
        return f"{self._get_name()}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        g = self.geometry
        return (
            f"n_samples={g.n_samples}, J={g.J}, Q={g.Q}, J_fr={g.J_fr}, Q_fr={g.Q_fr}, T={g.time}, "
            f"F={g.frequency}, sample_rate={self.sample_rate:g}, orders={tuple(sorted(self._orders))}, "
            f"samples_per_bandwidth={self.samples_per_bandwidth}, smoothing={self.smoothing}, "
            f"memory={self.memory}, boundary={g.boundary!r}, n_paths={self.n_paths}, dtype={self.dtype}, "
            f"device={self.device}"
        )

    @eager
    def forward(self, x: Tensor | FirstLayer, path_idx: int | None = None) -> Tensor:
        """Compute the coefficients of one path.

        Args:
            x: (..., n_samples) real signals of the module's dtype and device (half precision is converted),
                in float32 up to 1e18, beyond which squares overflow to NaN; or what :meth:`first_layer` made of
                them.
            path_idx: path id p, from 0 to P - 1; it cannot be left out.

        Returns:
            (..., rows, frames) real, non-negative up to rounding: rows along log-frequency from high to low,
                frames along time. On the meta device they have shapes and no numbers, and cost next to nothing.
        """
        if path_idx is None:
            raise TypeError(
                "Invalid path_idx: None; expected the id of a path, as in jtfs(x, path_idx); compute all with "
                "jtfs.full(x)"
            )
        index = as_path_index(path_idx, self.n_paths, "jtfs.select(x, path_indices)")
        (coefficients,) = self._bundle(self._as_first_layer(x, [index]), [self.paths[index]])
        return coefficients

    @eager
    def select(self, x: Tensor | FirstLayer, path_indices: PathIndices) -> list[Tensor]:
        """Compute several paths, sharing the scalogram and each temporal modulation.

        Args:
            x: as in :meth:`forward`.
            path_indices: path ids, in any order: a list, a range, a one-dimensional array or tensor of integers.

        Returns:
            Their coefficients in that order, each (..., rows, frames).
        """
        return self._select(x, self.paths.indices(path_indices))

    def _select(self, x: Tensor | FirstLayer, ids: Sequence[int]) -> list[Tensor]:
        coefficients = dict(self._coefficients(self._as_first_layer(x, ids), ids)) if ids else {}
        return [coefficients[p] for p in ids]

    def full(self, x: Tensor | FirstLayer) -> list[Tensor]:
        """Compute every path: a list of P tensors (..., rows, frames) in the order of ``paths``."""
        return self.select(x, range(self.n_paths))

    def stream(self, x: Tensor | FirstLayer) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) for every path, so that a caller need not hold them all."""
        ids = range(self.n_paths)
        yield from self._coefficients(self._as_first_layer(x, ids), ids)

    def row_frequencies(self, path_idx: int) -> Tensor:
        """Return the centre frequency of each row of a path's coefficients.

        It is that of the first-order wavelet at the row's centre. A row past the slowest one, which kymatio keeps
        as well, stands 1 / Q1 octave below it. With F="global" the one row stands at the geometric mean of those
        that it averages. At scale 0 and with F below 2**J_fr, rows end at F / 2**J_fr of the axis, as kymatio
        keeps no more.

        Args:
            path_idx: path id p.

        Returns:
            (rows,) falling, in Hz (cycles per sample without a sample rate), float64 on the CPU.

        Raises:
            TypeError: the id is not an integer.
            IndexError: the id is not from 0 to P - 1.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000)
            >>> [round(frequency) for frequency in jtfs.row_frequencies(40).tolist()]  # an octave apart, as F is 8
            [6966, 3483, 1742, 871, 435, 218]
        """
        return features.row_frequencies(self, path_idx)

    def frame_times(self, path_idx: int) -> Tensor:
        """Return the time of the centre of each frame of a path's coefficients; the signal starts at 0 s.

        With T="global" the one frame stands in the middle of the signal.

        Args:
            path_idx: path id p.

        Returns:
            (frames,) rising, in seconds (samples without a sample rate), float64 on the CPU.

        Raises:
            TypeError: the id is not an integer.
            IndexError: the id is not from 0 to P - 1.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> JTFSPath(16384, J=11, Q=(8, 1), J_fr=3, sample_rate=16384).frame_times(0)[:3]
            tensor([0.0000, 0.1250, 0.2500], dtype=torch.float64)
        """
        return features.frame_times(self, path_idx)

    @eager
    def features(
        self,
        x: Tensor | FirstLayer,
        rows: Kept = "keep",
        frames: Kept = "keep",
        paths: PathIndices | None = None,
    ) -> Features:
        """Compute paths as one tensor with named coordinates: rate, scale, spin, row (Hz) and frame (s).

        Where rows or frames of paths have different strides (F=0, T=0), all are interpolated linearly to the
        finest. Rows that a path does not have, as slow wavelets feed no fast path, are 0; ``has_row`` tells which.

        Args:
            x: as in :meth:`forward`.
            rows: "keep" their axis, or take the "mean" over each path's own.
            frames: the same for frames.
            paths: path ids, as in :meth:`select`; by default all.

        Returns:
            Values (..., paths[, rows][, frames]), differentiable, and their coordinates.

        Raises:
            TypeError: the signal is not a real floating-point tensor.
            ValueError: it has another length than ``n_samples``, an option is unknown, or no path is named.
            IndexError: a path id is out of range.

        Example:
            >>> import torch
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath(8192, J=9, Q=(8, 1), J_fr=3, sample_rate=8192)
            >>> features = jtfs.features(torch.randn(4, 8192), rows="mean")
            >>> features.values.shape, features.rates.shape, features.frame_times.shape
            (torch.Size([4, 63, 16]), torch.Size([63]), torch.Size([16]))
        """
        return features.features(self, x, rows, frames, paths)

    @eager
    def scalogram(self, x: Tensor, hop: int | None = None) -> Scalogram:
        r"""Compute the scalogram that all paths start from, :math:`U_1(n_1, t) = |x * \psi_{n_1}|(t)`.

        It is sampled, not averaged, and smoothing takes no part in it.

        Args:
            x: (..., n_samples) signals, as in :meth:`forward`.
            hop: samples from one frame to the next, a power of two; by default such that there are 512 to 1024
                frames, or one a sample on shorter signals.

        Returns:
            Values (..., rows, frames), differentiable, with the frequency of each row and the time of each frame.

        Raises:
            TypeError: the signal is not a real floating-point tensor, or ``hop`` not an integer.
            ValueError: the signal has another length than ``n_samples``, or ``hop`` is no power of two within it.

        Example:
            >>> import math, torch
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath(8192, J=9, Q=(8, 1), J_fr=3, sample_rate=8192)
            >>> u1 = jtfs.scalogram(torch.sin(2 * math.pi * 440 / 8192 * torch.arange(8192)))
            >>> round(float(u1.frequencies[u1.values.mean(-1).argmax()]))  # of eight an octave
            446
        """
        return features.scalogram(self, x, hop)

    @eager
    def select_pairs(self, x: Tensor, target: Tensor, path_indices: PathIndices) -> list[tuple[Tensor, Tensor]]:
        """Compute several paths of two batches together, of which only the first is differentiated.

        Args:
            x: as in :meth:`forward`.
            target: of the same shape; no gradient flows to it.
            path_indices: as in :meth:`select`.

        Returns:
            For each path the coefficients of ``x`` and of ``target``, each (..., rows, frames).

        Raises:
            ValueError: the signals differ in shape, or the target alone requires a gradient.
        """
        ids = self.paths.indices(path_indices)
        pairs = {p: (a, b) for p, a, b in self._pairs(x, target, ids)}
        return [pairs[p] for p in ids]

    def stream_pairs(
        self, x: Tensor | Sequence[Tensor], target: Tensor, path_indices: PathIndices
    ) -> Iterator[tuple[int, Any, Tensor]]:
        """Yield (path_idx, coefficients of x, of the target) as in :meth:`select_pairs`, by ascending id.

        Without gradients, a caller need not hold them all. Where ``x`` is a list of renderings of one shape, its
        coefficients are a tuple, with those of each rendering.
        """
        yield from self._pairs(x, target, self.paths.indices(path_indices))

    def _pairs(self, x: Any, target: Tensor, ids: Sequence[int]) -> Iterator[tuple[int, Any, Tensor]]:
        several = isinstance(x, (list, tuple)) and any(isinstance(rendering, Tensor) for rendering in x)
        for path_idx, phi in self._with_target(x if several else [x], target, ids):
            yield path_idx, phi[:-1].unbind() if several else phi[0], phi[-1].detach()

    def _with_target(self, xs: Sequence[Any], target: Any, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients (K + 1, ..., rows, frames)) of K batches and, last, of their target."""
        flat = [self._checked_signal(x)[0] for x in xs]
        flat_target, batch_shape = self._checked_signal(target, "target")
        for x in xs:
            check_shapes(x.shape, target.shape)
        check_not_swapped(xs, target)
        batch = torch.cat([*flat, flat_target.detach()])
        shape, differentiated = torch.Size((len(xs) + 1, *batch_shape)), len(xs) * flat_target.shape[0]
        yield from self._coefficients(self._first_layer(batch, shape, ids, differentiated), ids)

    @eager
    def first_layer(self, x: Tensor, path_indices: PathIndices | None = None) -> FirstLayer:
        """Compute what paths share: the scalogram, at the low frequencies that the second layer reads.

        Args:
            x: as in :meth:`forward`.
            path_indices: the paths that it must serve, as in :meth:`select`, by default all.

        Returns:
            What :meth:`forward`, :meth:`select`, :meth:`full` and :meth:`stream` take in place of ``x``. They
            raise ValueError for paths that it does not serve, and for the first layer of a transform with other
            settings, dtype or device; an equal one may take it, such as a copy.
        """
        ids = range(self.n_paths) if path_indices is None else as_path_indices(path_indices, self.n_paths)
        return self._first_layer(*self._checked_signal(x), ids)

    def _as_first_layer(self, x: Tensor | FirstLayer, ids: Sequence[int]) -> FirstLayer:
        """Return the first layer of signals, or one that was computed before, checked."""
        if not isinstance(x, FirstLayer):
            return self._first_layer(*self._checked_signal(x), ids)
        x.check_serves(self._settings, ids)
        return x

    @eager
    def _first_layer(
        self, flat: Tensor, batch_shape: torch.Size, ids: Collection[int], differentiated: int | None = None
    ) -> FirstLayer:
        """Compute what paths share of signals (batch, n_samples), of which the first ones are differentiated."""
        paths = [self.paths[p] for p in sorted(set(ids))]
        with full_precision(flat.device):
            level = scattering.signal_level(flat) if self.smoothing else None
            continued = scattering.continued(self._filters, flat if level is None else flat / level)
            budget = first_layer_budget(continued, continued.shape[-1], self.memory)
            layer = partial(scattering_layer, differentiated=differentiated)
            groups = scattering.scalogram(self._filters, continued, paths, self._epsilons[0], budget, layer)
            average = None
            if any(path.order == 1 for path in paths):
                average = scattering.averaged_scalogram(self._filters, continued, self._epsilons[0], budget, layer)
        level = None if level is None else level.unsqueeze(-1)
        return FirstLayer(batch_shape, groups, average, level, frozenset(ids), self._settings, differentiated)

    def _coefficients(self, layer: FirstLayer, ids: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) of paths by ascending id, computed in bundles that share one n2."""
        paths = [self.paths[p] for p in sorted(set(ids))]
        bundles = [list(bundle) for _, bundle in itertools.groupby(paths, attrgetter("n2"))]
        for bundle in bundles:
            for path, phi in zip(bundle, self._bundle(layer, bundle, len(bundles)), strict=True):
                yield path.index, phi

    @eager
    def _bundle(self, layer: FirstLayer, paths: Sequence[Path], n_bundles: int = 1) -> list[Tensor]:
        """Compute paths that share one n2."""
        with full_precision(self.device):
            budget = second_layer_budget(layer.arrays[-1], self.memory, n_bundles)
            scatter = partial(scattering_layer, differentiated=layer.differentiated)
            moduli = scattering.second_layer(self._filters, layer, paths, self._epsilons[1], budget, scatter)
            if layer.level is not None:
                moduli = [phi * layer.level for phi in moduli]
        return [phi.reshape(*layer.batch_shape, *phi.shape[1:]) for phi in moduli]

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.geometry,
            self._orders,
            self.samples_per_bandwidth,
            self.smoothing,
            self.memory,
            self.dtype,
            self.device,
        )

    def _checked_signal(self, x: Any, name: str = "x") -> tuple[Tensor, torch.Size]:
        if isinstance(x, FirstLayer):
            raise TypeError(
                f"Invalid {name}: a FirstLayer; expected a torch.Tensor; pass the signals that it was made of"
            )
        return as_signal(x, self.geometry.n_samples, self.dtype, self.device, name)
