"""python -m benchmarks.optimizer --python .venv-peer/bin/python [--quick] [--only steps drift]"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..program import COMMITTED, benchmark_parser, guarded, partial_file, warn_of_load, write_report
from .conductor import Conductor
from .plan import SECTIONS, make_plan
from .plots import draw_figure
from .tables import all_ratios, format_table

__all__ = ["main", "write_results"]

_NAME = "optimizer"


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write optimizer.json, ratios included, and optimizer.png."""
    results["ratios"] = [{**asdict(ratio), "met": ratio.met} for ratio in all_ratios(results)]
    write_report(folder, _NAME, results, draw_figure, format_table(results))


def main(argv: Sequence[str] | None = None) -> int:
    description = "Time and weigh PathAdamSAGA beside Adam and scrapl-loss's hooks, all in one interpreter."
    arguments = benchmark_parser(_NAME, description, SECTIONS, "a small selection, about two minutes").parse_args(
        argv
    )
    sections = list(dict.fromkeys(arguments.only))
    whole = not arguments.quick and len(sections) == len(SECTIONS)
    # A part must not take the place of the committed figures.
    folder: Path = arguments.out or (COMMITTED if whole else partial_file(_NAME).parent)
    warn_of_load()
    plan = make_plan(quick=arguments.quick)
    conductor = Conductor(arguments.python, plan, sections, arguments.quick, partial_file(_NAME))
    return guarded(_NAME, arguments.python, lambda: write_results(folder, conductor.run()))


if __name__ == "__main__":
    sys.exit(main())
