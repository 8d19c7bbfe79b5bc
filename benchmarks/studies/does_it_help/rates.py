"""Learning rates: chosen for each arm among the same values, on a seed that is used for nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from benchmarks.studies.does_it_help.arms import ARMS

GRID = (5e-4, 1e-3, 2e-3)
SEED = 100
_LAST = 0.25
"""Share of the history, the last, whose mean error decides: less a matter of luck than the last value."""

Run = dict[str, Any]


def needs_grid(arms: Iterable[str]) -> list[str]:
    """Return the arms whose learning rates these take, each once."""
    return list(dict.fromkeys(ARMS[name].lr_of or name for name in arms))


def late_error(run: Run) -> float:
    """Return the mean validation error over the last quarter of a run."""
    errors = [record["val"]["mean"] for record in run["history"]]
    return mean(errors[-max(1, round(_LAST * len(errors))) :])


def choose(runs: Sequence[Run]) -> dict[str, Any]:
    """Choose the learning rate of an arm from its runs on the grid; tells all errors."""
    errors = {run["lr"]: round(late_error(run), 1) for run in sorted(runs, key=lambda run: run["lr"])}
    return {"lr": min(errors, key=lambda lr: errors[lr]), "errors": {f"{lr:g}": e for lr, e in errors.items()}}
