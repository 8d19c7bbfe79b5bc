"""Description of a transform and of training with it, worked out from its table of paths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from scrapl_jtfs._describe.long_average import consequence, is_too_long, percent
from scrapl_jtfs._describe.step_times import StepTimes, check_computes, time_steps
from scrapl_jtfs._transform.geometry import Averaging, positive_int
from scrapl_jtfs.paths import Path, make_banks, number_text, rate_unit, scale_text
from scrapl_optim import PathAdamSAGA
from scrapl_optim._deprecation import warn_renamed
from scrapl_optim._text import bytes_text

if TYPE_CHECKING:
    from scrapl_jtfs._validation import PathIndices
    from scrapl_jtfs.transform import JTFSPath

# The storages of PathAdamSAGA that differ in size.
_STORAGES = ("float32", "bfloat16", "int8")
# A size of a parameter that fills whole blocks of the int8 storage.
_WHOLE_BLOCKS = 2**20
# Visits of each path that a training run should have.
_ENOUGH_VISITS = 25


class Description(NamedTuple):
    """Description of what a transform hears and of what training with it takes; ``print`` shows it as text.

    Without a sample rate, frequencies are in cycles per sample.

    Attributes:
        n_paths: P, the number of paths of the transform.
        n_drawn: number of paths that are drawn. All that follows is about these.
        orders: orders among them.
        n_samples: N, samples of the signals.
        sample_rate: in Hz; 1 where none was given.
        rates: rates of order 2 in Hz, each once, rising.
        rates_per_decade: mean number of rates in a factor of ten; None if there are fewer than two.
        periods: number of periods that the slowest rate makes in the signal; None without order 2.
        scales: scales in cycles per octave, each once, rising; 0 is the low-pass.
        scales_per_octave: mean number of scales above 0 in a factor of two; None if there are fewer than two.
        first_order: lowest and highest centre frequency of the first-order wavelets, in Hz.
        first_order_per_octave: Q1, the number of first-order wavelets in an octave.
        averaging: kind of average along time: "local", "global" or "none".
        average: T in samples; N for "global", 0 for "none".
        is_too_long: True if a local average is longer than an eighth of a signal that is continued by its
            reflection.
        cheapest: path of the lowest cost; costs are relative to the mean over all paths of the transform.
        costliest: path of the highest cost.
        mean_cost: mean cost of a draw if all drawn paths are equally likely.
        measured: measured seconds of a step and of a step on a spectrogram loss; None if they were not measured.
        n_rates: number of rates, order 1 counting as one; there are as many bundles of one rate.
        steps: number of training steps, if given.
        bytes_per_parameter: bytes of PathAdamSAGA's state once all these paths were drawn, per parameter of large
            matrices, by ``storage``.
        n_parameters: number of the model's parameters, if given.
        bytes_in_all: bytes of the state for that many parameters, by ``storage``.
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
    costliest: Path
    mean_cost: float
    measured: StepTimes | None
    n_rates: int
    steps: int | None
    bytes_per_parameter: dict[str, float]
    n_parameters: int | None
    bytes_in_all: dict[str, int] | None

    @property
    def visits(self) -> float | None:
        """Mean number of visits of each path in these steps; None if no steps are given."""
        return None if self.steps is None else self.steps / self.n_drawn

    @property
    def recommended_steps(self) -> int:
        """Number of steps that make 25 visits of each path."""
        return _ENOUGH_VISITS * self.n_drawn

    @property
    def dearest(self) -> Path:
        """Former name of ``costliest``, for one release."""
        warn_renamed("Description.dearest", "Description.costliest")
        return self.costliest

    @property
    def wanted_steps(self) -> int:
        """Former name of ``recommended_steps``, for one release."""
        warn_renamed("Description.wanted_steps", "Description.recommended_steps")
        return self.recommended_steps

    def __str__(self) -> str:
        """Return the text, one line for each question."""
        heard = (self._rates(), self._scales(), self._first_order(), self._average())
        training = (self._steps(), self._cost(), self._times(), *self._memory())
        return "\n".join([self._count(), *filter(None, heard), *training])

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
        return f"{_counted(len(self.rates), 'rate')}: {self._span(self.rates)}{density}; {periods}"

    def _scales(self) -> str:
        above = [scale for scale in self.scales if scale > 0]
        lowpass = "0, the low-pass" if 0.0 in self.scales else ""
        if not above:
            return f"1 scale: {lowpass}"
        span = " to ".join(dict.fromkeys((scale_text(above[0]), scale_text(above[-1]))))
        density = "" if self.scales_per_octave is None else f", {number_text(self.scales_per_octave)} an octave"
        return f"{_counted(len(above), 'scale')}: {span} cycles/octave{density}" + (
            f"; and {lowpass}" if lowpass else ""
        )

    def _first_order(self) -> str:
        return f"first order: {self._span(self.first_order)}, {self.first_order_per_octave} an octave"

    def _average(self) -> str:
        if self.averaging == "none":
            return "average along time: none (T=0)"
        if self.averaging == "global":
            return f"average along time: over the whole signal (T='global'), {self._duration(self.average)}"
        share = f"{percent(self.average, self.n_samples)} of the signal"
        remedy = f", more than an eighth: {consequence(self.n_samples)}" if self.is_too_long else ""
        return f"average along time: T = {self._duration(self.average)}, {share}{remedy}"

    def _steps(self) -> str:
        advice = f"{_ENOUGH_VISITS} visits of each path take {self.recommended_steps} steps"
        if self.visits is None:
            return f"steps: {advice}"
        return f"steps: {self.steps} visit each path {number_text(self.visits)} times on average; {advice}"

    def _cost(self) -> str:
        low, high = self.cheapest, self.costliest
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
        rows = _counted(self.n_rates, "row")
        lines.append(f"  drawing bundles of one rate keeps {rows} in place of {self.n_drawn}")
        return lines

    def _span(self, values: Sequence[float]) -> str:
        ends = dict.fromkeys((number_text(values[0]), number_text(values[-1])))
        return f"{' to '.join(ends)} {rate_unit(self.sample_rate)}"

    def _duration(self, samples: float) -> str:
        seconds = "" if self.sample_rate == 1.0 else f" = {number_text(samples / self.sample_rate)} s"
        return f"{samples:.10g} samples{seconds}"


