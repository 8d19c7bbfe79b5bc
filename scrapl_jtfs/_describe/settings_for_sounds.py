"""Settings of a transform, chosen by the rates that it is to hear."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from scrapl_jtfs._describe.long_average import LEAST_AVERAGES
from scrapl_jtfs._transform.filterbank import Wavelet, spinned_bank, wavelet_bank
from scrapl_jtfs._transform.geometry import MOST_SAMPLES, Support, positive_int
from scrapl_jtfs._validation import check_orders, is_number
from scrapl_jtfs.paths import Banks, number_text

# First-order wavelets per octave, which hear scales up to 2.8 cycles per octave.
_Q1 = 8
# The values of Q2 to choose from.
SECOND_ORDER = (1, 2, 3, 4, 6, 8)
# The values of J_fr to choose from: scales down to 0.7, 0.35, 0.18, 0.09 cycles per octave.
OCTAVES = (2, 3, 4, 5)
# J_fr where so few paths are asked for that there are no scales under 1.4.
_FEWEST_OCTAVES = 1
# The values of Q_fr to choose from.
FREQUENTIAL = (1, 2, 3, 4)
# Of two settings with as many paths, the one whose J_fr is nearer to this.
_USUAL_OCTAVES = 3
# The range of positive finite floats.
_POSITIVE = math.ulp(0.0), math.nextafter(math.inf, 0.0)


class Settings(NamedTuple):
    """Settings that hear the rates.

    Attributes:
        J, Q2, J_fr, Q_fr: of :class:`scrapl_jtfs.JTFSPath`, Q2 being the second of Q.
        n_paths: number of paths that they make.
    """

    J: int
    Q2: int
    J_fr: int
    Q_fr: int
    n_paths: int


def settings_for_sounds(
    seconds: float,
    sample_rate: float,
    rates: tuple[float, float],
    n_paths: int,
    orders: Collection[int],
) -> dict[str, Any]:
    """Return n_samples, J, Q, J_fr, Q_fr, T and F; see :meth:`scrapl_jtfs.JTFSPath.for_sounds`."""
    check_orders(orders)
    for name, value, unit in (("seconds", seconds, "s"), ("sample_rate", sample_rate, "Hz")):
        if not is_number(value, *_POSITIVE):
            raise ValueError(f"Invalid {name}: {value!r}; expected a positive number of {unit}")
    n_samples = round(min(float(seconds) * float(sample_rate), 2.0 * MOST_SAMPLES))
    if not 1 <= n_samples <= MOST_SAMPLES:
        raise ValueError(
            f"Invalid seconds: {seconds!r}; expected {1 / sample_rate:.3g} to {MOST_SAMPLES / sample_rate:.3g}, "
            f"of which sample_rate={sample_rate!r} makes 1 to {MOST_SAMPLES} samples; check the unit of both"
        )
    lowest, highest = _as_rates(rates, seconds)
    n_paths = positive_int(n_paths, "n_paths")
    if set(orders) == {1}:
        raise ValueError(f"Invalid orders: {orders!r}; expected (2,) or (1, 2), as order 1 has no rates")
    slow, fast = lowest / sample_rate, highest / sample_rate
    choices = list(_list_settings(n_samples, slow, fast, OCTAVES, 1 in orders))
    if not choices or n_paths < min(choice.n_paths for choice in choices):
        choices += _list_settings(n_samples, slow, fast, (_FEWEST_OCTAVES,), 1 in orders)
    if not choices:
        raise ValueError(_too_fast(n_samples, rates, sample_rate))
    best = min(choices, key=lambda c: (abs(c.n_paths - n_paths), abs(c.J_fr - _USUAL_OCTAVES), c.Q2, c.Q_fr))
    T: Support = "global" if n_samples < 2**best.J * LEAST_AVERAGES else None
    Q = (_Q1, best.Q2)
    return dict(n_samples=n_samples, J=best.J, Q=Q, J_fr=best.J_fr, Q_fr=best.Q_fr, T=T, F=None)


def _as_rates(rates: Any, seconds: float) -> tuple[float, float]:
    """Return the slowest and the fastest rate; the sound must hold a period of the slowest."""
    pair = tuple(rates) if isinstance(rates, Sequence) and not isinstance(rates, str) else ()
    if len(pair) != 2 or not all(is_number(rate, *_POSITIVE) for rate in pair) or pair[0] > pair[1]:
        raise ValueError(f"Invalid rates: {rates!r}; expected (slowest, fastest) in Hz, both positive, as (2, 20)")
    lowest, highest = float(pair[0]), float(pair[1])
    if lowest * seconds < 1 - 1e-9:
        raise ValueError(
            f"Invalid seconds: {seconds!r}; expected at least {1 / lowest:.3g} s, one period of the slowest rate, "
            f"{number_text(lowest)} Hz; take longer sounds, or rates from {number_text(1 / seconds)} Hz on"
        )
    return lowest, highest


def _list_settings(
    n_samples: int, slow: float, fast: float, octaves: Collection[int], first_order: bool
) -> Iterator[Settings]:
    """List settings that hear both rates, in cycles per sample, each with the smallest J that does."""
    for Q2 in SECOND_ORDER:
        J, rates = _smallest_J(n_samples, slow, fast, Q2)
        for J_fr in octaves:
            if not rates or 2**J_fr > (J + 1) * _Q1:
                continue
            for Q_fr in FREQUENTIAL:
                filters = 1 + len(spinned_bank(J_fr, Q_fr))
                yield Settings(J, Q2, J_fr, Q_fr, len(rates) * filters + first_order * (filters + 1) // 2)


def _smallest_J(n_samples: int, slow: float, fast: float, Q2: int) -> tuple[int, list[float]]:
    """Return the smallest J whose rates reach from ``slow`` to ``fast``, with its rates; none if no J does."""
    for J in range(1, n_samples.bit_length()):
        rates = _rates(J, Q2)
        if rates and min(rates) <= slow and max(rates) >= fast:
            return J, rates
    return 0, []


def _rates(J: int, Q2: int) -> list[float]:
    """List the rates of a transform's paths in cycles per sample."""
    lowpass = Wavelet(0.0, 0.0, 0)
    banks = Banks(wavelet_bank(J, _Q1), wavelet_bank(J, Q2), (lowpass,))
    return [psi.xi for n2, psi in enumerate(banks.second) if banks.feeding(n2)]


def _too_fast(n_samples: int, rates: Any, sample_rate: float) -> str:
    """Return the error's text where no settings hear the rates."""
    longest = n_samples.bit_length() - 1
    audible = [rate for Q2 in SECOND_ORDER for rate in (_rates(longest, Q2) if longest else ())]
    limits = f"{n_samples} samples are too few for any"
    if audible:
        lowest, highest = number_text(min(audible) * sample_rate), number_text(max(audible) * sample_rate)
        limits = f"{n_samples} samples at sample_rate={sample_rate!r} have {lowest} to {highest} Hz"
    return (
        f"Invalid rates: {rates!r}; expected rates that the sounds hold, and {limits}; take slower rates, a "
        "higher sample_rate or longer sounds"
    )
