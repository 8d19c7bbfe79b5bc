"""Resynthesis of one recording at equal time: L-BFGS on the full tree beside random paths.

`python -m benchmarks.resynthesis` (four minutes of the processor) writes benchmarks/results/resynthesis.json and
prints a table. Times are seconds of the processor, one thread, which other programs change less than those of a
clock. Arms take turns, seed by seed. What paths take is measured first, and steps are chosen such that their
schedule of learning rates ends with the time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import Tensor, nn

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from scrapl_jtfs import JTFSPath, JTFSPathLoss, measure_texture, resynthesize
from scrapl_jtfs.commands.audio import read_recording
from scrapl_jtfs.resynthesis import ResynthesisProgress
from scrapl_optim import PathAdamSAGA, PathSampler

_FILE = Path(__file__).parents[1] / "notebooks" / "tabla.wav"
_RATE = 8192
# Averages along time: events stay where they are, or only the texture is the same.
_AVERAGES: dict[str, Any] = {"local": 1024, "global": "global"}
# Steps of a short and of a longer run, to learn the time of a step and of all else in a run.
_SHORT, _LONG = 40, 160
# Learning rate of P-Adam with P-SAGA, at the RMS of the recording: the best of benchmarks/results/recordings.json.
_PATHWISE_LR = 0.03

# (transform, target, seconds, seed) -> signals, steps
Arm = Callable[[JTFSPath, Tensor, float, int], tuple[Tensor, int, float]]


def full_tree(jtfs: JTFSPath, target: Tensor, seconds: float, seed: int) -> tuple[Tensor, int, float]:
    """Return what L-BFGS reaches in some seconds, its evaluations, and the seconds that it took."""
    started = time.process_time()
    end = started + seconds

    def late(_: ResynthesisProgress) -> bool:
        return time.process_time() >= end

    found = resynthesize(jtfs, target, steps=10**6, seed=seed, callback=late)
    return found.signals, found.n_steps, time.process_time() - started


def random_paths(jtfs: JTFSPath, target: Tensor, seconds: float, seed: int) -> tuple[Tensor, int, float]:
    """Return what Adam on one random path a step reaches, its steps and its seconds."""

    def run(steps: int) -> Tensor:
        return resynthesize(jtfs, target, method="paths", steps=steps, seed=seed).signals

    return filling(run, seconds)


def pathwise(jtfs: JTFSPath, target: Tensor, seconds: float, seed: int) -> tuple[Tensor, int, float]:
    """Return what P-Adam with P-SAGA, made for training, reaches on uniform paths, its steps and its seconds."""
    start = resynthesize(jtfs, target, method="paths", steps=1, seed=seed, callback=lambda _: True).signals
    loss_fn = JTFSPathLoss(jtfs)
    prepared = loss_fn.prepare(target)
    prepared.coefficients(range(jtfs.n_paths))  # which the first visits would take
    sampler = PathSampler(n_paths=jtfs.n_paths, seed=seed)

    def run(steps: int) -> Tensor:
        x = nn.Parameter(start.clone())
        lr = _PATHWISE_LR * float(target.square().mean().sqrt())
        optimizer = PathAdamSAGA([x], n_paths=jtfs.n_paths, lr=lr, weight_decay=0.0)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            path = sampler(step)
            optimizer.zero_grad()
            loss_fn(x, prepared, path).backward()
            optimizer.step(path_idx=path)
        return x.detach()

    return filling(run, seconds)


ARMS: dict[str, tuple[str, Arm]] = {
    "lbfgs": ("L-BFGS on the full tree", full_tree),
    "paths": ("Adam on one random path a step, by energy", random_paths),
    "pathwise": ("P-Adam with P-SAGA, one uniform path a step", pathwise),
}


def filling(run: Callable[[int], Tensor], seconds: float) -> tuple[Tensor, int, float]:
    """Return the signals of a run of as many steps as fill some seconds, its steps and the seconds it took."""
    short, longer = timed(lambda: run(_SHORT)), timed(lambda: run(_LONG))
    step = max((longer - short) / (_LONG - _SHORT), longer / _LONG / 10)
    steps = max(1, round(_LONG + (seconds - longer) / step))
    started = time.process_time()
    return run(steps), steps, time.process_time() - started


def timed(work: Callable[[], object]) -> float:
    """Return the processor's seconds that some work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(seconds: float, n_seeds: int, length: float) -> dict[str, Any]:
    """Return the quality of each arm, average and seed."""
    target = read_recording(_FILE, _RATE, length).samples
    averages: dict[str, Any] = {}
    for name, average in _AVERAGES.items():
        n = target.shape[-1]
        octaves = int(math.log2(min(n, _RATE / 2)))
        jtfs = JTFSPath(n, octaves, (8, 1), 3, T=average, F=8, sample_rate=_RATE, orders=(1, 2), boundary="even")
        runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for seed in range(n_seeds):
            for arm, (_, reach) in ARMS.items():
                runs[arm].append(one_run(jtfs, target, reach, seconds, seed))
                print(f"T={average}, seed {seed}, {arm}: {runs[arm][-1]}", file=sys.stderr, flush=True)
        averages[name] = {"T": average, "n_paths": jtfs.n_paths, "arms": {arm: summary(runs[arm]) for arm in ARMS}}
    return {
        "recording": {"file": _FILE.name, "rate": _RATE, "n_samples": target.shape[-1]},
        "seconds": seconds,
        "seeds": n_seeds,
        "averages": averages,
    }


def one_run(jtfs: JTFSPath, target: Tensor, reach: Arm, seconds: float, seed: int) -> dict[str, float]:
    """Return the quality that an arm reaches."""
    result, steps, taken = reach(jtfs, target, seconds, seed)
    quality = measure_texture(jtfs, result, target)
    return {
        "error": float(quality.error),
        "steps": steps,
        "seconds": taken,
        "autocorrelation_error": float(quality.autocorrelation_error),
        "kurtosis": float(quality.moments.kurtosis),
        "target_kurtosis": float(quality.target_moments.kurtosis),
    }


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return runs with the mean and the standard deviation of their errors."""
    errors = [run["error"] for run in runs]
    return {"mean": mean(errors), "std": stdev(errors) if len(errors) > 1 else 0.0, "runs": runs}


def table(results: dict[str, Any]) -> str:
    """For the terminal."""
    names = list(results["averages"])
    rows = [[f"Relative error after {results['seconds']:g} s, {results['seeds']} seeds", *names]]
    for arm, (description, _) in ARMS.items():
        found = [results["averages"][name]["arms"][arm] for name in names]
        rows.append([description, *(f"{one['mean']:.3g} +- {one['std']:.1g}" for one in found)])
    return format_table(rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=8.0, help="of the processor, for each run (default: 8)")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--length", type=float, default=0.5, help="seconds of the recording (default: 0.5)")


def results_of(options: argparse.Namespace) -> dict[str, Any]:
    about = {
        "unit": "relative error of all coefficients, sqrt(sum ||S_p(x) - S_p(y)||^2 / sum ||S_p(y)||^2)",
        "note": "one recording; processor seconds of one thread; the machine was busy",
    }
    return {**about, **provenance(), **measure(options.seconds, options.seeds, options.length)}


main = Program(
    "benchmarks.resynthesis",
    "Resynthesise a recording by L-BFGS on the full tree and by random paths, at equal time.",
    results_of,
    table,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
