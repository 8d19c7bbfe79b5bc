"""The tables of the study, each beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.records import format_table
from benchmarks.studies.does_it_help.problems import CHIRPLETS, GRANULAR

# Per mille, with 95% intervals, over 20 seeds at full size. Table 1 and 2: mean error, total variation, steps.
_PAPER_ABLATION: dict[str, tuple[str, str, str]] = {
    "adam": ("99.7 ± 8.2", "5.30 ± 0.25", "10906 ± 1170"),
    "p-adam": ("87.4 ± 15", "6.98 ± 0.25", "8006 ± 697"),
    "scrapl": ("73.8 ± 13", "3.46 ± 0.15", "7296 ± 683"),
    "theta-is": ("65.7 ± 4.2", "3.27 ± 0.12", "6014 ± 642"),
    "full tree": ("42.4 (one seed)", "5.66", "1442"),
    "mss": ("259 ± 1.7", "", ""),
    "mss linear": ("370 ± 0.5", "", ""),
    "mss random": ("195 ± 4.2", "", ""),
    "mss revisited": ("311 ± 19", "", ""),
    "controls": ("20.5 ± 0.2", "1.83 ± 0.025", "672 ± 23"),
}
# Table 3: errors of AM and FM. The ranges of the paper's text differ from those of its authors' program.
_PAPER_CHIRPLETS: dict[str, dict[str, tuple[str, str]]] = {
    CHIRPLETS[0]: {"scrapl": ("124 ± 10", "155 ± 18"), "theta-is": ("77.7 ± 6.7", "78.4 ± 11")},
    CHIRPLETS[1]: {"scrapl": ("111 ± 20", "68.6 ± 11"), "theta-is": ("55.5 ± 4.1", "44.4 ± 2.8")},
    CHIRPLETS[2]: {"scrapl": ("122 ± 22", "238 ± 21"), "theta-is": ("54.9 ± 3.5", "48.5 ± 4.7")},
    CHIRPLETS[3]: {"scrapl": ("108 ± 12", "95.6 ± 20"), "theta-is": ("81.5 ± 12", "82.1 ± 11")},
}


def with_interval(summary: dict[str, Any], digits: int = 1) -> str:
    """Format a mean with the half width of its 95% interval, where it has one."""
    if summary["mean"] is None:
        return "-"
    interval = summary.get("interval95")
    reach = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.{digits}f}"
    return f"{summary['mean']:.{digits}f}{reach}"


def _paper(problem: str, arm: str) -> str:
    if problem == GRANULAR:
        return _PAPER_ABLATION.get(arm, ("",))[0]
    return ", ".join(_PAPER_CHIRPLETS.get(problem, {}).get(arm, ()))


def errors_table(problem: str, summary: dict[str, Any]) -> list[list[str]]:
    """Return errors, how smooth, how soon, and how many runs failed; a row for each arm."""
    controls: Sequence[str] = summary["controls"]
    head = ["arm", "lr", "seeds", "mean", *controls, "at chance", "converged", "steps", "total var.", "paper"]
    rows = [head]
    for name, arm in summary["arms"].items():
        converged = arm["converged"]["mean"]
        rows.append(
            [
                name,
                f"{arm['lr']:g}",
                str(arm["test"]["mean"]["n"]),
                *(with_interval(arm["test"][measure]) for measure in ("mean", *controls)),
                "/".join(str(arm["at_chance"][control]) for control in controls),
                f"{converged['share']:.0%}",
                with_interval(converged["steps"], 0),
                with_interval(arm["total_variation"], 2),
                _paper(problem, name),
            ]
        )
    return rows


def differences_table(summary: dict[str, Any]) -> list[list[str]]:
    """Return differences from the reference, seed by seed, with their 95% intervals; a row for each arm."""
    controls: Sequence[str] = summary["controls"]
    rows = [["minus " + summary["reference"], "seeds", "mean", *controls, "steps", "total var.", "mean error is"]]
    for name, arm in summary["arms"].items():
        if "minus_reference" not in arm or not arm["minus_reference"]["mean"]["n"]:
            continue
        of = arm["minus_reference"]
        errors = [with_interval(of[measure]) for measure in ("mean", *controls)]
        smooth = [with_interval(of["steps"], 0), with_interval(of["total_variation"], 2)]
        rows.append([name, str(of["mean"]["n"]), *errors, *smooth, of["mean"]["verdict"]])
    return rows


def table(results: dict[str, Any]) -> str:
    """Format two tables for each problem."""
    parts = [
        "Error of the controls on unseen sounds, per mille (chance 250): mean over seeds ± half of the 95% "
        "interval. At chance: seeds above 200 for each control. Converged: once below 100 on the validation set."
    ]
    for problem, summary in results["problems"].items():
        if summary["arms"]:
            parts.append(f"{problem.upper()}\n{format_table(errors_table(problem, summary))}")
            differences = differences_table(summary)
            if len(differences) > 1:
                parts.append(format_table(differences))
    parts.append(f"OVER ALL CHIRPLETS\n{format_table(pooled_table(results))}")
    return "\n\n".join(parts)


def pooled_table(results: dict[str, Any]) -> list[list[str]]:
    """Return comparisons over all chirplet problems; a row for each."""
    rows = [["", "problems", "pairs of runs", "lower", "mean difference"]]
    for name, pooled in results["over chirplets"].items():
        if pooled["pairs"]:
            counts = [str(pooled[key]) for key in ("problems", "pairs", "lower")]
            rows.append([name, *counts, f"{pooled['mean']:.0f}"])
    return rows


def page_rows(results: dict[str, Any]) -> dict[str, list[str]]:
    """Return the rows of the documentation's tables, in Markdown, for each problem."""
    return {
        problem: [_page_row(problem, name, summary) for name in summary["arms"]]
        for problem, summary in results["problems"].items()
    }


def _page_row(problem: str, name: str, summary: dict[str, Any]) -> str:
    arm, controls = summary["arms"][name], summary["controls"]
    difference = arm.get("minus_reference", {}).get("mean", {"n": 0})
    change = f"{with_interval(difference, 0)}, {difference['verdict']}" if difference["n"] else ""
    converged = arm["converged"]
    cells = [
        name,
        f"{arm['lr']:g}",
        *(with_interval(arm["test"][measure], 0) for measure in controls),
        change,
        ", ".join(f"{converged[measure]['share']:.0%}" for measure in controls),
        ", ".join(with_interval(converged[measure]["steps"], 0) for measure in controls),
        _paper(problem, name),
    ]
    return f"| {' | '.join(cells)} |"
