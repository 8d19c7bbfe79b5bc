"""What a run leaves behind: results.json, report.html, report.png and WAV files."""

import base64
import html
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scrapl_jtfs.commands.drawing import drawing
from scrapl_jtfs.commands.files import write_atomically, write_text
from scrapl_jtfs.commands.provenance import machine, versions

from .data import synth_seeds
from .figures import CHANCE, Curve, Panel, draw_report
from .presets import configuration
from .train import Experiment, Trainer, parameter_error, predict

__all__ = ["format_table", "verdict", "write_report", "write_results"]

_PACKAGES = ("torch", "numpy", "scrapl-jtfs", "kymatio", "auraloss", "nnaudio2")
_N_TEXTURES = 4
_PICTURE = "report.png"


@dataclass(frozen=True)
class Sound:
    """One texture, target or match."""

    name: str
    label: str
    theta: tuple[float, float]
    audio: Tensor

    @property
    def values(self) -> str:
        return f"density {self.theta[0]:.2f}, slope {self.theta[1]:.2f}"


def write_results(folder: Path, experiment: Experiment, trainers: dict[str, Trainer]) -> dict[str, Any]:
    """Write results.json from finished trainers, before anything that can fail; returns its content."""
    results = collect_results(experiment, trainers)
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def write_report(
    folder: Path, experiment: Experiment, trainers: dict[str, Trainer], results: dict[str, Any]
) -> None:
    """Write the sounds, report.png and report.html into `folder`, in this order.

    Raises:
        PictureError: report.png could not be drawn; the page is written without it.
    """
    rows = render_examples(experiment, trainers)
    wavs = [write_sounds(folder / "wav", k, row, experiment.preset.sample_rate) for k, row in enumerate(rows)]
    path = folder / _PICTURE
    try:
        with drawing(path):
            figure = draw_figure(experiment, trainers, rows)
            write_atomically(path, lambda beside: figure.savefig(beside))
    finally:
        write_text(folder / "report.html", html_page(folder, results, rows, wavs))


def collect_results(experiment: Experiment, trainers: dict[str, Trainer]) -> dict[str, Any]:
    """Every figure of the run, with what is needed to judge and repeat it."""
    losses = {}
    for name, trainer in trainers.items():
        last = trainer.history[-1]
        losses[name] = {
            "label": trainer.objective.label,
            "test": parameter_error(trainer.encoder, experiment.test),
            "steps": last["step"],
            "seconds": last["seconds"],
            "ms_per_step": 1000 * last["seconds"] / last["step"],
            "history": trainer.history,
        }
        if hasattr(trainer.objective, "path_counts"):
            losses[name]["path_counts"] = trainer.objective.path_counts(last["step"])  # type: ignore[attr-defined]
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step",
        "chance": CHANCE,
        "losses": losses,
        "examples": {"theta": {name: theta.tolist() for name, _, theta, _ in examples(experiment, trainers)}},
        "configuration": configuration(experiment.preset, experiment.seed),
        "n_parameters": sum(p.numel() for t in list(trainers.values())[:1] for p in t.encoder.parameters()),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(experiment.device),
        "versions": versions(_PACKAGES),
    }


def examples(experiment: Experiment, trainers: dict[str, Trainer]) -> list[tuple[str, str, Tensor, list[int]]]:
    """Name, label, theta (n, 2) and seeds of some test textures, then of what each encoder makes of them."""
    test, n = experiment.test, min(_N_TEXTURES, len(experiment.test))
    seeds = synth_seeds(experiment.seed, "report", 0, n)
    matches = [
        (name, trainer.objective.label, predict(trainer.encoder, test.spectrograms[:n]), seeds)
        for name, trainer in trainers.items()
    ]
    return [("target", "target", test.theta[:n], test.seeds[:n]), *matches]


@torch.no_grad()
def render_examples(experiment: Experiment, trainers: dict[str, Trainer]) -> list[list[Sound]]:
    """For some test textures: the target, then what each encoder makes of it, with other grains."""
    rows: list[list[Sound]] = [[] for _ in range(min(_N_TEXTURES, len(experiment.test)))]
    for name, label, theta, grains in examples(experiment, trainers):
        audio = experiment.synth(theta, grains).cpu()
        for row, values, samples in zip(rows, theta.tolist(), audio, strict=True):
            row.append(Sound(name, label, (values[0], values[1]), samples))
    return rows


def write_sounds(folder: Path, k: int, row: list[Sound], sample_rate: int) -> list[Path]:
    """16-bit WAV files with one gain for the whole row, so that loudness stays comparable and nothing clips."""
    gain = 0.9 / max(float(sound.audio.abs().max()) for sound in row)
    paths = []
    for sound in row:
        path, samples = folder / f"texture{k + 1}_{sound.name}.wav", np.asarray(sound.audio * gain)
        write_atomically(
            path, lambda beside, samples=samples: soundfile.write(beside, samples, sample_rate, subtype="PCM_16")
        )
        paths.append(path)
    return paths