def _counted(n: int, name: str) -> str:
    return f"{n} {name}" + ("" if n == 1 else "s")


def describe(
    jtfs: JTFSPath,
    steps: int | None = None,
    n_parameters: int | None = None,
    paths: PathIndices | Iterable[Path] | None = None,
    measure: bool = False,
) -> Description:
    """Describe a transform; see :meth:`scrapl_jtfs.JTFSPath.describe`."""
    steps = None if steps is None else positive_int(steps, "steps")
    n_parameters = None if n_parameters is None else positive_int(n_parameters, "n_parameters")
    _check_measure(jtfs, measure)
    ids = range(jtfs.n_paths) if paths is None else jtfs.paths.ids(paths)
    drawn = [jtfs.paths[p] for p in ids]
    geometry = jtfs.geometry
    rates = tuple(sorted({path.rate for path in drawn if path.order == 2}))
    scales = tuple(sorted({path.scale for path in drawn}))
    centres = [psi.xi * jtfs.sample_rate for psi in make_banks(geometry).first]
    total_bytes = None
    if n_parameters is not None:
        total_bytes = {storage: _state_bytes(jtfs, drawn, storage, n_parameters) for storage in _STORAGES}
    return Description(
        n_paths=jtfs.n_paths,
        n_drawn=len(drawn),
        orders=tuple(sorted({path.order for path in drawn})),
        n_samples=geometry.n_samples,
        sample_rate=jtfs.sample_rate,
        rates=rates,
        rates_per_decade=_density(rates, 10.0),
        periods=rates[0] / jtfs.sample_rate * geometry.n_samples if rates else None,
        scales=scales,
        scales_per_octave=_density([scale for scale in scales if scale > 0], 2.0),
        first_order=(min(centres), max(centres)),
        first_order_per_octave=geometry.Q[0],
        averaging=geometry.time.averaging,
        average={"local": geometry.time.support, "global": geometry.n_samples, "none": 0}[geometry.time.averaging],
        is_too_long=is_too_long(geometry),
        cheapest=min(drawn, key=lambda path: path.cost),
        costliest=max(drawn, key=lambda path: path.cost),
        mean_cost=math.fsum(path.cost for path in drawn) / len(drawn),
        measured=time_steps(jtfs, drawn) if measure else None,
        n_rates=len({path.n2 for path in drawn}),
        steps=steps,
        bytes_per_parameter={storage: _bytes_per_parameter(jtfs, drawn, storage) for storage in _STORAGES},
        n_parameters=n_parameters,
        bytes_in_all=total_bytes,
    )


def _check_measure(jtfs: JTFSPath, measure: object) -> None:
    if not isinstance(measure, bool):
        raise TypeError(f"Invalid measure: {measure!r}; expected True or False")
    if measure:
        check_computes(jtfs)


def _density(values: Sequence[float], factor: float) -> float | None:
    """Return the mean number of values within a factor; they rise, and a single one has no density."""
    if len(values) < 2:
        return None
    return (len(values) - 1) / (math.log(values[-1] / values[0]) / math.log(factor))


def _state_bytes(jtfs: JTFSPath, drawn: Sequence[Path], storage: str, n_parameters: int) -> int:
    """Return the bytes of PathAdamSAGA's state for one matrix, once all these paths were drawn."""
    matrix = nn.Parameter(torch.empty(1, n_parameters, device="meta"))
    return PathAdamSAGA([matrix], jtfs.n_paths, storage=storage).expected_bytes(len(drawn))


def _bytes_per_parameter(jtfs: JTFSPath, drawn: Sequence[Path], storage: str) -> float:
    # The difference of two sizes drops what does not grow with the number of parameters.
    sizes = [_state_bytes(jtfs, drawn, storage, n * _WHOLE_BLOCKS) for n in (1, 2)]
    return (sizes[1] - sizes[0]) / _WHOLE_BLOCKS
