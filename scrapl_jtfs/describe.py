"""What a transform hears and what training on it takes, worked out from its paths before the first step."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import torch
from torch import nn

from scrapl_optim import PathAdamSAGA
from scrapl_optim.path_state import bytes_text

from .cost import StepTimes, check_computes, time_steps
from .geometry import Averaging, Geometry, positive_int
from .paths import Path, make_banks, number_text, rate_unit, scale_text

if TYPE_CHECKING:
    from .checks import PathIndices
    from .transform import JTFSPath

VISITS = 25
"""Visits of each path that a training run should have."""
SHARES = 8
"""A local average is to be at most the signal's length over this, lest it be too much about its reflection."""
STORAGES = ("float32", "bfloat16", "int8")
"""Of PathAdamSAGA, those that differ in size."""

_PACKAGE = str(FilePath(__file__).parent)
_MANY = 2**20  # entries in whole blocks of int8


@dataclass(frozen=True, repr=False)
class Description:
    """What a transform hears and what training on it takes; ``print`` shows it as text.

    Without a sample rate, frequencies are in cycles per sample.

    Args:
        n_paths: P, paths of the transform.
        n_drawn: how many of them are drawn.
        orders: of the paths that are drawn, as all that follows.
        n_samples: N, samples of the signals.
        sample_rate: in Hz; 1 where none was given.
        rates: those of order 2 in Hz, each once, rising.
        rates_per_decade: how many of them there are in a factor of ten on average; None for a single one or none.
        periods: how many periods the slowest rate makes in the signal; None without order 2.
        scales: in cycles per octave, each once, rising; 0 is the low-pass.
        scales_per_octave: how many of those above 0 there are in a factor of two on average; None for a single one
            or none.
        first_order: lowest and highest centre frequency of the first-order wavelets, in Hz.
        first_order_per_octave: Q1, their number in an octave.
        averaging: along time: "local", "global" or "none".
        average: T in samples; N for "global", 0 for "none".
        is_too_long: whether a local average is longer than an eighth of the signal.
        cheapest: the path of least cost; costs are relative to the mean path of the transform.
        dearest: the path of most cost.
        mean_cost: of a draw, each path being as likely.
        measured: seconds of a step beside those of a spectrogram loss, if they were to be measured.
        n_rates: rates and, if there is, order 1: as many bundles of one rate there are.
        steps: of training, if given.
        visits: of each path in these steps on average.
        wanted_steps: how many steps make 25 visits of each path.
        bytes_per_parameter: of PathAdamSAGA's state once all were drawn, by ``storage``, for large matrices.
        n_parameters: of the model, if given.
        bytes_in_all: of the state for a model of that many, by ``storage``.
    """

    n_paths: int
    n_drawn: int
    orders: tuple[int, ...]
    n_samples: int
    sample_rate: float
    rates: tuple[float, ...]
    rates_per_decade: float | None
    periods: float | None
    scales: tuple[float, ...]
    scales_per_octave: float | None
    first_order: tuple[float, float]
    first_order_per_octave: int
    averaging: Averaging
    average: float
    is_too_long: bool
    cheapest: Path
    dearest: Path
    mean_cost: float
    measured: StepTimes | None
    n_rates: int
    steps: int | None
    visits: float | None
    wanted_steps: int
    bytes_per_parameter: dict[str, float]
    n_parameters: int | None
    bytes_in_all: dict[str, int] | None

    def __str__(self) -> str:
        """Return the text, a line for each question."""
        heard = self._rates(), self._scales(), self._first_order(), self._average()
        return "\n".join(
            [self._count(), *filter(None, heard), self._steps(), self._cost(), self._times(), *self._memory()]
        )

    __repr__ = __str__

    def _count(self) -> str:
        count = (
            f"{self.n_paths} paths" if self.n_drawn == self.n_paths else f"{self.n_drawn} of {self.n_paths} paths"
        )
        unknown = "; without a sample_rate no Hz are known" if self.sample_rate == 1.0 else ""
        orders = " and ".join(map(str, self.orders))
        return f"{count} of order {orders}, for signals of {self._duration(self.n_samples)}{unknown}"

    def _rates(self) -> str:
        if self.periods is None:
            return ""
        density = "" if self.rates_per_decade is None else f", {number_text(self.rates_per_decade)} a decade"
        periods = f"the slowest makes {number_text(self.periods)} periods in the signal"
        return f"{_counted(self.rates, 'rate')}: {self._span(self.rates)}{density}; {periods}"

    def _scales(self) -> str:
        above = [scale for scale in self.scales if scale > 0]
        lowpass = "0, the low-pass" if 0.0 in self.scales else ""
        if not above:
            return f"1 scale: {lowpass}"
        span = " to ".join(dict.fromkeys((scale_text(above[0]), scale_text(above[-1]))))
        density = "" if self.scales_per_octave is None else f", {number_text(self.scales_per_octave)} an octave"
        return f"{_counted(above, 'scale')}: {span} cycles/octave{density}" + (
            f"; and {lowpass}" if lowpass else ""
        )

    def _first_order(self) -> str:
        return f"first order: {self._span(self.first_order)}, {self.first_order_per_octave} an octave"

    def _average(self) -> str:
        if self.averaging == "none":
            return "average along time: none (T=0)"
        if self.averaging == "global":
            return f"average along time: over the whole signal (T='global'), {self._duration(self.average)}"
        share = f"{_percent(self.average, self.n_samples)} of the signal"
        remedy = f", more than an eighth: {consequence(self.n_samples)}" if self.is_too_long else ""
        return f"average along time: T = {self._duration(self.average)}, {share}{remedy}"

    def _steps(self) -> str:
        wanted = f"{VISITS} visits of each path take {self.wanted_steps} steps"
        if self.visits is None:
            return f"steps: {wanted}"
        return f"steps: {self.steps} visit each path {number_text(self.visits)} times on average; {wanted}"

    def _cost(self) -> str:
        low, high = self.cheapest, self.dearest
        return (
            f"cost of a step, in mean paths of the transform: {number_text(low.cost)} ({low}) to "
            f"{number_text(high.cost)} ({high}), {number_text(self.mean_cost)} on average"
        )

    def _times(self) -> str:
        if self.measured is None:
            return "time of a step: measure=True (--measure) compares it with a spectrogram loss on this machine"
        return str(self.measured)

    def _memory(self) -> list[str]:
        model = "" if self.n_parameters is None else f" (and for {self.n_parameters} parameters)"
        lines = [f"PathAdamSAGA's state once all were drawn, bytes a parameter{model}:"]
        for storage, each in self.bytes_per_parameter.items():
            total = "" if self.bytes_in_all is None else f" ({bytes_text(self.bytes_in_all[storage])})"
            lines.append(f"  {storage} {each:.4g}{total}")
        rows = _counted(range(self.n_rates), "row")
        lines.append(f"  drawing bundles of one rate keeps {rows} in place of {self.n_drawn}")
        return lines

    def _span(self, values: Sequence[float]) -> str:
        ends = dict.fromkeys((number_text(values[0]), number_text(values[-1])))
        return f"{' to '.join(ends)} {rate_unit(self.sample_rate)}"

    def _duration(self, samples: float) -> str:
        seconds = "" if self.sample_rate == 1.0 else f" = {number_text(samples / self.sample_rate)} s"
        return f"{samples:.10g} samples{seconds}"


