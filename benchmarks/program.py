"""What the command lines of benchmarks with a peer share: arguments, files, errors."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scrapl_jtfs.commands.command_line import say, shown
from scrapl_jtfs.commands.drawing import PictureError, drawing
from scrapl_jtfs.commands.files import write_text

from .pictures import write_picture
from .speed.processes import WorkerError

__all__ = ["COMMITTED", "benchmark_parser", "guarded", "partial_file", "warn_of_load", "write_report"]

COMMITTED = Path("benchmarks/results")


def partial_file(name: str) -> Path:
    """Where a benchmark keeps what it has measured so far."""
    return Path(f"runs/{name}/partial.json")


def benchmark_parser(name: str, description: str, sections: Sequence[str], quick: str) -> argparse.ArgumentParser:
    """--python, --quick, --only and --out."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument(
        "--python", default=".venv-peer/bin/python", help="interpreter of the workers (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--only", nargs="+", choices=sections, default=list(sections), metavar="SECTION",
        help=f"of {', '.join(sections)}",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of {name}.json and {name}.png (default: {COMMITTED}; runs/{name} for a part or --quick)",
    )
    return parser


def warn_of_load() -> None:
    """Another process at work changes ratios, and makes two threads wait for each other at every loop."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: the load average is {load:.1f} before the start; timings need a quiet machine",
            file=sys.stderr,
        )


def write_report(
    folder: Path, name: str, results: dict[str, Any], draw: Callable[[dict[str, Any]], Figure], table: str
) -> None:
    """Write the results, print the table, then draw the figure.

    Raises:
        PictureError: the figure could not be drawn; the results are written.
    """
    path = folder / f"{name}.json"
    write_text(path, json.dumps(results, indent=1) + "\n")
    say(f"\n{results['machine']['cpu']}, {results['date']}\n")
    say(table)
    say(f"\nFigures   {shown(path)}")
    with drawing(path.with_suffix(".png")):
        write_picture(path, draw(results))
    say(f"Look at   {shown(path.with_suffix('.png'))}")


def guarded(name: str, python: str, run: Callable[[], None], errors: tuple[type[Exception], ...] = ()) -> int:
    """Run a benchmark; returns the exit status, having said what went wrong."""
    try:
        run()
    except KeyboardInterrupt:
        say(f"\nInterrupted. What was measured is in {partial_file(name)}.", sys.stderr)
        return 130
    except FileNotFoundError as error:
        say(f"error: {error}: make {name} builds {shown(python)}, or name another --python", sys.stderr)
        return 2
    except PictureError as error:
        say(f"error: {error}; the figures are whole in {name}.json", sys.stderr)
        return 1
    except (WorkerError, ValueError, *errors) as error:
        say(f"error: {error}", sys.stderr)
        return 1
    return 0
