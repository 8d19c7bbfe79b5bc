"""What a run on drums leaves behind: results.json, with the distances of each loss's matches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from benchmarks.sound_matching.drum_matching.assessment import Judge
from benchmarks.sound_matching.drum_matching.paper import UNTRAINED
from benchmarks.sound_matching.train import Experiment, Trainer
from scrapl_jtfs.commands.files import write_text

_PACKAGES = ("torch", "numpy", "scrapl-jtfs", "auraloss", "nnaudio2")


def write_scores(folder: Path, experiment: Experiment, trainers: Mapping[str, Trainer]) -> dict[str, Any]:
    """Write results.json from finished trainers; returns its content."""
    losses: dict[str, Any] = {}
    for name, trainer in trainers.items():
        last = trainer.history[-1]
        losses[name] = {
            "label": trainer.objective.label,
            "test": experiment.task.score(trainer.encoder, experiment.test),
            "steps": last["step"],
            "seconds": last["seconds"],
            "ms_per_step": 1000 * last["seconds"] / last["step"],
            "history": trainer.history,
        }
    results = {
        "unit": "log + linear spectrogram distance between unseen recordings and their matches",
        "untrained": experiment.task.score(experiment.fresh_encoder(), experiment.test),
        "losses": losses,
        "configuration": experiment.configuration,
        **provenance(_PACKAGES, experiment.device),
    }
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def add_judgements(
    folder: Path, results: Mapping[str, Any], experiment: Experiment, trainers: Mapping[str, Trainer]
) -> dict[str, Any]:
    """Add the paper's metrics of each loss, and its guesses, to results.json; returns its content."""
    judge = Judge(experiment)
    judged = {name: judge(trainer.encoder) for name, trainer in trainers.items()}
    judged[UNTRAINED] = judge(experiment.fresh_encoder())
    left_out = judged[UNTRAINED]["left_out"]
    kept = {name: {key: of[key] for key in ("test", "sounds")} for name, of in judged.items()}
    results = {**results, "left_out": left_out, "judged": kept}
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def format_scores(results: Mapping[str, Any]) -> str:
    """Return a table for the terminal: distances, in all and of each kind, and costs."""
    untrained = results["untrained"]
    kinds = [kind for kind in untrained if kind != "mean"]
    rows: list[tuple[str, ...]] = [("loss", "all", *kinds, "steps", "seconds", "ms/step")]
    for loss in results["losses"].values():
        distances = (f"{loss['test'][key]:.3f}" for key in ("mean", *kinds))
        costs = (str(loss["steps"]), f"{loss['seconds']:.0f}", f"{loss['ms_per_step']:.0f}")
        rows.append((loss["label"], *distances, *costs))
    rows.append(("untrained", *(f"{untrained[key]:.3f}" for key in ("mean", *kinds)), "0", "", ""))
    return f"{results['unit'].capitalize()}:\n\n{format_table(rows)}"
