"""Lengths, strides and margins of the transform: everything that follows from its settings alone."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrapl_jtfs._transform.filterbank import MIN_BANDWIDTH, gauss_half_support

Averaging = Literal["local", "global", "none"]
Support = int | float | Literal["global"] | None
Boundary = Literal["reflect", "even"]

# N at most: an hour and a half at 48 kHz, whose spectra take gigabytes each.
MOST_SAMPLES = 2**28
# Wavelets per octave at most: a cent is 1200.
_MOST_FILTERS = 256


class Lowpass(NamedTuple):
    """An invariance asked for along one axis.

    Attributes:
        support: width of the averaging window in samples (time) or first-order filters (log-frequency).
        averaging: "local" (Gauss low-pass and stride), "global" (mean over the axis) or "none".
    """

    support: float
    averaging: Averaging

    def __str__(self) -> str:
        """Show what T or F would have to be."""
        return {"local": str(self.support), "global": "'global'", "none": "0"}[self.averaging]

    @property
    def log2_stride(self) -> int:
        """Log2 of the stride that the window allows."""
        return math.floor(math.log2(self.support))

    def stride_of(self, j: int) -> int:
        """Return log2 of the stride of a sub-band of scale j: never coarser than a local average's."""
        return min(j, self.log2_stride) if self.averaging == "local" else j


def parse_lowpass(value: Support, J: int, longest: int, name: str) -> Lowpass:
    """Read T or F: None means 2**J, 0 no averaging, "global" the mean over the whole axis.

    Raises:
        ValueError: ``value`` is neither of these nor a number from 1 to ``longest``.
    """
    if value is None:
        return Lowpass(2**J, "local")
    if isinstance(value, str) and value == "global":
        return Lowpass(2**J, "global")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"Invalid {name}: {value!r}; expected None, 0, 'global' or a number >= 1")
    if value == 0:
        return Lowpass(2**J, "none")
    if not 1 <= value < math.inf:
        raise ValueError(f"Invalid {name}: {value!r}; expected None, 0, 'global' or a number >= 1")
    if value > longest:
        raise ValueError(
            f"Invalid {name}: {value!r}; expected at most {longest}, the samples of its axis; "
            f"pass {name}='global' to average over the whole axis"
        )
    return Lowpass(value, "local")


