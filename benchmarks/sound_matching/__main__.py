"""python -m benchmarks.sound_matching --preset small --losses scrapl mss p_loss --out runs/small --seed 0"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.harness.program import guarded
from benchmarks.sound_matching.data import check_seed
from benchmarks.sound_matching.distances.embeddings import EMBEDDINGS
from benchmarks.sound_matching.losses import DEFAULT_OBJECTIVES, OBJECTIVES, build_objective
from benchmarks.sound_matching.presets import PRESETS, USUAL, Preset, check_run_folder
from benchmarks.sound_matching.report import format_table, verdict, write_report, write_results
from benchmarks.sound_matching.train import Experiment, Trainer, checkpoint_path
from scrapl_jtfs.commands.command_line import Parser, check_name, parse_device, say, set_threads, shown


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.sound_matching",
        description=(
            "Train encoders to match sounds of a synthesizer, and compare losses. "
            "Interrupt it at any time: the same command continues."
        ),
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="small",
        metavar="PRESET",
        help=(
            "quick and small (default) are ours, in minutes; paper and paper-chirplet-{lo-lo,lo-med,hi-med,hi-hi} "
            "the problems of the paper (AM and FM of chirplets), in hours to days; scaled and "
            "scaled-chirplet-... the same shrunk in time, in minutes"
        ),
    )
    parser.add_argument(
        "--losses",
        nargs="+",
        choices=OBJECTIVES,
        default=list(DEFAULT_OBJECTIVES),
        metavar="LOSS",
        help=(
            f"among {', '.join(OBJECTIVES)} (default: {' '.join(DEFAULT_OBJECTIVES)}); scrapl_two is SCRAPL with "
            "two renderings, full_tree the JTFS on all paths, mss a spectrogram loss, mss_... others of the "
            "paper, crepe, aisfx, clap and panns embeddings of the packages of that name, p_loss supervised"
        ),
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/PRESET)")
    parser.add_argument("--seed", type=int, default=0, help="of textures, weights and batches (default: 0)")
    parser.add_argument(
        "--threads", type=int, help="CPU threads (default: 1; torch's choice for the paper's presets)"
    )
    for name in ("clap", "panns"):
        parser.add_argument(
            f"--{name}-weights", type=Path, metavar="FILE", help=f"checkpoint of the loss {name}, its authors'"
        )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    return parser.parse_args(argv)


def train_all(experiment: Experiment, names: Sequence[str], folder: Path) -> None:
    preset = experiment.preset
    for name in names:
        trainer = experiment.trainer(name)
        path = checkpoint_path(folder, name)
        if path.exists():
            trainer.load(path)
        if trainer.finished:
            say(f"{trainer.objective.label}: finished before, skipped")
            continue
        left = (preset.epochs - trainer.epoch) * preset.steps_per_epoch
        say(f"{trainer.objective.label}: {left} steps of {preset.batch_size} textures")
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


def run(
    preset: Preset,
    names: Sequence[str],
    folder: Path,
    seed: int,
    device: torch.device,
    weights: Mapping[str, Path] | None = None,
) -> None:
    check_seed(seed)
    check_name(folder, "--out")
    for name in set(names) & set(EMBEDDINGS):  # before anything is rendered or written
        build_objective(name, preset, seed, device, weights)
    check_run_folder(folder, preset, seed)
    usual = f", {USUAL[preset.name].duration}" if preset.name in USUAL else ""
    say(
        f"Sound matching, preset {preset.name}, seed {seed}, {torch.get_num_threads()} threads on {device}, "
        f"run folder {shown(folder)}{usual}"
    )
    say(
        f"Rendering {preset.n_train + preset.n_val + preset.n_test} textures of "
        f"{preset.n_samples / preset.sample_rate:g} s ..."
    )
    experiment = Experiment(preset, seed, device, weights or {})
    train_all(experiment, names, folder)
    trainers = finished_trainers(experiment, folder)
    results = write_results(folder, experiment, trainers)
    say(f"\n{format_table(results)}\n\n{verdict(results)}\n\nFigures    {shown(folder / 'results.json')}")
    write_report(folder, results)
    say(
        f"Listen to  {shown(folder / 'wav')}\nLook at    {shown(folder / 'report.html')}\n"
        f"           {shown(folder / 'report.png')}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 for a loss or a picture that failed, 2 for something the user can mend, 130 after ctrl-C."""
    arguments = parse_arguments(argv)
    preset: Preset = PRESETS[arguments.preset]
    folder: Path = arguments.out or Path("runs") / preset.name

    def begin() -> None:
        usual = USUAL.get(preset.name)
        set_threads(usual.threads if usual and arguments.threads is None else arguments.threads)
        device = parse_device(arguments.device)
        files = {"clap": arguments.clap_weights, "panns": arguments.panns_weights}
        weights = {name: path for name, path in files.items() if path is not None}
        run(preset, list(dict.fromkeys(arguments.losses)), folder, arguments.seed, device, weights)

    kept = f"Finished epochs are kept in {shown(folder)}: the same command continues from there."
    return guarded(begin, kept, f"everything else is in {shown(folder)}, the same command tries again")


if __name__ == "__main__":
    sys.exit(main())
