"""One run: one problem, one arm, one seed, from the start to result.json; it is not resumable.

Optimizer and adaptive sampler are kept in memory alone: a run takes minutes, and a killed one starts over.
theta-importance is the exception: its pi.json is used again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.files import read_json, write_json
from benchmarks.harness.runs import Job, epoch_teller, keep_result
from benchmarks.sound_matching.data import as_textures, match_seeds
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.train import Experiment, Trainer
from benchmarks.studies.adaptive.arms import Arm, PathObjective, run_configuration
from scrapl_optim import PathSampler, SharedSubspace, theta_importance
from scrapl_optim.experimental import AdaptivePathSampler

_TOLERANCE, _SAMPLES_PER_BANDWIDTH = 1e-2, 2.0


def make_job(folder: Path, problem: Preset, seed: int, arm: Arm) -> Job:
    """The run of one problem, arm and seed, in a folder of all runs."""
    place = folder / f"seed{seed}" / problem.synth / arm.name
    label = f"{problem.synth}, {arm.name}, seed {seed}"
    return Job(label, place, run_configuration(problem, seed, arm), (problem, seed, arm))


def entropy(pi: Sequence[float]) -> float:
    """Return the entropy in nats; its exp is the number of paths of an equally spread uniform distribution."""
    return -sum(p * math.log(p) for p in pi if p > 0)


def importance(experiment: Experiment, trainer: Trainer, examples: int) -> dict[str, Any]:
    """theta-importance of the encoder as `trainer` has it, on the first training examples, with its time."""
    started = time.perf_counter()
    data, synth, preset = as_textures(experiment.train), experiment.synth, experiment.preset
    jtfs = experiment.preset.transform(samples_per_bandwidth=_SAMPLES_PER_BANDWIDTH).double()
    distance = preset.path_loss(jtfs)
    # The position after those of all training steps: no match of the training has these grains.
    seeds = match_seeds(preset, experiment.seed, preset.n_steps)[:examples]
    examples = len(seeds)  # fewer in the quick program
    with torch.no_grad():
        target = distance.prepare(synth(data.theta[:examples].double(), data.seeds[:examples]))
    found = theta_importance(
        trainer.encoder.eval(),
        lambda theta, batch: synth(theta, seeds),
        lambda sound, batch, path: distance(sound, target, path),
        [data.spectrograms[:examples]],
        trainer.encoder.parameters(),
        jtfs.n_paths,
        method=SharedSubspace(_TOLERANCE, split_batch=lambda batch: batch.split(1), max_graphs=examples),
        check=True,
    )
    return {
        "method": found.method,
        "tolerance": found.tolerance,
        "examples": examples,
        "unconverged": found.unconverged,
        "seconds": time.perf_counter() - started,
        "curvature": found.importance.tolist(),
        "pi": found.probs.tolist(),
    }


def _kept_importance(experiment: Experiment, objective: PathObjective, place: Path) -> dict[str, Any]:
    examples = objective.arm.examples
    path = place / ("pi.json" if examples == 4 else f"pi-{examples}.json")
    if not path.exists():
        # a trainer of its own: its encoder has the weights that the training starts from
        found = importance(experiment, Trainer(experiment, "importance", objective), examples)
        write_json(path, found)
    return read_json(path)


def make_sampler(
    arm: Arm, n_paths: int, n_controls: int, seed: int, pi: Sequence[float] | None = None
) -> PathSampler | AdaptivePathSampler:
    """Draws with the run's seed; `pi` is for theta-importance alone."""
    if arm.source == "uniform":
        return PathSampler(n_paths=n_paths, seed=seed)
    if arm.source == "importance":
        if pi is None:
            raise ValueError(f"the arm {arm.name} needs pi")
        return PathSampler(pi, seed=seed, min_prob_frac=arm.min_prob_frac)
    if arm.rate is None:
        raise ValueError(f"the arm {arm.name} needs a rate")
    n_values = n_controls if arm.source == "slopes" else 1
    return AdaptivePathSampler(
        n_paths, n_values=n_values, rate=arm.rate, min_prob_frac=arm.min_prob_frac, seed=seed
    )


def run(job: Job) -> dict[str, Any]:
    """Train one arm from the start to the end."""
    problem, seed, arm = job.arguments
    experiment, jtfs = Experiment(problem, seed), problem.transform()
    n_controls = len(problem.controls)
    objective = PathObjective(problem, jtfs, arm, PathSampler(n_paths=jtfs.n_paths, seed=seed))
    found = _kept_importance(experiment, objective, job.folder) if arm.source == "importance" else None
    objective.sampler = make_sampler(arm, jtfs.n_paths, n_controls, seed, found["pi"] if found else None)
    trainer, tell = Trainer(experiment, arm.name, objective), epoch_teller(job)
    while not trainer.finished:
        tell(trainer.run_epoch())
    about = {"synth": problem.synth, "arm": arm.name, "seed": seed, "importance": found}
    return keep_result(job, {**about, **_summarize(trainer, objective)})


def _summarize(trainer: Trainer, objective: PathObjective) -> dict[str, Any]:
    """Every figure of a finished run."""
    pi = objective.sampler.probs.tolist()
    return {
        **trainer.summary(),
        "entropy": entropy(pi),
        "effective_paths": math.exp(entropy(pi)),
        "pi": pi,
        "path_counts": objective.path_counts,
    }