class Geometry(NamedTuple):
    """Settings of a JTFS, checked, and the sizes that follow.

    Attributes:
        n_samples: N, samples of the signal.
        J: octaves in time.
        Q: wavelets per octave of the first and second order, (Q1, Q2).
        J_fr: octaves along log-frequency.
        Q_fr: wavelets per octave along log-frequency.
        time: low-pass along time (T).
        frequency: low-pass along log-frequency (F).
        n_padded: samples of a period of the signal's continuation: a power of two after reflection padding; twice
            the signal and what is added to it where it is even.
        pad_left: samples added before the signal.
        pad_right: samples added after the signal, before a period that is even turns back.
        n_rows_padded: rows of the log-frequency axis after zero padding.
        boundary: the continuation of the signal at its ends.
    """

    n_samples: int
    J: int
    Q: tuple[int, int]
    J_fr: int
    Q_fr: int
    time: Lowpass
    frequency: Lowpass
    n_padded: int
    pad_left: int
    pad_right: int
    n_rows_padded: int
    boundary: Boundary = "reflect"

    @property
    def n_computed(self) -> int:
        """Samples of the signal's continuation that are computed with: half of a period that is even."""
        return self.n_padded // 2 if self.boundary == "even" else self.n_padded

    def kept_frames(self, log2_stride: int) -> slice:
        """Return the frames of a signal decimated by 2**log2_stride that lie within the unpadded one."""
        stride = 2**log2_stride
        first = -(-self.pad_left // stride)
        last = -(-(self.pad_left + self.n_samples) // stride)
        return slice(first, last)

    def frame_centres(self, log2_stride: int, *, averaged: bool) -> NDArray[np.float64]:
        """Return the sample at the centre of each of these frames, averaged along time or not."""
        # Frames of an even continuation that are not averaged stand in the middle of the samples of their stride.
        first = 0.0 if averaged or self.boundary == "reflect" else (2**log2_stride - 1) / 2
        kept = self.kept_frames(log2_stride)
        return np.arange(kept.start, kept.stop) * 2.0**log2_stride + first - self.pad_left


def positive_int(value: object, name: str, most: int | None = None) -> int:
    """Return a positive number as an int, which may be limited.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is not positive, or more than ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Invalid {name}: {value!r}; expected an integer >= 1")
    value = int(value)
    if value < 1:
        raise ValueError(f"Invalid {name}: {value}; expected an integer >= 1")
    if most is not None and value > most:
        raise ValueError(f"Invalid {name}: {value}; expected at most {most}, more take too much memory and time")
    return value


def make_geometry(
    n_samples: int,
    J: int,
    Q: int | tuple[int, int],
    J_fr: int,
    Q_fr: int,
    T: Support,
    F: Support,
    boundary: Boundary = "reflect",
) -> Geometry:
    """Check the settings of a JTFS and work out its sizes.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a value is out of range; the message names it and the remedy.
    """
    n_samples = positive_int(n_samples, "n_samples", MOST_SAMPLES)
    J, J_fr = positive_int(J, "J"), positive_int(J_fr, "J_fr")
    Q_fr = positive_int(Q_fr, "Q_fr", _MOST_FILTERS)
    pair = Q if isinstance(Q, Sequence) and not isinstance(Q, str) else (Q, 1)
    if len(pair) != 2:
        raise ValueError(f"Invalid Q: {Q!r}; expected an integer Q1 or a pair (Q1, Q2)")
    q1, q2 = positive_int(pair[0], "Q[0]", _MOST_FILTERS), positive_int(pair[1], "Q[1]", _MOST_FILTERS)
    if n_samples.bit_length() <= J:
        raise ValueError(
            f"Invalid J: {J}; expected J <= {n_samples.bit_length() - 1}, since the largest wavelet spans 2**J of "
            f"the {n_samples} samples; use a smaller J or a longer signal"
        )
    rows = (J + 1) * q1
    if J_fr >= rows.bit_length():
        raise ValueError(
            f"Invalid J_fr: {J_fr}; expected J_fr <= {rows.bit_length() - 1}, since 2**J_fr may not exceed "
            f"the {rows} rows (J + 1) * Q1 of log-frequency; use a smaller J_fr or a larger J or Q1"
        )
    time = parse_lowpass(T, J, n_samples, "T")
    frequency = parse_lowpass(F, J_fr, rows, "F")
    if not isinstance(boundary, str) or boundary not in ("reflect", "even"):
        raise ValueError(f"Invalid boundary: {boundary!r}; expected 'reflect' or 'even'")
    if boundary == "even":
        n_padded, pad_left = 2 * _even_samples(n_samples, max(J, time.log2_stride)), 0
        pad_right = n_padded // 2 - n_samples
    else:
        n_padded = _padded_samples(n_samples, time.support)
        pad_left = (n_padded - n_samples) // 2
        pad_right = n_padded - n_samples - pad_left
    rows_margin = math.floor(8 * min(frequency.support, 2**J_fr))
    n_rows_padded = (rows + rows_margin) // 2**J_fr * 2**J_fr
    return Geometry(
        n_samples,
        J,
        (q1, q2),
        J_fr,
        Q_fr,
        time,
        frequency,
        n_padded,
        pad_left,
        pad_right,
        n_rows_padded,
        boundary,
    )


def _even_samples(n_samples: int, log2_stride: int) -> int:
    """Return the least length that holds the signal, is cut by the coarsest stride, and has a fast FFT."""
    return min(odd << max(log2_stride, math.ceil(math.log2(n_samples / odd))) for odd in (1, 3, 5))


def _padded_samples(n_samples: int, support: float) -> int:
    """Return the power of two that leaves three half-supports of the low-pass on each side, if it can.

    Reflection cannot add more than n_samples - 1 on a side, which bounds it.
    """
    margin = 3 * gauss_half_support(n_samples, MIN_BANDWIDTH / support)
    log2_length = math.ceil(math.log2(n_samples + 2 * margin))
    return 2 ** min(log2_length, math.floor(math.log2(max(3 * n_samples - 2, 1))))
