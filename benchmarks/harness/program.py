"""The command line of a benchmark: its options, files and errors."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

from benchmarks.harness.files import COMMITTED, run_folder, write_json
from benchmarks.harness.records import BenchmarkError
from benchmarks.harness.style import write_picture
from scrapl_jtfs.commands.command_line import say, shown
from scrapl_jtfs.commands.drawing import PictureError, drawing

Results = dict[str, Any]


class Program(NamedTuple):
    """A benchmark as a command: call it with the arguments of the command line, and it returns the exit code.

    Attributes:
        module: python -m MODULE.
        description: for --help.
        measure: from the parsed options to the content of the result file.
        table: what to print of that.
        draw: its picture, if there is one.
        quick: what --quick does; None: there is no such option.
        sections: for --only, in the order in which they are measured. Benchmarks with sections have a conductor,
            which keeps what there is in `options.partial`, and workers, whose interpreter is --python.
        n_seeds: default of --seeds. Studies with seeds are made of runs, whose folder is --runs.
        n_parallel: default of --parallel, the number of runs at a time.
        add_options: adds further options to the parser.
        file: names the results, FILE.json and FILE.png; None: the last part of the module does.
    """

    module: str
    description: str
    measure: Callable[[argparse.Namespace], Results]
    table: Callable[[Results], str]
    draw: Callable[[Results], Figure] | None = None
    quick: str | None = None
    sections: Sequence[str] = ()
    n_seeds: int = 0
    n_parallel: int = 0
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    file: str | None = None

    @property
    def name(self) -> str:
        """Name of the benchmark and of its files."""
        return self.file or self.module.rpartition(".")[2]

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Exit code 0, 1 for a failure, 2 for something the user can mend, 130 after Ctrl-C."""
        options = self.parse(argv)
        torch.set_num_threads(1)
        folder = getattr(options, "runs", run_folder(self.name))

        def run() -> None:
            if self.sections and shutil.which(options.python) is None:
                raise ValueError(
                    f"Invalid --python: {shown(options.python)}; expected an interpreter; make {self.name} builds "
                    ".venv-peer/bin/python"
                )
            if self.sections:
                warn_of_load()
            if self.n_parallel and min(options.seeds, options.parallel) < 1:
                raise ValueError(
                    f"Invalid --seeds or --parallel: {options.seeds}, {options.parallel}; expected 1 or more"
                )
            self.report(options.out, self.measure(options))

        return guarded(run, f"What was measured is in {shown(folder)}.")

    def report(self, out: Path, results: Results) -> None:
        """Write the results into a folder (or a .json file), print the table, then draw the picture.

        Raises:
            PictureError: the picture could not be drawn; the results are written.
        """
        path = out if out.suffix == ".json" else out / f"{self.name}.json"
        write_json(path, results)
        about = f"{results['machine']['cpu']}, {results['date']}"
        say(f"\n{about}\n\n{self.table(results)}\n\nFigures   {shown(path)}")
        if self.draw is not None:
            with drawing(path.with_suffix(".png")):
                write_picture(path, self.draw(results))
            say(f"Look at   {shown(path.with_suffix('.png'))}")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse the options; only --out can put results of a part in the place of the committed ones."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.description)
        if self.quick:
            parser.add_argument("--quick", action="store_true", help=self.quick)
        if self.sections:
            self._add_worker_options(parser)
        if self.n_parallel:
            self._add_run_options(parser)
        self.add_options(parser)
        parser.add_argument(
            "--out", type=Path, help=f"folder of the results (default: {COMMITTED}; in runs for a part or --quick)"
        )
        options = parser.parse_args(argv)
        is_part = getattr(options, "quick", False) or any(
            set(getattr(options, name)) != set(parser.get_default(name))
            for name in ("only", "contenders")
            if hasattr(options, name)
        )
        partial = run_folder(self.name)
        if self.sections:
            options.only = [section for section in self.sections if section in options.only]
            options.partial = partial / "partial.json"
        if self.n_parallel:
            options.runs = partial = options.runs or run_folder(self.name + "-quick" * options.quick)
        options.out = options.out or (partial if is_part else COMMITTED)
        return options

    def _add_worker_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--python", default=".venv-peer/bin/python", help="interpreter of the workers (default: %(default)s)"
        )
        parser.add_argument(
            "--only", nargs="+", choices=self.sections, default=list(self.sections), metavar="SECTION",
            help=f"of {', '.join(self.sections)}",
        )  # fmt: skip

    def _add_run_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--seeds", type=int, default=self.n_seeds, help="trains seeds 0 to SEEDS - 1 (default: %(default)s)"
        )
        parser.add_argument(
            "--parallel", type=int, default=self.n_parallel, help="runs at a time (default: %(default)s)"
        )
        parser.add_argument("--runs", type=Path, help=f"folder of runs (default: {run_folder(self.name)})")
        parser.add_argument("--collect", action="store_true", help="train nothing, report what is finished")


def warn_of_load() -> None:
    """Warn: another process at work changes ratios, and makes two threads wait for each other at every loop."""
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"warning: the load average is {load:.1f} before the start; timings need a quiet machine", sys.stderr)


def guarded(
    run: Callable[[], object], after_interruption: str, without_picture: str = "everything else is written"
) -> int:
    """Run a benchmark; returns the exit code, having said what went wrong.

    Args:
        run: the benchmark.
        after_interruption: what to say after an interruption.
        without_picture: what to say where only the picture failed.
    """
    try:
        run()
    except KeyboardInterrupt:
        say(f"\nInterrupted. {after_interruption}", sys.stderr)
        return 130
    except PictureError as error:
        say(f"error: {error}; {without_picture}", sys.stderr)
        return 1
    except BenchmarkError as error:
        say(f"error: {error}", sys.stderr)
        return 1
    except (ValueError, ImportError, OSError) as error:
        say(f"error: {error}", sys.stderr)
        return 2
    return 0
