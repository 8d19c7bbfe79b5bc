"""Noise of a step, and memory, for several ways to spend the same work on paths.

`python -m benchmarks.studies.does_it_help.noise` computes the gradients of all paths in the weights of a fresh
encoder on several batches, and from them what a step would be: one path, all paths of one rate, or four paths with
a quarter of the batch each. Gradients are divided by the root mean square of each weight and unit, as P-Adam does.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from benchmarks.sound_matching.data import synth_seeds
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.sound_matching.train import Experiment
from benchmarks.studies.does_it_help.problems import CHIRPLETS, GRANULAR, quick
from scrapl_jtfs import JTFSPath
from scrapl_optim import PathAdamSAGA, PathSampler

_PARTS = 4
_BATCHES = 12
_DRAWS = 2000


def part_gradients(preset: Preset, seed: int, n_batches: int) -> Tensor:
    """Return gradients (batches, parts of a batch, paths, weights) at the encoder's first weights."""
    experiment = Experiment(preset, seed)
    torch.manual_seed(seed)
    encoder = preset.build_encoder()
    weights = list(encoder.parameters())
    jtfs = preset.transform()
    distance, data, size = preset.path_loss(jtfs), experiment.train, preset.batch_size // _PARTS
    gradients = torch.empty(n_batches, _PARTS, jtfs.n_paths, sum(w.numel() for w in weights))
    for b in range(n_batches):
        for q in range(_PARTS):
            rows = slice((b * _PARTS + q) * size, (b * _PARTS + q + 1) * size)
            theta_hat = encoder(data.spectrograms[rows])
            target = data.targets(torch.arange(rows.start, rows.stop))
            match = experiment.synth(theta_hat, synth_seeds(seed, "match", rows.start, size))
            for p in range(jtfs.n_paths):
                loss = distance(match, target, p)
                found = torch.autograd.grad(loss, weights, retain_graph=True)
                gradients[b, q, p] = torch.cat([gradient.flatten() for gradient in found])
    return gradients


def equal_vote(gradients: Tensor) -> Tensor:
    """Divide gradients (batches, units, weights) by their root mean square over batches, 0 / 0 being 0."""
    rms = gradients.square().mean(0, keepdim=True).sqrt()
    return torch.where(rms > 0, gradients / rms, 0.0)


def noise_to_signal(steps: Tensor, mean: Tensor) -> float:
    """Return E|step - mean|^2 / |mean|^2 of steps (n, weights)."""
    return float((steps - mean).square().sum(-1).mean() / mean.square().sum())


def measure_problem(preset: Preset, n_batches: int, n_draws: int) -> dict[str, Any]:
    """Return noise, memory and paths of each way."""
    jtfs = preset.transform()
    parts = part_gradients(preset, 0, n_batches)
    whole = parts.mean(1)
    rates = sorted({path.rate for path in jtfs.paths})
    bundles = [[path.index for path in jtfs.paths if path.rate == rate] for rate in rates]
    by_rate = torch.stack([whole[:, bundle].mean(1) for bundle in bundles], dim=1)
    n = n_batches
    one, rate = equal_vote(whole), equal_vote(by_rate)
    quarter = equal_vote(parts.flatten(0, 1)).unflatten(0, (n, _PARTS))
    draws = [PathSampler(n_paths=jtfs.n_paths, seed=1).sample(k, _PARTS, stratified=True) for k in range(n_draws)]
    four = torch.stack([
        torch.stack([quarter[k % n, q, p] for q, p in enumerate(paths)]).mean(0) for k, paths in enumerate(draws)
    ])  # fmt: skip
    weights = sum(w.numel() for w in preset.build_encoder().parameters())
    return {
        "one path": _row(noise_to_signal(one.flatten(0, 1), one.mean((0, 1))), jtfs.n_paths, 1.0, jtfs, weights),
        "all paths of a rate": _row(
            noise_to_signal(rate.flatten(0, 1), rate.mean((0, 1))),
            len(rates),
            jtfs.n_paths / len(rates),
            jtfs,
            weights,
        ),
        "four paths, a quarter of the batch each": _row(
            noise_to_signal(four, quarter.mean((0, 1, 2))), jtfs.n_paths, float(_PARTS), jtfs, weights
        ),
    }


def _row(noise: float, n_units: int, paths: float, jtfs: JTFSPath, n_weights: int) -> dict[str, Any]:
    weight = torch.nn.Parameter(torch.zeros(n_weights))
    state = PathAdamSAGA([weight], n_paths=n_units).expected_bytes()
    return {"noise_to_signal": noise, "units": n_units, "paths_per_step": paths, "state_bytes": state}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both kinds of sounds."""
    problems = [PRESETS[name] for name in (GRANULAR, CHIRPLETS[0])]
    n_batches, n_draws = (2, 20) if options.quick else (_BATCHES, _DRAWS)
    return {
        "unit": "E|step - mean step|^2 / |mean step|^2 over batches and paths, at the encoder's first weights",
        "quick": options.quick,
        **provenance(),
        "batches": n_batches,
        "problems": {
            preset.name: measure_problem(quick(preset) if options.quick else preset, n_batches, n_draws)
            for preset in problems
        },
    }


def table(results: dict[str, Any]) -> str:
    """Format a table for each problem."""
    parts = []
    for name, ways in results["problems"].items():
        rows = [["step", "noise / signal", "paths", "state, MB"]]
        rows += [
            [way, f"{r['noise_to_signal']:.0f}", f"{r['paths_per_step']:.0f}", f"{r['state_bytes'] / 1e6:.1f}"]
            for way, r in ways.items()
        ]
        parts.append(f"{name.upper()}\n{format_table(rows)}")
    return "\n\n".join(parts)


main = Program(
    "benchmarks.studies.does_it_help.noise",
    "Measure the noise of a step, and memory, for several ways to spend the same work on paths.",
    measure,
    table,
    quick="two small batches: to see that it works",
    file="path_noise",
)

if __name__ == "__main__":
    sys.exit(main())
