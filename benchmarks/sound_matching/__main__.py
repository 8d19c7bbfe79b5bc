"""python -m benchmarks.sound_matching --preset small --losses scrapl mss p_loss --out runs/small --seed 0"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

from .data import check_seed, epoch_batches
from .losses import OBJECTIVES
from .presets import PRESETS, Preset, check_run_folder
from .report import format_table, write_report
from .train import Experiment, Trainer, checkpoint_path

__all__ = ["main"]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sound_matching",
        description=(
            "Train encoders to match textures of a granular synthesizer, and compare losses. "
            "Interrupt it at any time: the same command continues."
        ),
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument(
        "--losses",
        nargs="+",
        choices=OBJECTIVES,
        default=list(OBJECTIVES),
        metavar="LOSS",
        help=f"among {', '.join(OBJECTIVES)} (default: all)",
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/PRESET)")
    parser.add_argument("--seed", type=int, default=0, help="of textures, weights and batches (default: 0)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu (default) or cuda")
    return parser.parse_args(argv)


def estimate_seconds(experiment: Experiment, loss_name: str, n_steps: int) -> float:
    """From a few steps of a trainer that is then thrown away; paths differ in cost, so it is rough."""
    trainer = experiment.trainer(loss_name)
    first, *batches = islice(epoch_batches(experiment.preset, experiment.seed, 0), 4)
    trainer.step(first)
    started = time.perf_counter()
    for batch in batches:
        trainer.step(batch)
    return (time.perf_counter() - started) / max(len(batches), 1) * n_steps


def train_all(experiment: Experiment, names: Sequence[str], folder: Path) -> None:
    preset = experiment.preset
    for name in names:
        trainer = experiment.trainer(name)
        path = checkpoint_path(folder, name)
        if path.exists():
            trainer.load(path)
        if trainer.finished:
            print(f"{trainer.objective.label}: finished before, skipped")
            continue
        left = (preset.epochs - trainer.epoch) * preset.steps_per_epoch
        minutes = estimate_seconds(experiment, name, left) / 60
        print(f"{trainer.objective.label}: {left} steps of {preset.batch_size} textures, about {minutes:.1f} min")
        experiment.trainer(name).run(folder)


def finished_trainers(experiment: Experiment, folder: Path) -> dict[str, Trainer]:
    """Every loss that was trained to the end in this folder, now or before."""
    trainers = {}
    for name in OBJECTIVES:
        path = checkpoint_path(folder, name)
        if not path.exists():
            continue
        trainer = experiment.trainer(name)
        trainer.load(path)
        if trainer.finished:
            trainers[name] = trainer
    return trainers


def run(preset: Preset, names: Sequence[str], folder: Path, seed: int, device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: this torch finds no CUDA device; use --device cpu")
    check_seed(seed)
    check_run_folder(folder, preset, seed)
    print(
        f"Sound matching, preset {preset.name}, seed {seed}, {torch.get_num_threads()} threads on {device}, "
        f"run folder {folder}"
    )
    print(
        f"Rendering {preset.n_train + preset.n_val + preset.n_test} textures of "
        f"{preset.n_samples / preset.sample_rate:g} s ..."
    )
    experiment = Experiment(preset, seed, device)
    train_all(experiment, names, folder)
    results = write_report(folder, experiment, finished_trainers(experiment, folder))
    print("\nError of the parameters on unseen textures, per mille (chance 250):\n")
    print(format_table(results))
    print(
        f"\nLook at    {folder / 'report.html'}\n           {folder / 'report.png'}"
        f"\nListen to  {folder / 'wav'}\nFigures    {folder / 'results.json'}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    preset: Preset = PRESETS[arguments.preset]
    folder: Path = arguments.out or Path("runs") / preset.name
    try:
        run(preset, list(dict.fromkeys(arguments.losses)), folder, arguments.seed, arguments.device)
    except KeyboardInterrupt:
        print(
            f"\nInterrupted. Finished epochs are kept in {folder}: the same command continues from there.",
            file=sys.stderr,
        )
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
