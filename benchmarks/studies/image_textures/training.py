"""One run: one arm with one learning rate and one seed, from the start to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness.runs import Job, epoch_teller, keep_result
from benchmarks.studies.image_textures.arms import ARMS, Arm, Objective
from benchmarks.studies.image_textures.encoder import Encoder
from benchmarks.studies.image_textures.importance import PROBS_FILE, read_probs
from benchmarks.studies.image_textures.textures import CONTROLS, errors, random_controls, random_grains, render


class Plan(NamedTuple):
    """The sizes of a run.

    Attributes:
        steps: of the optimizer.
        batch: textures in a step, new ones each time.
        records: validations.
        n_val: textures of the validation.
        n_test: textures of the test.
    """

    steps: int = 1500
    batch: int = 8
    records: int = 20
    n_val: int = 256
    n_test: int = 1024


QUICK = Plan(steps=2, records=2, n_val=8, n_test=8)


class Examples(NamedTuple):
    """Textures with their controls.

    Attributes:
        theta: (n, 3).
        images: (n, height, width).
    """

    theta: Tensor
    images: Tensor


def make_job(folder: Path, plan: Plan, arm: str, lr: float, seed: int) -> Job:
    """Return the run of an arm, in a folder of all runs."""
    place = folder / f"seed{seed}" / f"{arm.replace(', ', '-').replace(' ', '-')}-{lr:g}"
    decides = {**plan._asdict(), "arm": ARMS[arm].decisions(), "lr": lr, "seed": seed}
    return Job(f"{arm}, lr {lr:g}, seed {seed}", place, decides, (plan, arm, lr, seed, folder / PROBS_FILE))


def run(job: Job) -> dict[str, Any]:
    """Train one encoder to the end."""
    plan, arm, lr, seed, file = job.arguments
    probs = read_probs(file) if ARMS[arm].pi == "theta" else None
    found = train(plan, ARMS[arm], lr, seed, probs, epoch_teller(job, every=10))
    return keep_result(job, {"arm": arm, "seed": seed, "lr": lr, **found})


def train(
    plan: Plan,
    arm: Arm,
    lr: float,
    seed: int,
    probs: Sequence[float] | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:
    """Train an encoder and test it.

    Seconds are those of the processor, of training alone: machines are shared, and validations are not part of it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder()
    objective = Objective(arm, encoder, lr, seed, probs)
    val, test = (fixed_examples(n, 10**6 + k) for k, n in enumerate((plan.n_val, plan.n_test)))
    targets, matches = (torch.Generator().manual_seed(2 * seed + k) for k in range(2))
    every, seconds, history = max(1, plan.steps // plan.records), 0.0, []
    for step in range(plan.steps):
        started = time.process_time()
        theta = random_controls(plan.batch, targets)
        target = render(theta, random_grains(plan.batch, targets))
        found = encoder(target)
        objective.optimizer.zero_grad()
        objective.loss(
            found, theta, lambda found=found: render(found, random_grains(plan.batch, matches)), target, step
        ).backward()
        objective.update(step)
        seconds += time.process_time() - started
        if (step + 1) % every == 0:
            record = {
                "epoch": (step + 1) // every,
                "step": step + 1,
                "seconds": seconds,
                "val": score(encoder, val),
            }
            history.append(record)
            tell(record)
    return {
        "steps": plan.steps,
        "seconds": seconds,
        "test": score(encoder, test),
        "history": history,
    }


def fixed_examples(n: int, seed: int) -> Examples:
    """Return the same textures each time."""
    generator = torch.Generator().manual_seed(seed)
    theta = random_controls(n, generator)
    return Examples(theta, render(theta, random_grains(n, generator)))


@torch.no_grad()
def score(encoder: nn.Module, examples: Examples) -> dict[str, float]:
    """Return the mean errors of the controls in per mille of their ranges, and their mean; chance is 250."""
    each = 1000 * errors(encoder(examples.images), examples.theta).mean(0)
    return {"mean": float(each.mean()), **dict(zip(CONTROLS, each.tolist(), strict=True))}