def describe(
    jtfs: JTFSPath,
    steps: int | None = None,
    n_parameters: int | None = None,
    paths: PathIndices | Iterable[Path] | None = None,
    measure: bool = False,
) -> Description:
    """Describe a transform; see :meth:`JTFSPath.describe`."""
    steps = None if steps is None else positive_int(steps, "steps")
    n_parameters = None if n_parameters is None else positive_int(n_parameters, "n_parameters")
    _check_measure(jtfs, measure)
    ids = range(jtfs.n_paths) if paths is None else jtfs.paths.ids(paths)
    drawn = [jtfs.paths[p] for p in ids]
    g = jtfs.geometry
    rates = tuple(sorted({path.rate for path in drawn if path.order == 2}))
    scales = tuple(sorted({path.scale for path in drawn}))
    first = [psi.xi * jtfs.sample_rate for psi in make_banks(g).first]
    states = {storage: _StateSize(jtfs.n_paths, len(drawn), storage) for storage in STORAGES}
    return Description(
        n_paths=jtfs.n_paths,
        n_drawn=len(drawn),
        orders=tuple(sorted({path.order for path in drawn})),
        n_samples=g.n_samples,
        sample_rate=jtfs.sample_rate,
        rates=rates,
        rates_per_decade=_density(rates, 10.0),
        periods=rates[0] / jtfs.sample_rate * g.n_samples if rates else None,
        scales=scales,
        scales_per_octave=_density([scale for scale in scales if scale > 0], 2.0),
        first_order=(min(first), max(first)),
        first_order_per_octave=g.Q[0],
        averaging=g.time.averaging,
        average={"local": g.time.support, "global": g.n_samples, "none": 0}[g.time.averaging],
        is_too_long=is_too_long(g),
        cheapest=min(drawn, key=lambda path: path.cost),
        dearest=max(drawn, key=lambda path: path.cost),
        mean_cost=math.fsum(path.cost for path in drawn) / len(drawn),
        measured=time_steps(jtfs, drawn) if measure else None,
        n_rates=len({path.n2 for path in drawn}),
        steps=steps,
        visits=None if steps is None else steps / len(drawn),
        wanted_steps=VISITS * len(drawn),
        bytes_per_parameter={storage: state.per_parameter for storage, state in states.items()},
        n_parameters=n_parameters,
        bytes_in_all=None if n_parameters is None else {s: state(n_parameters) for s, state in states.items()},
    )


