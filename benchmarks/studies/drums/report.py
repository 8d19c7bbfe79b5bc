"""python -m benchmarks.studies.drums.report [--seed 0]: a page for each setting, with sounds, of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness.files import read_json, run_folder
from benchmarks.harness.program import guarded
from benchmarks.sound_matching.data import build_front_end
from benchmarks.sound_matching.drum_matching.paper import REFERENCE, SETTINGS
from benchmarks.sound_matching.drum_matching.report import Method, task_of, write_drum_report
from benchmarks.sound_matching.drum_matching.summary import summarize
from benchmarks.sound_matching.drum_sounds.fetch import DEFAULT_FOLDER
from benchmarks.studies.drums.arms import ARMS
from benchmarks.studies.drums.runs import load_drums
from scrapl_jtfs.commands.command_line import Parser, say, shown
from scrapl_jtfs.commands.provenance import CONFIGURATION

# What the configuration of a run has besides that of its experiment.
_OF_ARM = ("arm", "pi")


def finished_runs(folder: Path, setting: str) -> list[dict[str, Any]]:
    """Read the results of all finished runs of a setting, in the order of arms and seeds."""
    paths = sorted(folder.glob(f"{setting}/seed*/*/result.json"))
    found = [read_json(path) for path in paths]
    places = {name: k for k, name in enumerate(ARMS)}
    return sorted(
        (run for run in found if run["arm"] in places), key=lambda run: (places[run["arm"]], run["seed"])
    )


def write_pages(folder: Path, data: Path, seed: int) -> list[Path]:
    """Write a page for each setting that has finished runs of a seed; tables are over all seeds.

    Raises:
        OSError: a folder cannot be read or written to.
        ValueError: no run is finished, or settings or sounds are others.
    """
    pages = []
    for setting in SETTINGS:
        runs = finished_runs(folder, setting)
        mine = [run for run in runs if run["seed"] == seed]
        if not mine:
            continue
        recorded = read_json(folder / setting / f"seed{seed}" / mine[0]["arm"] / CONFIGURATION)
        of_task = {key: value for key, value in recorded.items() if key not in _OF_ARM}
        task = task_of(of_task, data, load_drums)
        test = task.splits(nn.Identity(), build_front_end(task.preset))[2]
        methods = [
            Method(run["arm"], torch.tensor(run["sounds"]["theta"]), run["sounds"]["distances"]) for run in mine
        ]
        found = summarize(runs, REFERENCE)
        summary = {name: found[name] for name in ARMS if name in found}
        place = folder / "report" / setting
        pages.append(write_drum_report(place, task, test, methods, summary, setting, mine[0]["left_out"]))
    if not pages:
        raise ValueError(
            f"Invalid --runs: {shown(folder)} without finished runs of seed {seed}; expected some; train with "
            "python -m benchmarks.studies.drums"
        )
    return pages


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for something the user can mend."""
    parser = Parser(
        prog="python -m benchmarks.studies.drums.report",
        description="Write a page for each setting of the study of drums: tables over all seeds, and eight drums.",
    )
    parser.add_argument(
        "--runs", type=Path, default=run_folder("drums"), help="of the study (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="of the sounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="whose matches are shown (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)

    def run() -> None:
        for page in write_pages(options.runs, options.data, options.seed):
            say(f"Look at    {shown(page)}")

    return guarded(run, "The same command writes the pages anew.")


if __name__ == "__main__":
    sys.exit(main())
