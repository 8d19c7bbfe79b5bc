"""One run: one arm, one seed. Resumes from its checkpoint, and leaves result.json when it is finished."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import scrapl_optim
from benchmarks.sound_matching.scrapl import Scrapl
from benchmarks.sound_matching.train import EpochRecord, Experiment, Trainer, checkpoint_path, parameter_error
from benchmarks.studies.storage.arms import Arm, ArmObjective, run_configuration, run_hash
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import CONFIGURATION, check_configuration, machine, versions

__all__ = ["RESULT", "finished_result", "run_arm", "run_folder"]

RESULT = "result.json"
_PACKAGES = ("torch", "numpy", "scrapl-jtfs")


def run_folder(folder: Path, seed: int, arm: Arm) -> Path:
    return folder / f"seed{seed}" / arm.name


def finished_result(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a run folder, None if it is not finished.

    Raises:
        ValueError: the folder belongs to another configuration.
    """
    check_configuration(folder, wanted)
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run_arm(
    experiment: Experiment, arm: Arm, folder: Path, on_epoch: Callable[[EpochRecord], object] = lambda record: None
) -> dict[str, Any]:
    """Train one arm to the end from where its folder stands; returns what result.json holds.

    Args:
        experiment: textures and front end, the same for all arms of a seed.
        arm: what to train.
        folder: of all runs.
        on_epoch: called with each new line of the history.

    Raises:
        ValueError: the run's folder belongs to another configuration.
    """
    place = run_folder(folder, experiment.seed, arm)
    wanted = run_configuration(experiment.preset, experiment.seed, arm)
    found = finished_result(place, wanted)
    if found is not None:
        return found
    write_text(place / CONFIGURATION, json.dumps(wanted, indent=1) + "\n")
    scrapl = experiment.objective("scrapl")
    if not isinstance(scrapl, Scrapl):
        raise TypeError(f"the objective 'scrapl' is a {type(scrapl).__name__}, expected Scrapl")
    trainer = Trainer(experiment, "scrapl", ArmObjective(scrapl, arm))
    checkpoint = checkpoint_path(place, "scrapl")
    if checkpoint.exists():
        trainer.load(checkpoint)
    while not trainer.finished:
        record = trainer.run_epoch()
        trainer.save(checkpoint)
        on_epoch(record)
    result = summarize(trainer, arm, wanted)
    write_text(place / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def summarize(trainer: Trainer, arm: Arm, wanted: dict[str, Any]) -> dict[str, Any]:
    """Every figure of a finished run."""
    last = trainer.history[-1]
    n_parameters = sum(p.numel() for p in trainer.encoder.parameters())
    n_bytes = state_bytes(trainer.optimizer)
    return {
        "arm": arm.name,
        "seed": trainer.experiment.seed,
        "test": parameter_error(trainer.encoder, trainer.experiment.test),
        "last_val": last["val"],
        "best_val": min((record["val"] for record in trainer.history), key=lambda val: val["mean"]),
        "steps": last["step"],
        "seconds": last["seconds"],
        "n_parameters": n_parameters,
        "state_bytes": n_bytes,
        "state_bytes_per_parameter": n_bytes / n_parameters,
        "hash": run_hash(wanted),
        "optimizer_sources": optimizer_sources(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(trainer.experiment.device),
        "versions": versions(_PACKAGES),
        "history": trainer.history,
    }


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Memory of the state, clocks and units of the paths included; what tensors share counts once."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    storages = [value.untyped_storage() for value in values if isinstance(value, torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def optimizer_sources() -> str:
    """Hash the source files of scrapl_optim, to tell runs before and after a change apart."""
    digest, folder = hashlib.sha256(), Path(scrapl_optim.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
