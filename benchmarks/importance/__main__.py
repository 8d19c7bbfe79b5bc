"""python -m benchmarks.importance --python .venv-peer/bin/python [--quick] [--only agreement speed mass]"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..program import COMMITTED, benchmark_parser, guarded, partial_file, warn_of_load, write_report
from .conductor import Conductor
from .plan import SECTIONS, make_plan
from .plots import draw_figure
from .summary import format_table
from .tables import all_rows

__all__ = ["main", "write_results"]

_NAME = "importance"


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write importance.json, table included, and importance.png."""
    results["table"] = all_rows(results)
    write_report(folder, _NAME, results, draw_figure, format_table(results["table"]))


def main(argv: Sequence[str] | None = None) -> int:
    description = "theta-importance sampling beside scrapl-loss: agreement, cost, where pi's mass is."
    arguments = benchmark_parser(_NAME, description, SECTIONS, "a small selection, some minutes").parse_args(argv)
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
