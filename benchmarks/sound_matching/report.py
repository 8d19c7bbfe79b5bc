"""The report that a run leaves behind: results.json, report.html, report.png and WAV files.

python -m benchmarks.sound_matching.report FOLDER: the same report anew from FOLDER/results.json, without training.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table as aligned
from benchmarks.sound_matching.data import build_front_end
from benchmarks.sound_matching.examples import Sound, preset_of, render_examples
from benchmarks.sound_matching.figures import (
    CHANCE,
    curve_figure,
    curves_of,
    guesses_figure,
    spectrogram_figure,
)
from benchmarks.sound_matching.page import UNIT, Pictures, html_page, table_rows
from benchmarks.sound_matching.presets import configuration
from benchmarks.sound_matching.redraw import draw_results
from benchmarks.sound_matching.task import error_of, predict
from benchmarks.sound_matching.train import Experiment, Trainer
from benchmarks.sound_matching.verdict import controls_of, verdict
from scrapl_jtfs.commands.command_line import Parser, say, shown
from scrapl_jtfs.commands.drawing import PictureError, drawing
from scrapl_jtfs.commands.files import write_atomically, write_text

_PACKAGES = ("torch", "numpy", "scrapl-jtfs", "kymatio", "auraloss", "nnaudio2")
_N_TEXTURES = 4
_PICTURE = "report.png"


def write_results(folder: Path, experiment: Experiment, trainers: dict[str, Trainer]) -> dict[str, Any]:
    """Write results.json from finished trainers, before anything that can fail; returns its content."""
    results = collect_results(experiment, trainers)
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def read_results(folder: Path) -> dict[str, Any]:
    """Read the results of a run, this one's or an earlier one's.

    Raises:
        OSError: there is no results.json, or it cannot be read.
        ValueError: it is not that of a run of this benchmark.
    """
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except ValueError as error:  # of characters or of JSON
        raise ValueError(f"Invalid results.json in {shown(folder)}: {error}; repeat the run") from error
    if not isinstance(results, dict) or not {"losses", "chance", "configuration"} <= set(results):
        raise ValueError(f"Invalid FOLDER: {shown(folder)}; expected one with results of a sound-matching run")
    return results


def write_report(folder: Path, results: dict[str, Any]) -> None:
    """Write the sounds, report.png and report.html into `folder`, in this order.

    Results without guesses, as older runs wrote them, give a report without them; so do those whose textures this
    program cannot render, which give one without sounds.

    Raises:
        PictureError: report.png or a picture of the page could not be drawn; the page is written without pictures.
    """
    try:
        rows = render_examples(results)
    except ValueError as error:
        say(f"No sounds: {error}", sys.stderr)
        rows = []
    wavs = [write_sounds(folder / "wav", k, row, preset_of(results)[0].sample_rate) for k, row in enumerate(rows)]
    path, pictures = folder / _PICTURE, None
    try:
        with drawing(path):
            figure = draw_results(results, rows)
            pictures = draw_pictures(results, rows)
            write_atomically(path, lambda beside: figure.savefig(beside))
    finally:
        players = [[wav.relative_to(folder).as_posix() for wav in line] for line in wavs]
        write_text(folder / "report.html", html_page(results, rows, players, pictures))


def collect_results(experiment: Experiment, trainers: dict[str, Trainer]) -> dict[str, Any]:
    """Every figure of the run, with what is needed to judge and repeat it."""
    test, controls, losses = experiment.test, experiment.preset.controls, {}
    theta = {"target": test.theta.tolist()}
    for name, trainer in trainers.items():
        last, guesses = trainer.history[-1], predict(trainer.encoder, test.spectrograms)
        theta[name] = guesses.tolist()
        losses[name] = {
            "label": trainer.objective.label,
            "test": error_of(guesses, test.theta, controls),
            "steps": last["step"],
            "seconds": last["seconds"],
            "ms_per_step": 1000 * last["seconds"] / last["step"],
            "history": trainer.history,
        }
        if hasattr(trainer.objective, "path_counts"):
            losses[name]["path_counts"] = trainer.objective.path_counts(last["step"])  # type: ignore[attr-defined]
    about = f"controls {controls} of the test textures and what each encoder guesses of them"
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step",
        "chance": CHANCE,
        "losses": losses,
        "examples": {"theta": {name: values[:_N_TEXTURES] for name, values in theta.items()}},
        "evaluation": {"about": about, "theta": theta},
        "configuration": configuration(experiment.preset, experiment.seed),
        "n_parameters": sum(p.numel() for t in list(trainers.values())[:1] for p in t.encoder.parameters()),
        **provenance(_PACKAGES, experiment.device),
    }


def write_sounds(folder: Path, k: int, row: list[Sound], sample_rate: int, prefix: str = "texture") -> list[Path]:
    """16-bit WAV files with one gain for the whole row, so that loudness stays comparable and nothing clips."""
    gain = 0.9 / max(float(sound.audio.abs().max()) for sound in row)
    paths = []
    for sound in row:
        path, samples = folder / f"{prefix}{k + 1}_{sound.name}.wav", np.asarray(sound.audio * gain)
        write_atomically(
            path, lambda beside, samples=samples: soundfile.write(beside, samples, sample_rate, subtype="PCM_16")
        )
        paths.append(path)
    return paths


def draw_pictures(results: dict[str, Any], rows: list[list[Sound]]) -> Pictures:
    """One small picture for each thing to look at, so that a page can arrange them in any width."""
    curves = curves_of(results)
    shown_curves = [*((key, "step") for key in ("mean", *controls_of(results))), ("mean", "seconds")]
    guesses = [guesses_figure(results, name) for name in results["losses"]] if "evaluation" in results else []
    spectrograms = []
    for row in rows:
        preset, _ = preset_of(results)
        frequencies, duration = build_front_end(preset).frequencies, preset.n_samples / preset.sample_rate
        top = max(float(sound.spectrogram.max()) for sound in row)
        spectrograms.append(
            [svg(spectrogram_figure(sound.spectrogram, frequencies, duration, top)) for sound in row]
        )
    return Pictures(
        curves=[svg(curve_figure(curves, key, against)) for key, against in shown_curves],
        guesses=[svg(figure) for figure in guesses],
        spectrograms=spectrograms,
    )


def svg(figure: Figure) -> bytes:
    """Sharp at any size, and the same bytes each time."""
    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "report"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def format_table(results: dict[str, Any]) -> str:
    """For the terminal: errors, then costs."""
    errors, costs = table_rows(results)
    rows = [[*one, *other[1:]] for one, other in zip(errors, [*costs, ("",) * len(costs[0])], strict=True)]
    return f"Error on unseen textures, in {UNIT}:\n\n{aligned(rows)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 for a picture that failed, 2 for something the user can mend."""
    parser = Parser(
        prog="python -m benchmarks.sound_matching.report",
        description="Write the report of a run anew from its results.json, without training.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the run")
    folder: Path = parser.parse_args(argv).folder
    torch.set_num_threads(1)
    try:
        results = read_results(folder)
        write_report(folder, results)
    except PictureError as error:
        say(f"error: {error}", sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        say(f"error: {error}", sys.stderr)
        return 2
    say(f"{verdict(results)}\n\nLook at    {shown(folder / 'report.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
