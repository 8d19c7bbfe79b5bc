"""python -m benchmarks.studies.accuracy [--quick] [--out FOLDER]"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.studies.accuracy.plots import draw_figure
from benchmarks.studies.accuracy.studies import LAYERS, SMALL, Selection, quick, study_compact, study_smoothing
from benchmarks.studies.accuracy.tables import (
    compact_table,
    gradient_table,
    layers_table,
    smoothing_table,
    training_table,
)
from benchmarks.studies.accuracy.training import Arm, fit, make_task, study_gradients, summary

_SMOOTHING = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
_SECOND = 0.01
_COMPACT = 2.0
_REFERENCE = Arm(dtype=torch.float64)


def train(n_tasks: int, n_starts: int, steps: int, smoothing: Sequence[float]) -> list[dict[str, Any]]:
    """Fit chirplets in every arm: double precision as the reference, each eps, and the compact transform."""
    tasks = [make_task(n_starts, SMALL, seed) for seed in range(n_tasks)]
    arms = [Arm(eps) for eps in smoothing]
    arms += [Arm(1e-4, second=_SECOND), Arm(samples_per_bandwidth=_COMPACT)]
    arms += [Arm(1e-4, samples_per_bandwidth=_COMPACT, second=_SECOND)]
    reference = fit(tasks, _REFERENCE, steps)
    return [summary(reference, reference), *(summary(fit(tasks, arm, steps), reference) for arm in arms)]


def measure(is_quick: bool) -> dict[str, Any]:
    """Run all studies, and tell how far they are on standard error."""
    selection = quick(Selection()) if is_quick else Selection()
    small = 4 if is_quick else 1
    smoothing = _SMOOTHING[::2] if is_quick else _SMOOTHING
    arms = [Arm(eps) for eps in smoothing]
    arms += [Arm(eps, second=_SECOND) for eps in smoothing[1:]]
    arms += [Arm(0.0, samples_per_bandwidth=s) for s in selection.samples_per_bandwidth]
    task = make_task(2 if is_quick else 6, SMALL)
    studies: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "compact": lambda: study_compact(selection),
        "smoothing": lambda: study_smoothing(selection),
        "layers": lambda: study_smoothing(quick(LAYERS) if is_quick else LAYERS),
        "gradients": lambda: study_gradients(task, arms, every=small),
        "training": lambda: train(1 if is_quick else 2, 6, 8 if is_quick else 200, smoothing),
    }
    results: dict[str, Any] = {}
    for name, study in studies.items():
        begin = time.perf_counter()
        results[name] = list(study())
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return results


def table(results: dict[str, Any]) -> str:
    """Format one table for each study."""
    tables = {
        "compact": compact_table,
        "smoothing": smoothing_table,
        "layers": layers_table,
        "gradients": gradient_table,
        "training": training_table,
    }
    return "\n\n".join(tabulate(results[name]) for name, tabulate in tables.items())


main = Program(
    "benchmarks.studies.accuracy",
    "Measure what compact transforms and smoothed moduli change, and what that does to training.",
    lambda options: {"quick": options.quick, **provenance(("torch", "numpy")), **measure(options.quick)},
    table,
    draw_figure,
    quick="a small selection, under thirty seconds",
)

if __name__ == "__main__":
    sys.exit(main())
