"""python -m benchmarks.optimizer --python .venv-peer/bin/python [--quick] [--only steps drift]"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..sound_matching.files import write_atomically, write_text
from ..speed.__main__ import warn_of_load
from ..speed.processes import WorkerError
from .conductor import Conductor
from .plan import SECTIONS, make_plan
from .plots import draw_figure
from .tables import all_ratios, format_table

__all__ = ["main", "write_results"]

_COMMITTED = Path("benchmarks/results")
_PARTIAL = Path("runs/optimizer/partial.json")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizer",
        description="Time and weigh PathAdamSAGA beside Adam and scrapl-loss's hooks, all in one interpreter.",
    )
    parser.add_argument(
        "--python", default=".venv-peer/bin/python", help="interpreter of the workers (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a small selection, about two minutes")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION",
        help=f"of {', '.join(SECTIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of optimizer.json and .png (default: {_COMMITTED}; runs/optimizer for a part or --quick)",
    )
    return parser.parse_args(argv)


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write optimizer.json, ratios included, and optimizer.png."""
    results["ratios"] = [{**asdict(ratio), "met": ratio.met} for ratio in all_ratios(results)]
    write_text(folder / "optimizer.json", json.dumps(results, indent=1) + "\n")
    figure = draw_figure(results)
    write_atomically(folder / "optimizer.png", lambda beside: figure.savefig(beside))
    print(f"\n{results['machine']['cpu']}, {results['date']}\n")
    print(format_table(results))
    print(f"\nFigures   {folder / 'optimizer.json'}\nLook at   {folder / 'optimizer.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    sections = list(dict.fromkeys(arguments.only))
    whole = not arguments.quick and len(sections) == len(SECTIONS)
    # A part must not take the place of the committed figures.
    folder: Path = arguments.out or (_COMMITTED if whole else _PARTIAL.parent)
    warn_of_load()
    conductor = Conductor(arguments.python, make_plan(quick=arguments.quick), sections, arguments.quick, _PARTIAL)
    try:
        write_results(folder, conductor.run())
    except KeyboardInterrupt:
        print(f"\nInterrupted. What was measured is in {_PARTIAL}.", file=sys.stderr)
        return 130
    except FileNotFoundError as error:
        print(
            f"error: {error}: make optimizer builds {arguments.python}, or name another --python", file=sys.stderr
        )
        return 2
    except (WorkerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
