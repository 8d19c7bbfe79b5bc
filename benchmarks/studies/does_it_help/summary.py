"""What the runs of a problem come to: errors, how smooth and how soon, and paired differences from a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from benchmarks.harness.records import mean_error
from benchmarks.harness.runs import by_arm, interval95, verdict

Run = dict[str, Any]

CONVERGED = 100.0
"""Per mille of validation error, below which the paper calls a run converged."""
AT_CHANCE = 200.0
"""Per mille of test error of one control, above which a run has not learned that control; chance is 250."""


def total_variation(run: Run) -> float:
    """Return the sum of changes of the validation error, in [0, 1] as in the paper, from epoch to epoch."""
    errors = [record["val"]["mean"] / 1000 for record in run["history"]]
    return sum(abs(b - a) for a, b in pairwise(errors))


def steps_to_converge(run: Run, measure: str = "mean") -> float | None:
    """Return the step at which a validation error first was below `CONVERGED`; None if it never was."""
    return next((float(r["step"]) for r in run["history"] if r["val"][measure] < CONVERGED), None)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Summarise one value for each seed, with the 95% interval of the mean."""
    if not values:
        return {"n": 0, "mean": None, "interval95": None}
    summary = mean_error(values)
    return {**summary, "interval95": interval95(summary)}


def convergence(runs: Sequence[Run], measure: str) -> dict[str, Any]:
    """Summarise the share of runs that converged, and the steps of those that did."""
    steps = [steps_to_converge(run, measure) for run in runs]
    reached = [step for step in steps if step is not None]
    return {"share": len(reached) / len(runs), "steps": spread(reached)}


def difference(
    mine: Sequence[Run], reference: Sequence[Run], value: Callable[[Run], float | None]
) -> dict[str, Any]:
    """Summarise differences from the reference, seed by seed, over the seeds at which both have a value."""
    others = {run["seed"]: value(run) for run in reference}
    differences: dict[str, float] = {}
    for run in mine:
        a, b = value(run), others.get(run["seed"])
        if a is not None and b is not None:
            differences[str(run["seed"])] = a - b
    summary = spread(list(differences.values()))
    return {**summary, "differences": differences, "verdict": verdict(summary["interval95"])}


def summarize(runs: Sequence[Run], controls: Sequence[str], reference: str) -> dict[str, Any]:
    """Summarise every arm of one problem."""
    arms, measures = by_arm(runs), ("mean", *controls)
    return {name: _of_arm(mine, arms.get(reference, []), measures) for name, mine in arms.items()}


def over_problems(problems: Mapping[str, Any], arm: str, reference: str) -> dict[str, Any]:
    """Compare two arms run by run, over the problems and seeds on which both were trained.

    Args:
        problems: what `summarize` returned of each, by name, under "arms".
        arm: name of one arm.
        reference: name of the other.

    Returns:
        The numbers of problems, of pairs of runs, of those in which the arm ends lower; and the mean difference of
        errors, in which each problem counts alike.
    """
    by_problem: list[list[float]] = []
    for arms in (summary["arms"] for summary in problems.values()):
        if arm in arms and reference in arms:
            others = {run["seed"]: run["test"]["mean"] for run in arms[reference]["runs"]}
            found = [
                run["test"]["mean"] - others[run["seed"]] for run in arms[arm]["runs"] if run["seed"] in others
            ]
            by_problem += [found] if found else []
    pairs = [difference for found in by_problem for difference in found]
    return {
        "problems": len(by_problem),
        "pairs": len(pairs),
        "lower": sum(difference < 0 for difference in pairs),
        "mean": mean(map(mean, by_problem)) if pairs else None,
    }


def _of_arm(mine: Sequence[Run], reference: Sequence[Run], measures: Sequence[str]) -> dict[str, Any]:
    controls = measures[1:]
    summary = {
        "lr": mine[0]["lr"],
        "test": {measure: spread([run["test"][measure] for run in mine]) for measure in measures},
        "total_variation": spread([total_variation(run) for run in mine]),
        "converged": {measure: convergence(mine, measure) for measure in measures},
        "at_chance": {c: sum(run["test"][c] > AT_CHANCE for run in mine) for c in controls},
        "seconds_per_step": mean(run["seconds"] / run["steps"] for run in mine),
        "runs": [_brief(run, measures) for run in mine],
    }
    if mine[0]["arm"] == (reference[0]["arm"] if reference else None):
        return summary
    values: dict[str, Callable[[Run], float | None]] = {
        **{measure: _test_error(measure) for measure in measures},
        "total_variation": total_variation,
        "steps": steps_to_converge,
    }
    summary["minus_reference"] = {name: difference(mine, reference, value) for name, value in values.items()}
    return summary


def _test_error(measure: str) -> Callable[[Run], float]:
    return lambda run: run["test"][measure]


def _brief(run: Run, measures: Sequence[str]) -> dict[str, Any]:
    """Return a run as the result file has it, rounded."""
    history = {m: [round(record["val"][m], 1) for record in run["history"]] for m in measures}
    return {
        **{key: run[key] for key in ("seed", "hash", "date", "steps")},
        "seconds": round(run["seconds"], 1),
        "test": {m: round(run["test"][m], 2) for m in measures},
        "history": {"step": [record["step"] for record in run["history"]], **history},
    }
