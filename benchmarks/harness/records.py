"""Records of a run: selecting them, their statistics, metrics with bounds, and tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class BenchmarkError(RuntimeError):
    """A benchmark could not be run to its end."""


class AnswersDiffer(BenchmarkError):
    """Two contenders disagree by more than rounding explains."""


class Metric(NamedTuple):
    """One line of a report, most often a ratio.

    Attributes:
        name: what is measured.
        measured: None where it was not.
        relation: "<=" or ">=" of the bound.
        wanted: the bound, None where there is none.
    """

    name: str
    measured: float | None
    relation: str = ""
    wanted: float | None = None

    @property
    def met(self) -> bool | None:
        """Compare with the bound; None where there is none, or nothing to compare with it."""
        if self.measured is None or self.wanted is None:
            return None
        return bool(self.measured <= self.wanted if self.relation == "<=" else self.measured >= self.wanted)

    def record(self) -> dict[str, Any]:
        """Return the metric as a result file holds it; numbers of NumPy become Python's."""
        measured = None if self.measured is None else float(self.measured)
        relation = self.relation if self.wanted is not None else ""
        return {**self._asdict(), "measured": measured, "relation": relation, "met": self.met}


def metric_table(metrics: Sequence[Metric]) -> str:
    """Format what is measured, what is wanted, and whether it is met; those without a bound come last."""
    rows = [["", "wanted", "measured", ""]]
    for metric in sorted(metrics, key=lambda metric: metric.wanted is None):
        wanted = f"{metric.relation} {metric.wanted:.4g}" if metric.wanted is not None else ""
        measured = "-" if metric.measured is None else f"{metric.measured:.3g}"
        rows.append([metric.name, wanted, measured, {True: "met", False: "NOT MET", None: ""}[metric.met]])
    return format_table(rows)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def percentiles(values: Sequence[float], **at: float) -> dict[str, float]:
    """Summarise timings by their "median", the percentiles asked for by name (q1=25), and their number "n"."""
    values_at = np.percentile(np.asarray(values, dtype=float), [50, *at.values()]).tolist()
    return {**dict(zip(("median", *at), values_at, strict=True)), "n": len(values)}


def mean_error(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (of the population the seeds are drawn from) and standard error of the mean."""
    deviation = stdev(values) if len(values) > 1 else None
    error = None if deviation is None else deviation / math.sqrt(len(values))
    return {"n": len(values), "mean": mean(values), "std": deviation, "standard_error": error}


def plus_minus(values: dict[str, Any], key: str, sign: str = "") -> str:
    """Format what :func:`mean_error` returned as its mean and its "std" or "standard_error", where it has one."""
    if not values["n"]:
        return "-"
    return f"{values['mean']:{sign}.1f}" + ("" if values[key] is None else f" ± {values[key]:.1f}")


def relative_distance(computed: ArrayLike, expected: ArrayLike) -> float:
    """Return ||computed - expected|| / ||expected|| in double precision; zero over zero is zero."""
    b = np.asarray(expected, dtype=np.float64)
    distance, norm = float(np.linalg.norm(np.asarray(computed, dtype=np.float64) - b)), float(np.linalg.norm(b))
    if distance == 0.0:
        return 0.0
    return distance / norm if norm else math.inf


def quotient(above: float | None, below: float | None) -> float | None:
    """Divide, if both were measured."""
    return None if above is None or below is None else above / below


def n_log_n(n: float) -> float:
    """Return N log2 N, the cost of a transform made of FFTs in the limit."""
    return n * float(np.log2(n))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """a in cost ~ size ** a, by least squares of the logarithms.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError(f"an exponent needs two sizes at least, got {sorted(set(sizes))}")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


class Records:
    """Records of timing or memory, selected by their fields."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.records = list(records)

    def where(self, **fields: Any) -> Records:
        """Those with these values; a list stands for any of its members."""

        def fits(record: dict[str, Any]) -> bool:
            return all(
                record.get(name) in value if isinstance(value, list) else record.get(name) == value
                for name, value in fields.items()
            )

        return Records([record for record in self.records if fits(record)])

    def values(self, key: str) -> dict[Any, float]:
        """Median seconds, or bytes, by a field; the mean where several records share a value of it."""
        by_key: dict[Any, list[float]] = {}
        for record in self.records:
            value = record["seconds"]["median"] if "seconds" in record else float(record["bytes"])
            by_key.setdefault(record[key], []).append(value)
        return {
            name: float(np.mean(by_key[name])) for name in sorted(by_key, key=lambda name: (name is None, name))
        }

    def mean(self, key: str = "path") -> float | None:
        """Mean over the values of a field, None where there are none."""
        values = list(self.values(key).values())
        return float(np.mean(values)) if values else None

    def median(self, key: str = "path") -> float | None:
        """The same with the median."""
        values = list(self.values(key).values())
        return float(np.median(values)) if values else None
