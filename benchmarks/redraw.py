"""python -m benchmarks.redraw [NAME ...]: draw benchmarks/results/NAME.png from NAME.json, without measuring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.harness.files import COMMITTED, read_json
from benchmarks.harness.style import write_picture
from benchmarks.importance.plots import draw_figure as draw_importance
from benchmarks.optimizer.plots import draw_figure as draw_optimizer
from benchmarks.sound_matching.redraw import draw_results
from benchmarks.speed.plots import draw_figure as draw_speed
from benchmarks.studies.accuracy.plots import draw_boundary
from benchmarks.studies.accuracy.plots import draw_figure as draw_accuracy
from benchmarks.studies.adaptive.plots import draw_figure as draw_adaptive
from benchmarks.studies.alignment import draw as draw_alignment
from benchmarks.studies.does_it_help.plots import draw_figure as draw_does_it_help
from benchmarks.studies.drums.plots import draw_figure as draw_drums
from benchmarks.studies.image_textures.plots import draw_figure as draw_image_textures
from benchmarks.studies.released_pi.plots import draw_figure as draw_released_pi
from benchmarks.studies.storage.plots import draw_figure as draw_storage

PICTURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "accuracy": draw_accuracy,
    "adaptive": draw_adaptive,
    "alignment": draw_alignment,
    "boundary": draw_boundary,
    "does_it_help": draw_does_it_help,
    "drums": draw_drums,
    "image_textures": draw_image_textures,
    "importance": draw_importance,
    "importance_mass": draw_importance,
    "optimizer": draw_optimizer,
    "released_pi": draw_released_pi,
    "sound_matching_small": draw_results,
    "speed": draw_speed,
    "storage": draw_storage,
}
"""The function that draws the picture of each result file."""


def draw(results: Path) -> Figure:
    """The picture of one of the result files, whatever the user's matplotlibrc says."""
    with style.context("default"):
        return PICTURES[results.stem](read_json(results))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.redraw", description="Draw pictures of results that were measured before."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)} (default: all)", default=list(PICTURES)
    )
    parser.add_argument("--folder", type=Path, default=COMMITTED, help="of the files (default: %(default)s)")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(PICTURES))
    if unknown:
        parser.error(f"Invalid NAME: {', '.join(unknown)}; expected some of {', '.join(PICTURES)}")
    torch.set_num_threads(1)
    for name in arguments.names:
        results = arguments.folder / f"{name}.json"
        print(write_picture(results, draw(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
