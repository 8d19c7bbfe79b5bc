"""python -m benchmarks.speed --python .venv-peer/bin/python [--quick] [--only paths memory]"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.harness.records import metric_table
from benchmarks.speed.conductor import SpeedConductor
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.plan import SECTIONS
from benchmarks.speed.plots import draw_figure
from benchmarks.speed.ratios import all_ratios


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"of {', '.join(CONTENDERS)}",
    )  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    contenders = list(dict.fromkeys(options.contenders))
    results = SpeedConductor.from_options(options, contenders).run()
    return {**results, "ratios": [ratio.record() for ratio in all_ratios(results)]}


main = Program(
    "benchmarks.speed",
    "Time JTFSPath beside scrapl-loss, kymatio and a spectrogram loss on one thread, all in one interpreter.",
    measure,
    lambda results: metric_table(all_ratios(results)),
    draw_figure,
    quick="a small selection, under three minutes",
    sections=SECTIONS,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
