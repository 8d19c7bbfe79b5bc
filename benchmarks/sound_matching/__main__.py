"""python -m benchmarks.sound_matching --preset small --losses scrapl mss p_loss --out runs/small --seed 0"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.program import guarded
from benchmarks.sound_matching.data import check_seed
from benchmarks.sound_matching.distances.embeddings import EMBEDDINGS
from benchmarks.sound_matching.drum_matching.data import DEFAULT_FOLDER, find_task
from benchmarks.sound_matching.drum_matching.report import write_run_report
from benchmarks.sound_matching.drum_matching.results import add_judgements, format_scores, write_scores
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.losses import DEFAULT_OBJECTIVES, NEED_PI, OBJECTIVES, build_objective
from benchmarks.sound_matching.presets import PRESETS, USUAL, Preset, check_run_folder
from benchmarks.sound_matching.report import format_table, verdict, write_report, write_results
from benchmarks.sound_matching.task import Task
from benchmarks.sound_matching.theta_pi import kept_pi
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
            "scaled-chirplet-... the same shrunk in time, in minutes; drums-small and drums-paper match recorded "
            "drums, and with -meso behind their names shift matches in training"
        ),
    )
    parser.add_argument(
        "--losses",
        nargs="+",
        choices=OBJECTIVES,
        metavar="LOSS",
        help=(
            f"among {', '.join(OBJECTIVES)} (default: {' '.join(DEFAULT_OBJECTIVES)}, of drums without the last); "
            "scrapl_two is SCRAPL with two renderings, p_adam and adam have less of its optimizer, theta_is draws "
            "paths by theta-importance, theta_is_by_pi weighs them by it, full_tree is the JTFS on all paths, mss "
            "a spectrogram loss, mss_... others of the paper, with_... the logarithms of SCRAPL's loss and of one "
            "of these added, ...one_... a spectrogram loss at one resolution a step, crepe, aisfx, clap and panns "
            "embeddings of the packages of that name, p_loss supervised"
        ),
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"folder of one-shots in WAV, FLAC or OGG files, for drums (default: {DEFAULT_FOLDER}, which is "
        "fetched from Debian packages if it is not there)",
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
        if name in NEED_PI and experiment.pi is None:
            experiment.pi = kept_pi(experiment, folder)
        trainer = experiment.trainer(name)
        path = checkpoint_path(folder, name)
        if path.exists():
            trainer.load(path)
        if trainer.finished:
            say(f"{trainer.objective.label}: finished before, skipped")
            continue
        left = (preset.epochs - trainer.epoch) * preset.steps_per_epoch
        say(f"{trainer.objective.label}: {left} steps of {preset.batch_size} {_sounds(preset)}")
        experiment.trainer(name).run(folder)


def _sounds(preset: Preset) -> str:
    return "recordings" if preset.is_of_recordings else "textures"


def finished_trainers(experiment: Experiment, folder: Path) -> dict[str, Trainer]:
    """Every loss that was trained to the end in this folder, now or before."""
    trainers = {}
    for name in OBJECTIVES:
        path = checkpoint_path(folder, name)
        if not path.exists():
            continue
        if name in NEED_PI and experiment.pi is None:
            experiment.pi = kept_pi(experiment, folder)
        try:
            trainer = experiment.trainer(name)
        except ValueError as error:  # it was trained before, with a package or weights that are not there now
            say(f"{name}: trained before, left out: {error}", sys.stderr)
            continue
        trainer.load(path)
        if trainer.finished:
            trainers[name] = trainer
    return trainers


def run(
    preset: Preset,
    names: Sequence[str] | None,
    folder: Path,
    seed: int,
    device: torch.device,
    weights: Mapping[str, Path] | None = None,
    data: Path | None = None,
) -> None:
    check_seed(seed)
    check_name(folder, "--out")
    names = _chosen_losses(preset, names)
    for name in set(names) & set(EMBEDDINGS):  # before anything is rendered or written
        build_objective(name, preset, seed, device, weights)
    usual = f", {USUAL[preset.name].duration}" if preset.name in USUAL else ""
    say(
        f"Sound matching, preset {preset.name}, seed {seed}, {torch.get_num_threads()} threads on {device}, "
        f"run folder {shown(folder)}{usual}"
    )
    if preset.is_of_recordings:
        task = find_task(preset, seed, device, data)
        _report_scores(folder, _train(task.preset, names, folder, seed, device, weights, task))
        return
    if data is not None:
        raise ValueError(
            f"Invalid --data: {shown(data)}; expected a preset of drums with it; add --preset drums-small"
        )
    _report(folder, _train(preset, names, folder, seed, device, weights))


def _chosen_losses(preset: Preset, names: Sequence[str] | None) -> list[str]:
    """Return the losses to train.

    Raises:
        ValueError: one of them needs true controls, and there are none.
    """
    if not preset.is_of_recordings:
        return list(names or DEFAULT_OBJECTIVES)
    if names and "p_loss" in names:
        raise ValueError(
            "Invalid --losses: p_loss; expected losses of sounds, as nobody knows true controls of recordings; "
            "leave it out"
        )
    return list(names or (name for name in DEFAULT_OBJECTIVES if name != "p_loss"))


def _train(
    preset: Preset,
    names: Sequence[str],
    folder: Path,
    seed: int,
    device: torch.device,
    weights: Mapping[str, Path] | None,
    task: Task | None = None,
) -> Experiment:
    """Claim the run folder, and train in it."""
    check_run_folder(folder, preset, seed, task.identity if task else None)
    if task is None:
        say(
            f"Rendering {preset.n_train + preset.n_val + preset.n_test} textures of "
            f"{preset.n_samples / preset.sample_rate:g} s ..."
        )
    experiment = Experiment(preset, seed, device, weights, task)
    train_all(experiment, names, folder)
    return experiment


def _report_scores(folder: Path, experiment: Experiment) -> None:
    trainers = finished_trainers(experiment, folder)
    scores = write_scores(folder, experiment, trainers)
    say(f"\n{format_scores(scores)}\n\nFigures    {shown(folder / 'results.json')}")
    _judge(folder, experiment, scores, trainers)


def _judge(
    folder: Path, experiment: Experiment, scores: Mapping[str, Any], trainers: Mapping[str, Trainer]
) -> None:
    """Write the page of a run on drums, with all metrics."""
    say(f"Judging matches of {len(experiment.test)} unseen drums by all metrics ...")
    task = experiment.task
    assert isinstance(task, DrumTask)
    page = write_run_report(folder, task, add_judgements(folder, scores, experiment, trainers))
    say(f"Listen to  {shown(folder / 'wav')}\nLook at    {shown(page)}")


def _report(folder: Path, experiment: Experiment) -> None:
    results = write_results(folder, experiment, finished_trainers(experiment, folder))
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
        names = arguments.losses and list(dict.fromkeys(arguments.losses))
        run(preset, names, folder, arguments.seed, device, weights, arguments.data)

    kept = f"Finished epochs are kept in {shown(folder)}: the same command continues from there."
    return guarded(begin, kept, f"everything else is in {shown(folder)}, the same command tries again")


if __name__ == "__main__":
    sys.exit(main())
