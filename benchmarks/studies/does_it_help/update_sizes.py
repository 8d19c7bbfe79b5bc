"""Whose updates move the weights: those of paths that pi wants often, or of those that it wants rare?

`python -m benchmarks.studies.does_it_help.update_sizes` trains one chirplet problem with theta-importance, and
looks into the optimizer's memory: the last update of every path, how large it is, and how much of the mean over
paths is made of it. P-Adam's decay rates assume uniform visits. Where pi is far from uniform, a frequent path may
average many gradients to a small update, while a path drawn once leaves an update of full size in the memory. Were
that so, updates would shrink with the number of visits under the paper's clocks, and not under those of pi.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from benchmarks.sound_matching.train import Experiment
from benchmarks.studies.does_it_help.arms import ARMS, REFERENCE
from benchmarks.studies.does_it_help.distributions import load_distribution
from benchmarks.studies.does_it_help.pi import FOLDER
from benchmarks.studies.does_it_help.problems import CHIRPLETS, preset_of, quick
from benchmarks.studies.does_it_help.runs import ArmObjective, ArmTrainer
from scrapl_jtfs.commands.command_line import say

_PROBLEM = CHIRPLETS[2]
_ARMS = (REFERENCE, "theta-is", "theta-is, clocks by pi", "theta-is, memory and clocks by pi")
_LR = 2e-3
_VISITS = ((1, 1), (2, 9), (10, 99), (100, 10**9))


class Memory(NamedTuple):
    """What P-SAGA remembers after training.

    Attributes:
        visits: (P,) of each path.
        sizes: (P,) root mean square over weights of the last update of each path; 0 where it was never drawn. An
            update of signs has size one.
        weights: (P,) of the updates in the mean that every step adds.
    """

    visits: Tensor
    sizes: Tensor
    weights: Tensor


def read_memory(optimizer: torch.optim.Optimizer, drawn: Sequence[int], weights: Tensor | None) -> Memory:
    """Read the memory of PathAdamSAGA.

    Args:
        optimizer: after training.
        drawn: the path of each step.
        weights: (P,) of the paths in the memory's mean; None where each that was visited counts alike.
    """
    states = [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]
    visits = torch.bincount(torch.tensor(drawn), minlength=len(states[0]["step"]))
    squares, count = torch.zeros(len(visits), dtype=torch.float64), 0
    for state in states:
        for path in visits.nonzero().flatten().tolist():
            squares[path] += state[f"update.{path}"].double().square().sum()
        count += next(state[key] for key in state if key.startswith("update.")).numel()
    alike = (visits > 0).double() / max(1, int((visits > 0).sum()))
    return Memory(visits, (squares / count).sqrt(), alike if weights is None else weights.double())


def by_visits(memory: Memory, pi: Tensor) -> dict[str, dict[str, float]]:
    """Summarise the memory for paths that were visited once, a few times, often and very often.

    Args:
        memory: of the optimizer.
        pi: (P,) distribution that paths were drawn from.
    """
    votes = memory.weights * memory.sizes
    rows = {}
    for low, high in _VISITS:
        inside = (memory.visits >= low) & (memory.visits <= high)
        if inside.any():
            rows[_label(low, high)] = {
                "paths": int(inside.sum()),
                "pi": float(pi[inside].sum()),
                "size": float(memory.sizes[inside].mean()),
                "vote": float(votes[inside].sum() / votes.sum()),
            }
    return rows


def _label(low: int, high: int) -> str:
    return "once" if high == 1 else f"{low} to {high}" if high < _VISITS[-1][1] else f"{low} and more"


def measure_arm(folder: Path, name: str, seed: int, short: bool) -> dict[str, dict[str, float]]:
    """Train an arm and return what is in its memory."""
    preset, arm = preset_of(_PROBLEM), ARMS[name]
    found = load_distribution(folder, _PROBLEM, arm, preset.transform().n_paths)
    preset = quick(preset) if short else preset
    trainer = ArmTrainer(
        Experiment(preset, seed), ArmObjective(preset, seed, arm, _LR, None if found is None else found.pi)
    )
    while not trainer.finished:
        trainer.run_epoch()
    say(f"{name}, seed {seed}: {trainer.history[-1]['val']['mean']:.0f} per mille", sys.stderr)
    pi = torch.as_tensor(trainer.arm_objective.sampler.probs, dtype=torch.float64)
    drawn = [trainer.arm_objective.draws(step)[0] for step in range(preset.n_steps)]
    return by_visits(read_memory(trainer.optimizer, drawn, pi if arm.memory_by_pi else None), pi)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train the arms and look into their memory."""
    return {
        "unit": "root mean square over weights of the last update of a path, before the learning rate; share of "
        "the sum of sizes times weights in the memory's mean",
        "quick": options.quick,
        **provenance(),
        "problem": _PROBLEM,
        "lr": _LR,
        "arms": {
            name: {
                str(seed): measure_arm(options.pi, name, seed, options.quick)
                for seed in range(1 if options.quick else 2)
            }
            for name in _ARMS
        },
    }


def table(results: dict[str, Any]) -> str:
    """Format sizes and votes, a row for each arm, seed and number of visits."""
    rows = [["arm", "seed", "visits", "paths", "of pi", "size", "of the vote"]]
    for name, seeds in results["arms"].items():
        for seed, groups in seeds.items():
            for visits, r in groups.items():
                shares = [f"{r['pi']:.0%}", f"{r['size']:.2f}", f"{r['vote']:.0%}"]
                rows.append([name, seed, visits, str(r["paths"]), *shares])
    return format_table(rows)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pi", type=Path, default=FOLDER, help="folder of distributions (default: %(default)s)")


main = Program(
    "benchmarks.studies.does_it_help.update_sizes",
    "Train with theta-importance, and see whose updates fill P-SAGA's memory. Eight runs, usually ten minutes.",
    measure,
    table,
    quick="four steps: to see that it works",
    add_options=_add_options,
    file="update_sizes",
)

if __name__ == "__main__":
    sys.exit(main())
