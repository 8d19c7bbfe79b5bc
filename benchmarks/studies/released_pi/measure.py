"""One case measured: distributions by several losses and by several numbers of a path, with their halves."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.harness.runs import Job, Result, keep_result
from benchmarks.sound_matching.presets import Preset
from benchmarks.studies.released_pi.cases import Case, Problem, build_problem
from benchmarks.studies.released_pi.distances import Distances, norms, squared_distances, with_reflections
from benchmarks.studies.released_pi.search import (
    distribution,
    eigenvalues,
    mean_curvatures,
    mean_slopes,
    rms_slopes,
)

LOSSES = {
    "norm": "the distance, as the authors' loss",
    "square": "its square, as the paper's equation",
    "norm, reflections left in": "the distance over a sound and its reflections at both ends, as scrapl-loss's",
}
NUMBERS = {
    "eigenvalue": "the paper's importance, equation (12)",
    "mean slope": "|sum over examples of dL/dtheta|",
    "rms slope": "root of the sum over examples of (dL/dtheta)^2",
    "mean curvature": "|sum over examples of d2L/dtheta2|",
}
_DIGITS = 6
# What a preset says of synthesizer, front end, encoder and transform.
_SETTINGS = (
    "synth", "sample_rate", "n_samples", "n_grains", "grain_samples", "min_pitch", "max_pitch", "max_slope",
    "softness", "am", "fm", "max_shift", "octaves", "bins_per_octave", "hop", "gain", "channels", "n_blocks",
    "embedding", "J", "Q", "J_fr", "Q_fr", "T", "F", "smoothing",
)  # fmt: skip


def make_job(folder: Path, case: Case, preset: Preset) -> Job:
    """Return the run that measures a case, in its folder."""
    # Tuples come back from JSON as lists. How long a preset is trained and with what is of no account here.
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(preset).items() if k in _SETTINGS}
    configuration = {"case": case._asdict(), "preset": settings}
    return Job(case.name, folder / case.name.replace(",", "").replace(" ", "-"), configuration, (case, preset))


def measure_case(job: Job) -> Result:
    """Measure a case and keep what there is to be said of it."""
    case, preset = job.arguments
    started = time.process_time()
    problem = build_problem(case, preset)
    squared = squared_distances(problem)
    seconds = {"derivatives": time.process_time() - started, "eigenvalues": 0.0}
    both = with_reflections(squared, problem.jtfs.paths)
    losses = dict(zip(LOSSES, (norms(squared), squared, norms(both)), strict=True))
    result: Result = {
        "case": case._asdict(),
        "n_paths": problem.jtfs.n_paths,
        "controls": _spread(problem.controls),
    }
    result["pi"] = {
        name: {
            number: _rounded(distribution(of(loss)))
            for number, of in (
                ("mean slope", mean_slopes), ("rms slope", rms_slopes), ("mean curvature", mean_curvatures)
            )
        }
        for name, loss in losses.items()
    }  # fmt: skip
    result["halves"] = {
        name: {"mean slope": [_rounded(distribution(mean_slopes(half))) for half in _halves(loss)]}
        for name, loss in losses.items()
    }
    result["slope_over_rms"] = _slope_over_rms(losses["norm"])
    if case.n_heard:
        _add_eigenvalues(result, problem, losses, case.n_heard)
        seconds["eigenvalues"] = time.process_time() - started - seconds["derivatives"]
    return keep_result(job, {**result, "seconds": {name: round(value, 1) for name, value in seconds.items()}})


def _add_eigenvalues(result: Result, problem: Problem, losses: dict[str, Distances], n_heard: int) -> None:
    """Add the eigenvalues' distributions for all losses, and of halves of the examples for the norm."""
    found = eigenvalues(problem, [*losses.values(), *_halves(losses["norm"])], n_heard)
    for name, of_loss in zip(losses, found, strict=False):
        result["pi"][name]["eigenvalue"] = _rounded(distribution(of_loss.values))
    result["halves"]["norm"]["eigenvalue"] = [_rounded(distribution(half.values)) for half in found[-2:]]
    result["residuals"] = {
        name: float(f"{of_loss.residual:.2g}") for name, of_loss in zip(losses, found, strict=False)
    }


def _halves(loss: Distances) -> list[Distances]:
    return [loss.of(slice(0, None, 2)), loss.of(slice(1, None, 2))]


def _slope_over_rms(loss: Distances) -> list[float]:
    """Return the median over paths of |mean slope| / rms slope by control; noise alone gives 0.67 / sqrt(E)."""
    mean, square = loss.slope.mean(1), np.square(loss.slope).mean(1)
    return [round(float(value), 3) for value in np.median(np.abs(mean) / np.sqrt(square), axis=0)]


def _spread(controls: Tensor) -> dict[str, list[float]]:
    return {
        "mean": [round(float(value), 4) for value in controls.mean(0)],
        "std": [round(float(value), 5) for value in controls.std(0)],
    }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
