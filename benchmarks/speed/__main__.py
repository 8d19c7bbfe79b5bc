"""python -m benchmarks.speed --python .venv-peer/bin/python [--quick] [--only paths memory]"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..program import COMMITTED, benchmark_parser, guarded, partial_file, warn_of_load, write_report
from .answers import AnswersDiffer
from .conductor import Conductor
from .contenders import CONTENDERS
from .plan import SECTIONS
from .plots import draw_figure
from .ratios import all_ratios, format_ratios

__all__ = ["main", "write_results"]

_NAME = "speed"


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write speed.json, ratios included, and speed.png."""
    ratios = all_ratios(results)
    results["ratios"] = [{**asdict(ratio), "met": ratio.met} for ratio in ratios]
    write_report(folder, _NAME, results, draw_figure, format_ratios(ratios))


def main(argv: Sequence[str] | None = None) -> int:
    parser = benchmark_parser(
        _NAME,
        "Time JTFSPath beside scrapl-loss, kymatio and a spectrogram loss on one thread, all in one interpreter.",
        SECTIONS,
        "a small selection, under three minutes",
    )
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"of {', '.join(CONTENDERS)}",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    sections, contenders = list(dict.fromkeys(arguments.only)), list(dict.fromkeys(arguments.contenders))
    whole = not arguments.quick and len(sections) == len(SECTIONS) and len(contenders) == len(CONTENDERS)
    # A part must not take the place of the committed figures.
    folder: Path = arguments.out or (COMMITTED if whole else partial_file(_NAME).parent)
    warn_of_load()
    conductor = Conductor(arguments.python, contenders, sections, arguments.quick, partial_file(_NAME))
    return guarded(
        _NAME, arguments.python, lambda: write_results(folder, conductor.run()), errors=(AnswersDiffer,)
    )


if __name__ == "__main__":
    sys.exit(main())
