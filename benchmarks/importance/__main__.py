"""python -m benchmarks.importance --python .venv-peer/bin/python [--quick] [--only agreement speed mass]"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.harness.records import metric_table
from benchmarks.importance.conductor import ImportanceConductor
from benchmarks.importance.contenders import CONTENDERS
from benchmarks.importance.plan import SECTIONS, make_plan
from benchmarks.importance.plots import draw_figure
from benchmarks.importance.tables import all_metrics


def measure(options: argparse.Namespace) -> dict[str, Any]:
    plan = make_plan(quick=options.quick)
    results = ImportanceConductor.from_options(options, CONTENDERS, plan=plan).run()
    return {**results, "table": [metric.record() for metric in all_metrics(results)]}


main = Program(
    "benchmarks.importance",
    "theta-importance sampling beside scrapl-loss: agreement, cost, where pi's mass is.",
    measure,
    lambda results: metric_table(all_metrics(results)),
    draw_figure,
    quick="a small selection, some minutes",
    sections=SECTIONS,
)

if __name__ == "__main__":
    sys.exit(main())
