"""One run: one arm in one setting with one seed, from the start, or the last checkpoint, to result.json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.runs import Job, configuration_hash, keep_result
from benchmarks.sound_matching.drum_matching.assessment import Judge
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.drum_sounds.sounds import DrumSounds, load_sounds
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.sound_matching.train import Experiment, Trainer, checkpoint_path
from benchmarks.studies.drums.arms import Arm
from benchmarks.studies.drums.objectives import build_arm
from scrapl_jtfs.commands.command_line import say

# Epochs. With hundreds of paths the optimizer's state takes most of a gigabyte.
_CHECKPOINT_EVERY = 10
# Every so many of the sounds are left in a quick run.
_QUICK = 12


def quick_preset(preset: Preset) -> Preset:
    """Make a problem of a few steps: to see that everything runs."""
    return replace(preset, name=f"{preset.name}-quick", epochs=1, batch_size=8)


def load_drums(folder: Path, preset: Preset) -> DrumSounds:
    """Load the sounds of a preset, few of them for a quick one.

    Raises:
        OSError: a folder cannot be listed.
        ValueError: there is no usable sound.
    """
    sounds = load_sounds(folder, preset.n_samples, preset.sample_rate)
    return sounds.subset(range(0, len(sounds.names), _QUICK)) if preset.name.endswith("-quick") else sounds


def make_job(
    folder: Path, setting: str, task: DrumTask, arm: Arm, data: Path, pi: Sequence[float] | None = None
) -> Job:
    """Return the run of an arm on a task, in a folder of all runs.

    Args:
        folder: of the runs.
        setting: for its name.
        task: with the seed.
        arm: to train.
        data: folder of the sounds.
        pi: distribution of the paths; None for uniform draws.
    """
    preset, seed = task.preset, task.seed
    decides = {**configuration(preset, seed, task.identity), "arm": arm.decisions()}
    if pi is not None:
        decides["pi"] = configuration_hash({"pi": list(pi)})
    arguments = (setting, preset, seed, arm, data, pi)
    return Job(
        f"{setting}, {arm.name}, seed {seed}", folder / setting / f"seed{seed}" / arm.name, decides, arguments
    )


def run(job: Job) -> dict[str, Any]:
    """Train one arm to the end, from the last checkpoint if there is one, and judge it on unseen drums."""
    setting, preset, seed, arm, data, pi = job.arguments
    task = DrumTask(load_drums(data, preset), preset, seed)
    experiment = Experiment(task.preset, seed, task=task)
    trainer = Trainer(experiment, arm.name, build_arm(task.preset, seed, arm, pi))
    place, tell = checkpoint_path(job.folder, "training"), _teller(job)
    if place.exists():
        trainer.load(place)
    while arm.loss != "none" and not trainer.finished:
        tell(trainer.run_epoch())
        if trainer.epoch % _CHECKPOINT_EVERY == 0:
            trainer.save(place)
    last = trainer.history[-1] if trainer.history else {"step": 0, "seconds": 0.0}
    about = {"setting": setting, "arm": arm.name, "seed": seed}
    took = {"steps": last["step"], "seconds": round(last["seconds"], 1)}
    history = [[record["step"], round(record["val"]["mean"], 4)] for record in trainer.history]
    result = keep_result(job, {**about, **took, "history": history, **Judge(experiment)(trainer.encoder)})
    place.unlink(missing_ok=True)
    return result


def told(result: dict[str, Any]) -> str:
    """Return what to tell of a finished run."""
    test = result["test"]
    return f"MSS {test['mss']['all']:.3f}, JTFS {test['jtfs']['all']:.1f} on unseen drums"


def _teller(job: Job, every: int = 10) -> Callable[[Any], None]:
    """Return a function that tells of every tenth epoch."""

    def tell(record: Any) -> None:
        if record["epoch"] % every == 0:
            when = f"{record['step']} steps, {record['seconds']:.0f} s"
            say(f"  {job.label}: MSS {record['val']['mean']:.3f} after {when}", sys.stderr)

    return tell
