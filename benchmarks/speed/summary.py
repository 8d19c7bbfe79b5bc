"""Medians, spreads, exponents, and looking them up among the records of a run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Records", "exponent", "n_log_n", "spread"]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and number of some timings."""
    q1, median, q3 = np.percentile(np.asarray(values, dtype=float), [25, 50, 75]).tolist()
    return {"median": median, "q1": q1, "q3": q3, "n": len(values)}


def n_log_n(n: float) -> float:
    """What a transform made of FFTs costs in the limit."""
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

    def where(self, **fields: Any) -> "Records":
        """Those with these values; a list stands for any of its members."""

        def fits(record: dict[str, Any]) -> bool:
            return all(
                record.get(name) in wanted if isinstance(wanted, list) else record.get(name) == wanted
                for name, wanted in fields.items()
            )

        return Records([record for record in self.records if fits(record)])

    def values(self, key: str) -> dict[Any, float]:
        """Median seconds, or bytes, by a field; the mean where several records share a value of it."""
        found: dict[Any, list[float]] = {}
        for record in self.records:
            value = record["seconds"]["median"] if "seconds" in record else float(record["bytes"])
            found.setdefault(record[key], []).append(value)
        return {name: float(np.mean(found[name])) for name in sorted(found, key=lambda name: (name is None, name))}

    def mean(self, key: str = "path") -> float | None:
        """Mean over the values of a field, None where there are none."""
        values = list(self.values(key).values())
        return float(np.mean(values)) if values else None

    def median(self, key: str = "path") -> float | None:
        """The same with the median."""
        values = list(self.values(key).values())
        return float(np.median(values)) if values else None