def draw_figure(experiment: Experiment, trainers: dict[str, Trainer], rows: list[list[Sound]]) -> Figure:
    curves = [Curve(name, trainer.objective.label, trainer.history) for name, trainer in trainers.items()]
    panels = [
        [
            Panel(
                f"{sound.label}\n{sound.values}",
                experiment.front_end(sound.audio[None].to(experiment.device))[0, 0].cpu().numpy(),
            )
            for sound in row
        ]
        for row in rows
    ]
    path_map = None
    if "scrapl" in trainers:
        objective: Any = trainers["scrapl"].objective
        path_map = objective.jtfs.paths, objective.path_counts(trainers["scrapl"].history[-1]["step"])
    preset = experiment.preset
    return draw_report(
        curves, panels, experiment.front_end.frequencies, preset.n_samples / preset.sample_rate, path_map
    )


def table_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Header and one row per loss, then what chance gives."""
    header = ("loss", "theta L1 (per mille)", "density", "slope", "steps", "seconds", "ms/step")
    rows = [
        (
            r["label"],
            f"{r['test']['mean']:.1f}",
            f"{r['test']['density']:.1f}",
            f"{r['test']['slope']:.1f}",
            str(r["steps"]),
            f"{r['seconds']:.0f}",
            f"{r['ms_per_step']:.1f}",
        )
        for r in results["losses"].values()
    ]
    chance = f"{results['chance']:.1f}"
    return [header, *rows, ("chance (always 0.5)", chance, chance, chance, "", "", "")]


def verdict(results: dict[str, Any]) -> str:
    """The outcome in a sentence: errors over chance, from the smallest."""
    found = sorted((r["test"]["mean"], r["label"]) for r in results["losses"].values())
    parts = [f"{label} leaves {error / results['chance']:.0%} of the error of chance" for error, label in found]
    return "; ".join(parts) + "."


def format_table(results: dict[str, Any]) -> str:
    """For the terminal."""
    rows = table_rows(results)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def html_page(folder: Path, results: dict[str, Any], rows: list[list[Sound]], wavs: list[list[Path]]) -> str:
    """A page that needs no network: the figure is embedded, the players point to the WAV files beside it."""
    header, *body = table_rows(results)
    players = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(sound.label)}<br><small>{sound.values}</small>"
            f'<br><audio controls preload="none" src="{wav.relative_to(folder).as_posix()}"></audio></td>'
            for sound, wav in zip(row, files, strict=True)
        )
        + "</tr>"
        for row, files in zip(rows, wavs, strict=True)
    )
    settings = html.escape(
        json.dumps({k: results[k] for k in ("date", "machine", "versions", "configuration")}, indent=2)
    )
    return _PAGE.format(
        preset=html.escape(results["configuration"]["name"]),
        verdict=html.escape(verdict(results)),
        figure=html_figure(folder / _PICTURE),
        players=players,
        settings=settings,
        head="".join(f"<th>{html.escape(cell)}</th>" for cell in header),
        body="".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body),
    )


def html_figure(picture: Path) -> str:
    if not picture.exists():
        return f"<p>{picture.name} could not be drawn; the same command draws it again.</p>"
    encoded = base64.b64encode(picture.read_bytes()).decode()
    return f'<img alt="Validation error, paths drawn, spectrograms" src="data:image/png;base64,{encoded}">'


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sound matching: {preset}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .9rem; border-bottom: 1px solid #ddd }}
.figures td:not(:first-child) {{ text-align: right; font-variant-numeric: tabular-nums }}
img {{ max-width: 100% }} audio {{ width: 13rem }} .wide {{ overflow-x: auto }}
pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto }}
</style>
<h1>Unsupervised sound matching of a granular synthesizer</h1>
<p>An encoder sees the constant-Q spectrogram of a texture and guesses the density and slope of its grains. The
synthesizer renders the guess with other grains, and a loss on the two sounds trains the encoder. The figure of
merit is the mean absolute error of the parameters on unseen textures, in thousandths of their range: always
answering 0.5 gives 250.</p>
<h2>Unseen test textures</h2>
<p><strong>{verdict}</strong></p>
<div class="wide"><table class="figures"><tr>{head}</tr>{body}</table></div>
{figure}
<h2>Listen</h2>
<p>Grains differ in time and pitch by design; listen to how many there are and whether they rise or fall.</p>
<div class="wide"><table>{players}</table></div>
<h2>Settings</h2><details><summary>Everything that is needed to repeat this run</summary>
<pre>{settings}</pre></details>
</html>
"""
