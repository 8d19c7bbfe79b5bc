"""One run: one problem, one arm, one seed, from the start to result.json; it is not resumable.

Optimizer and adaptive sampler are kept in memory alone: a run takes minutes, and a killed one starts over.
theta-importance is the exception: its pi.json is used again.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks.sound_matching.data import match_seeds
from benchmarks.sound_matching.train import EpochRecord, ParameterError, Trainer, parameter_error
from benchmarks.studies.adaptive.arms import Arm, PathObjective, run_configuration
from benchmarks.studies.adaptive.problems import Problem, ProblemExperiment, build_jtfs
from benchmarks.studies.storage.arms import run_hash
from benchmarks.studies.storage.runs import RESULT, finished_result
from scrapl_jtfs import JTFSPathLoss
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import CONFIGURATION, machine, versions
from scrapl_optim import AdaptivePathSampler, PathSampler, theta_importance

__all__ = ["entropy", "importance", "make_sampler", "run_arm", "run_folder"]

_TOLERANCE, _OVERSAMPLING = 1e-2, 2.0


def run_folder(folder: Path, seed: int, problem: Problem, arm: Arm) -> Path:
    return folder / f"seed{seed}" / problem.name / arm.name


def entropy(pi: Sequence[float]) -> float:
    """In nats; exp of it is the number of paths of a uniform distribution that is as spread out."""
    return -sum(p * math.log(p) for p in pi if p > 0)


def importance(experiment: ProblemExperiment, trainer: Trainer, examples: int) -> dict[str, Any]:
    """theta-importance of the encoder as `trainer` has it, on the first training examples, with its time."""
    started = time.perf_counter()
    data, synth, preset = experiment.train, experiment.synth, experiment.preset
    jtfs = build_jtfs(experiment.problem, oversampling=_OVERSAMPLING).double()
    distance = JTFSPathLoss(jtfs)
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
        tolerance=_TOLERANCE,
        method="shared_subspace",
        split=lambda batch: batch.split(1),
        max_graphs=examples,
        check=True,
    )
    return {
        "method": found.method,
        "tolerance": found.tolerance,
        "examples": examples,
        "unconverged": found.unconverged,
        "seconds": time.perf_counter() - started,
        "curvature": found.curvature.tolist(),
        "pi": found.pi.tolist(),
    }


def _kept_importance(experiment: ProblemExperiment, objective: PathObjective, place: Path) -> dict[str, Any]:
    examples = objective.arm.examples
    path = place / ("pi.json" if examples == 4 else f"pi-{examples}.json")
    if not path.exists():
        # a trainer of its own: its encoder has the weights that the training starts from
        found = importance(experiment, Trainer(experiment, "importance", objective), examples)
        write_text(path, json.dumps(found) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


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


def run_arm(
    problem: Problem,
    arm: Arm,
    seed: int,
    folder: Path,
    on_epoch: Callable[[EpochRecord], object] = lambda record: None,
) -> dict[str, Any]:
    """Train one arm from the start to the end, if that was not done; returns what result.json holds.

    Args:
        problem: what to match.
        arm: how to draw paths.
        seed: of sounds, weights, batches and paths.
        folder: of all runs.
        on_epoch: called with each new line of the history.

    Raises:
        ValueError: the run's folder belongs to another configuration.
    """
    place, wanted = run_folder(folder, seed, problem, arm), run_configuration(problem, seed, arm)
    done = finished_result(place, wanted)
    if done is not None:
        return done
    write_text(place / CONFIGURATION, json.dumps(wanted, indent=1) + "\n")
    experiment, jtfs = ProblemExperiment(problem, seed), build_jtfs(problem)
    n_controls = len(problem.controls)
    objective = PathObjective(problem.preset, jtfs, arm, PathSampler(n_paths=jtfs.n_paths, seed=seed))
    found = _kept_importance(experiment, objective, place) if arm.source == "importance" else None
    objective.sampler = make_sampler(arm, jtfs.n_paths, n_controls, seed, found["pi"] if found else None)
    trainer = Trainer(experiment, arm.name, objective)
    while not trainer.finished:
        on_epoch(trainer.run_epoch())
    result = _summarize(trainer, objective, problem, arm)
    result |= {"seed": seed, "hash": run_hash(wanted), "importance": found}
    write_text(place / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _named(error: ParameterError, problem: Problem) -> dict[str, float]:
    """The sound matching benchmark calls its two controls density and slope, whatever they are."""
    first, second = problem.controls
    return {"mean": error["mean"], first: error["density"], second: error["slope"]}


def _summarize(trainer: Trainer, objective: PathObjective, problem: Problem, arm: Arm) -> dict[str, Any]:
    """Every figure of a finished run."""
    history = [{**record, "val": _named(record["val"], problem)} for record in trainer.history]
    last, pi = history[-1], objective.sampler.probs.tolist()
    return {
        "synth": problem.name,
        "arm": arm.name,
        "test": _named(parameter_error(trainer.encoder, trainer.experiment.test), problem),
        "last_val": last["val"],
        "best_val": min((record["val"] for record in history), key=lambda val: val["mean"]),
        "steps": last["step"],
        "seconds": last["seconds"],
        "entropy": entropy(pi),
        "effective_paths": math.exp(entropy(pi)),
        "pi": pi,
        "path_counts": objective.path_counts,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(trainer.experiment.device),
        "versions": versions(("torch", "numpy", "scrapl-jtfs")),
        "history": history,
    }
