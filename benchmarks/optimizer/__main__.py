"""python -m benchmarks.optimizer --python .venv-peer/bin/python [--quick] [--only steps drift]"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.optimizer.conductor import OptimizerConductor
from benchmarks.optimizer.contenders import PEER
from benchmarks.optimizer.plan import SECTIONS, make_plan
from benchmarks.optimizer.plots import draw_figure
from benchmarks.optimizer.tables import all_ratios, ratio_table


def measure(options: argparse.Namespace) -> dict[str, Any]:
    plan = make_plan(quick=options.quick)
    results = OptimizerConductor.from_options(options, [PEER], plan=plan).run()
    return {**results, "ratios": [ratio.record() for ratio in all_ratios(results)]}


main = Program(
    "benchmarks.optimizer",
    "Time and weigh PathAdamSAGA beside Adam and scrapl-loss's hooks, all in one interpreter.",
    measure,
    ratio_table,
    draw_figure,
    quick="a small selection, about two minutes",
    sections=SECTIONS,
)

if __name__ == "__main__":
    sys.exit(main())
