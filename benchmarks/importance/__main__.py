"""python -m benchmarks.importance --python .venv-peer/bin/python [--quick] [--only agreement speed mass]"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..sound_matching.files import write_atomically, write_text
from ..speed.__main__ import warn_of_load
from ..speed.processes import WorkerError
from .conductor import Conductor
from .plan import SECTIONS, make_plan
from .plots import draw_figure
from .summary import format_table
from .tables import all_rows

__all__ = ["main", "write_results"]

_COMMITTED = Path("benchmarks/results")
_PARTIAL = Path("runs/importance/partial.json")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importance",
        description="theta-importance sampling beside scrapl-loss: agreement, cost, where pi's mass is.",
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
        help=f"folder of importance.json and .png (default: {_COMMITTED}; runs/importance for a part or --quick)",
    )
    return parser.parse_args(argv)


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write importance.json, table included, and importance.png."""
    results["table"] = all_rows(results)
    write_text(folder / "importance.json", json.dumps(results, indent=1) + "\n")
    figure = draw_figure(results)
    write_atomically(folder / "importance.png", lambda beside: figure.savefig(beside))
    print(f"\n{results['machine']['cpu']}, {results['date']}\n")
    print(format_table(results["table"]))
    print(f"\nFigures   {folder / 'importance.json'}\nLook at   {folder / 'importance.png'}")


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
            f"error: {error}: make importance builds {arguments.python}, or name another --python", file=sys.stderr
        )
        return 2
    except (WorkerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
