"""The runs of a setting together: means with 95% intervals, and differences from a reference, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.harness.records import mean_error
from benchmarks.harness.runs import by_arm, interval95, verdict
from benchmarks.sound_matching.drum_matching.paper import PUBLISHED
from benchmarks.sound_matching.metrics import ALL

Run = dict[str, Any]

# Digits of the distances in the result file.
_DIGITS = 5


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Summarise one value for each seed, with the 95% interval of the mean (Student's t)."""
    summary = mean_error(values)
    return {**summary, "interval95": interval95(summary)}


def difference(mine: Sequence[Run], reference: Sequence[Run], metric: str, group: str = ALL) -> dict[str, Any]:
    """Summarise differences of a metric, seed by seed, over the seeds that both have."""
    others = {run["seed"]: run["test"][metric].get(group) for run in reference if metric in run["test"]}
    differences = {
        str(run["seed"]): run["test"][metric][group] - others[run["seed"]]
        for run in mine
        if group in run["test"].get(metric, {}) and others.get(run["seed"]) is not None
    }
    if not differences:
        return {"n": 0, "differences": {}}
    summary = spread(list(differences.values()))
    return {**summary, "differences": differences, "verdict": verdict(summary["interval95"])}


def summarize(runs: Sequence[Run], reference: str) -> dict[str, Any]:
    """Summarise the arms of a setting.

    Args:
        runs: finished ones; "test" of each has means by metric and group.
        reference: name of an arm.

    Returns:
        By arm: "test", spreads by metric and group; "minus_reference", differences by metric; steps, time, runs.
    """
    arms = by_arm(runs)
    return {name: _of_arm(mine, arms.get(reference, []), name == reference) for name, mine in arms.items()}


def _of_arm(mine: Sequence[Run], reference: Sequence[Run], is_reference: bool) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for run in mine for metric in run["test"]))
    summary: dict[str, Any] = {
        "test": {metric: _of_metric(mine, metric) for metric in metrics},
        "steps": mine[0]["steps"],
        "ms_per_step": round(median(1000 * run["seconds"] / max(1, run["steps"]) for run in mine), 2),
        "median_seconds": round(median(run["seconds"] for run in mine), 1),
        "runs": [_brief(run) for run in mine],
    }
    if not is_reference:
        summary["minus_reference"] = {metric: difference(mine, reference, metric) for metric in metrics}
    return summary


def _of_metric(mine: Sequence[Run], metric: str) -> dict[str, Any]:
    """Return spreads by group; a seed whose test set has no drum of a kind does not count there."""
    tables = [run["test"][metric] for run in mine if metric in run["test"]]
    groups = dict.fromkeys(group for table in tables for group in table)
    return {group: spread([table[group] for table in tables if group in table]) for group in groups}


def _brief(run: Run) -> dict[str, Any]:
    """Return a run as the result file has it: without single sounds, rounded."""
    test = {
        metric: {group: round(value, _DIGITS) for group, value in table.items()}
        for metric, table in run["test"].items()
    }
    return {**{key: run[key] for key in ("seed", "hash", "date", "steps", "seconds")}, "test": test}


def mean_of(summary: Mapping[str, Any], arm: str, metric: str, group: str = ALL) -> float | None:
    """Return the mean of an arm, None where it has not this metric."""
    found = summary.get(arm, {}).get("test", {}).get(metric, {}).get(group)
    return None if found is None else found["mean"]


def ranking(summary: Mapping[str, Any], metric: str, group: str = ALL) -> list[str]:
    """Return the arms that have a metric, the best first."""
    means = {arm: value for arm in summary if (value := mean_of(summary, arm, metric, group)) is not None}
    return sorted(means, key=means.__getitem__)


def paper_metric(metric: str) -> str:
    """Return the paper's metric that one of ours stands beside; all Frechet distances stand beside its one."""
    return "frechet" if metric.startswith("frechet") else metric


def agreement(summary: Mapping[str, Any], setting: str, metric: str) -> dict[str, Any]:
    """Compare the order of our arms with that of the paper's, over pairs of arms that both have.

    Returns:
        "agree" of "pairs", and "contradicted": pairs (ours, theirs) that the paper has the other way round, where
        its 95% intervals do not overlap and ours do not either.
    """
    published = PUBLISHED[paper_metric(metric)][setting]
    arms = [arm for arm in ranking(summary, metric) if arm in published]
    pairs = [(a, b) for k, a in enumerate(arms) for b in arms[k + 1 :]]
    turned = [(a, b) for a, b in pairs if published[a].mean > published[b].mean]
    clear = [
        [a, b]
        for a, b in turned
        if published[a].mean - published[a].reach > published[b].mean + published[b].reach
        and _is_clear(summary[a]["test"][metric][ALL], summary[b]["test"][metric][ALL])
    ]
    return {"agree": len(pairs) - len(turned), "pairs": len(pairs), "contradicted": clear}


def _is_clear(better: dict[str, Any], worse: dict[str, Any]) -> bool:
    """Test if two 95% intervals do not overlap."""
    if better["interval95"] is None or worse["interval95"] is None:
        return False
    return better["interval95"][1] < worse["interval95"][0]


def paired_between(summary: Mapping[str, Any], one: str, other: str, metric: str, group: str = ALL) -> str:
    """Judge one arm against another by paired differences over seeds: better, worse, no difference, too few."""
    runs = {arm: summary[arm]["runs"] for arm in (one, other)}
    found = difference(runs[one], runs[other], metric, group)
    return found["verdict"] if found["n"] else verdict(None)