def _check_measure(jtfs: JTFSPath, measure: object) -> None:
    if not isinstance(measure, bool):
        raise TypeError(f"Invalid measure: {measure!r}; expected True or False.")
    if measure:
        check_computes(jtfs)


@dataclass(frozen=True)
class _StateSize:
    """Bytes of PathAdamSAGA's state for one matrix of given size.

    Args:
        n_paths: P.
        n_drawn: different paths drawn.
        storage: how rows are kept.
    """

    n_paths: int
    n_drawn: int
    storage: str

    def __call__(self, n_parameters: int) -> int:
        matrix = nn.Parameter(torch.empty(1, n_parameters, device="meta"))
        return PathAdamSAGA([matrix], self.n_paths, storage=self.storage).expected_bytes(self.n_drawn)

    @property
    def per_parameter(self) -> float:
        return (self(2 * _MANY) - self(_MANY)) / _MANY


def _density(values: Sequence[float], factor: float) -> float | None:
    """Return how many of the values, which rise, there are in a factor."""
    if len(values) < 2:
        return None
    return (len(values) - 1) / (math.log(values[-1] / values[0]) / math.log(factor))


def _counted(values: Sequence[float], name: str) -> str:
    return f"{len(values)} {name}" + ("" if len(values) == 1 else "s")


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g} %"


def is_too_long(geometry: Geometry) -> bool:
    """Whether a local average along time is longer than an eighth of the signal."""
    return geometry.time.averaging == "local" and geometry.time.support * SHARES > geometry.n_samples


def consequence(n_samples: int) -> str:
    """Return what a local average that is too long hears, and what to do."""
    shorter = f", or T up to {n_samples // SHARES}" if n_samples >= SHARES else ""
    return (
        "it hears the signal's reflection, in which rising patterns fall, and hardly tells their direction; use "
        f"T='global'{shorter}"
    )


def warn_of_long_average(geometry: Geometry) -> None:
    """Warn the caller of this package, once, where :func:`is_too_long`."""
    if not is_too_long(geometry):
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    support, n_samples = geometry.time.support, geometry.n_samples
    warnings.warn(
        f"T = {support:.10g} samples, {_percent(support, n_samples)} of the {n_samples} of the signal, is more "
        f"than an eighth: {consequence(n_samples)}.",
        UserWarning,
        stacklevel=level,
    )
