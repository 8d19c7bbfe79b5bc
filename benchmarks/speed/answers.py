"""Answers are compared before anything is timed: a fast wrong transform is no contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness.records import AnswersDiffer, relative_distance
from benchmarks.harness.worker import Workers
from benchmarks.speed.cases import Case
from benchmarks.speed.contenders import LITERAL, OURS


@dataclass(frozen=True)
class Tolerance:
    """Largest relative differences (2-norm) allowed."""

    coefficients: float
    gradient: float
    product: float


_COMPACT = {name for name, options in OURS.items() if "samples_per_bandwidth" in options}
_EVEN = {LITERAL, *(name for name, options in OURS.items() if options.get("boundary") == "even")}
TOLERANCES = {
    # float32; second derivatives of a modulus amplify rounding most
    "exact": Tolerance(1e-4, 1e-3, 1e-2),
    # Another discretisation of the same transform. Its distance is a result, reported as such; this only catches
    # something broken. The second derivative of |z| grows as 1 / |z| near zeros of z, which differ a little.
    "compact": Tolerance(1e-2, 5e-1, 10.0),
    # Other sounds beyond both ends, which averages over the ends hear. This distance, too, is a result; the first
    # line holds the even boundary to its literal transform.
    "boundary": Tolerance(0.3, 1.0, 10.0),
}


def tolerance_name(contender: str, reference: str) -> str:
    """Return which of `TOLERANCES` holds between two contenders."""
    names = {contender, reference}
    if len(names & _EVEN) == 1:
        return "boundary"
    return "exact" if names.isdisjoint(_COMPACT) else "compact"


@dataclass(frozen=True)
class Difference:
    """The largest relative difference over the arrays of one kind, where it is, and the median."""

    contender: str
    reference: str
    what: str
    n_compared: int
    largest: float
    median: float
    where: str
    tolerance: float


def compare(
    contender: str, reference: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> list[Difference]:
    """Compare arrays named "coefficients ...", "gradient ..." or "product ...", all that `found` has.

    Raises:
        AnswersDiffer: an array is missing, has another shape, is not finite, or is too far away.
    """
    tolerance = asdict(TOLERANCES[tolerance_name(contender, reference)])
    differences = []
    for what, allowed in tolerance.items():
        distances = {}
        for name in (name for name in found if name.startswith(what)):
            if name not in expected:
                raise AnswersDiffer(f"{reference} has no {name}, {contender} has")
            if found[name].shape != expected[name].shape:
                shapes = f"{found[name].shape} and {expected[name].shape}"
                raise AnswersDiffer(f"{name} of {contender} and {reference}: shapes {shapes}")
            distances[name] = relative_distance(found[name], expected[name])
        if not distances:
            continue
        where = max(distances, key=lambda name: np.nan_to_num(distances[name], nan=np.inf))
        largest = distances[where]
        if not largest <= allowed:  # not a number is no answer either
            raise AnswersDiffer(
                f"{where}: {contender} and {reference} differ by {largest:.1e}, more than {allowed:.0e} (relative)"
            )
        median, n = float(np.median(list(distances.values()))), len(distances)
        differences.append(Difference(contender, reference, what, n, largest, median, where, allowed))
    return differences


def compare_contenders(
    workers: Workers | Mapping[str, Any], contender: str, reference: str, case: Case
) -> list[Difference]:
    """Ask two workers for the answers to a case and compare them.

    Raises:
        AnswersDiffer: they disagree, or number their paths otherwise.
    """
    if case.kind != "tree":
        tables = [
            workers[name].ask(do="paths", settings=case.to_json()["settings"]) for name in (contender, reference)
        ]
        if tables[0] != tables[1]:
            raise AnswersDiffer(f"{contender} and {reference} number their paths differently")
    with TemporaryDirectory() as folder:
        answers: list[dict[str, Any]] = []
        for name in (contender, reference):
            file = Path(folder) / f"{name}.npz"
            workers[name].ask(do="answer", case=case.to_json(), file=str(file))
            with np.load(file) as arrays:
                answers.append(dict(arrays))
    return compare(contender, reference, *answers)


def worst(
    differences: Sequence[dict[str, Any]],
    contender: str,
    references: Sequence[str],
    what: str,
    statistic: str = "largest",
) -> float | None:
    """The largest difference of one kind to some references, or the largest median; None where not compared."""
    found = (d for d in differences if (d["contender"], d["what"]) == (contender, what))
    return max((d[statistic] for d in found if d["reference"] in references), default=None)
