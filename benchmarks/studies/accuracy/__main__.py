"""python -m benchmarks.studies.accuracy [--quick] [--out FOLDER]"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.style import write_picture
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
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

__all__ = ["main"]

_COMMITTED = Path("benchmarks/results")
_SMOOTHING = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
_SECOND = 0.01
_COMPACT = 2.0
_REFERENCE = Arm(dtype=torch.float64)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.accuracy",
        description="Measure what compact transforms and smoothed moduli change, and what that does to training.",
    )
    parser.add_argument("--quick", action="store_true", help="a small selection, under thirty seconds")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of accuracy.json and accuracy.png (default: {_COMMITTED}; runs/accuracy with --quick)",
    )
    return parser.parse_args(argv)


def train(n_tasks: int, n_starts: int, steps: int, smoothing: Sequence[float]) -> list[dict[str, Any]]:
    """Fit chirplets in every arm: double precision as the reference, each eps, and the compact transform."""
    tasks = [make_task(n_starts, SMALL, seed) for seed in range(n_tasks)]
    arms = [Arm(eps) for eps in smoothing]
    arms += [Arm(1e-4, second=_SECOND), Arm(oversampling=_COMPACT)]
    arms += [Arm(1e-4, oversampling=_COMPACT, second=_SECOND)]
    reference = fit(tasks, _REFERENCE, steps)
    return [summary(reference, reference), *(summary(fit(tasks, arm, steps), reference) for arm in arms)]


def measure(is_quick: bool) -> dict[str, Any]:
    """Run all studies, and tell how far they are on standard error."""
    selection = quick(Selection()) if is_quick else Selection()
    small = 4 if is_quick else 1
    smoothing = _SMOOTHING[::2] if is_quick else _SMOOTHING
    arms = [Arm(eps) for eps in smoothing]
    arms += [Arm(eps, second=_SECOND) for eps in smoothing[1:]]
    arms += [Arm(0.0, oversampling=s) for s in selection.oversampling]
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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    folder: Path = arguments.out or (Path("runs/accuracy") if arguments.quick else _COMMITTED)
    torch.set_num_threads(1)
    results = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": arguments.quick,
        "machine": machine(torch.device("cpu")),
        "versions": versions(["torch", "numpy"]),
        **measure(arguments.quick),
    }
    write_text(folder / "accuracy.json", json.dumps(results, indent=1) + "\n")
    write_picture(folder / "accuracy.json", draw_figure(results))
    tables = (
        compact_table(results["compact"]),
        smoothing_table(results["smoothing"]),
        layers_table(results["layers"]),
        gradient_table(results["gradients"]),
        training_table(results["training"]),
    )
    print("\n\n".join(tables))
    print(f"\nFigures   {folder / 'accuracy.json'}\nLook at   {folder / 'accuracy.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
