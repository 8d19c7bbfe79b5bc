"""python -m benchmarks.speed --python .venv-peer/bin/python [--quick] [--only paths memory]"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..sound_matching.files import write_atomically, write_text
from .answers import AnswersDiffer
from .conductor import Conductor
from .contenders import CONTENDERS
from .plan import SECTIONS
from .plots import draw_figure
from .processes import WorkerError
from .ratios import all_ratios, format_ratios

__all__ = ["main", "write_results"]

_COMMITTED = Path("benchmarks/results")
_PARTIAL = Path("runs/speed/partial.json")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Time JTFSPath beside scrapl-loss, kymatio and a spectrogram loss, all in one interpreter.",
    )
    parser.add_argument(
        "--python", default=".venv-peer/bin/python", help="interpreter of the workers (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a small selection, under three minutes")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=list(SECTIONS),
        metavar="SECTION",
        help=f"of {', '.join(SECTIONS)}",
    )
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"of {', '.join(CONTENDERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of speed.json and speed.png (default: {_COMMITTED}; runs/speed for a part or --quick)",
    )
    return parser.parse_args(argv)


def warn_of_load() -> None:
    """Another process at work changes ratios, and makes two threads wait for each other at every loop."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: the load average is {load:.1f} before the start; timings need a quiet machine",
            file=sys.stderr,
        )


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write speed.json, ratios included, and speed.png."""
    ratios = all_ratios(results)
    results["ratios"] = [{**asdict(ratio), "met": ratio.met} for ratio in ratios]
    write_text(folder / "speed.json", json.dumps(results, indent=1) + "\n")
    figure = draw_figure(results)
    write_atomically(folder / "speed.png", lambda beside: figure.savefig(beside))
    print(f"\nOne thread on {results['machine']['cpu']}, {results['date']}\n")
    print(format_ratios(ratios))
    print(f"\nFigures   {folder / 'speed.json'}\nLook at   {folder / 'speed.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    sections, contenders = list(dict.fromkeys(arguments.only)), list(dict.fromkeys(arguments.contenders))
    whole = not arguments.quick and len(sections) == len(SECTIONS) and len(contenders) == len(CONTENDERS)
    # A part must not take the place of the committed figures.
    folder: Path = arguments.out or (_COMMITTED if whole else _PARTIAL.parent)
    warn_of_load()
    conductor = Conductor(arguments.python, contenders, sections, arguments.quick, _PARTIAL)
    try:
        write_results(folder, conductor.run())
    except KeyboardInterrupt:
        print(f"\nInterrupted. What was measured is in {_PARTIAL}.", file=sys.stderr)
        return 130
    except FileNotFoundError as error:
        print(f"error: {error}: make speed builds {arguments.python}, or name another --python", file=sys.stderr)
        return 2
    except (AnswersDiffer, WorkerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
