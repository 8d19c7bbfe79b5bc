"""The jobs of a new user's first hour, each the lines that are left to write beside the model and the synthesizer.

Each function is one job; its body, but for the docstring, is what the user types.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import auraloss
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from scrapl_jtfs import (
    SCRAPL,
    JTFSPath,
    JTFSPathLoss,
    draw_rate_scale,
    draw_scalogram,
    draw_sweep,
    importance,
    relative_distance,
)
from scrapl_optim import PathAdamSAGA, PathSampler, save_checkpoint
from scrapl_optim.testing import assert_draws_follow, assert_unbiased

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))
from vibrato import HEARING, N_SAMPLES, SAMPLE_RATE, Encoder, vibrato  # pyright: ignore[reportMissingImports]

Batch = Any


def swap_into_a_training_loop(model: nn.Module, synth: Any, batches: list[Tensor], folder: Path) -> SCRAPL:
    """A: a loop with warm-up, validation on the full tree, a loss curve and checkpoints."""
    scrapl = SCRAPL(N_SAMPLES, sample_rate=SAMPLE_RATE, **HEARING)
    optimizer = scrapl.optimizer(model.parameters(), lr=1e-3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2 * scrapl.n_paths)
    for x in batches:
        loss = scrapl(synth(model(x)), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
    with torch.no_grad():
        full = scrapl.full(synth(model(batches[0])), batches[0])
    parts = {"model": model, "scrapl": scrapl, "optimizer": optimizer, "warm_up": warm_up}
    save_checkpoint({name: part.state_dict() for name, part in parts.items()}, folder / "run.pt")
    print(f"validation {full:.3g}, running estimate {scrapl.log.estimate():.3g}", scrapl.log.report())
    return scrapl


def compose_a_loss(model: nn.Module, synth: Any, batches: list[Tensor]) -> Any:
    """B: half a spectrogram loss, half log1p JTFS at 2 to 20 Hz, orders 1 and 2, four paths a step, in stereo."""
    jtfs = JTFSPath(N_SAMPLES, J=10, Q=(8, 1), J_fr=3, T="global", sample_rate=SAMPLE_RATE, orders=(1, 2))
    loss_fn, mss = JTFSPathLoss(jtfs, log1p_eps=1e-4), auraloss.freq.STFTLoss(256, 64, 256)
    keep = jtfs.paths.where(rate=(2, 20)) + jtfs.paths.where(order=1)
    sampler = PathSampler(n_paths=jtfs.n_paths, paths=keep, seed=0)
    optimizer = PathAdamSAGA(model.parameters(), jtfs.n_paths, lr=5e-4)
    for step, x in enumerate(batches):
        for path in sampler.sample(step, 4):
            y = synth(model(x))
            (0.5 * loss_fn(y, x, path) + 0.5 * mss(y, x)).backward()
            optimizer.add_path(path)
        optimizer.step()
    return loss_fn.full(synth(model(batches[0])), batches[0], paths=keep), optimizer


def find_important_paths(encoder: nn.Module, synth: Any, sounds: Tensor) -> Any:
    """C: theta-importance, with the error that the choice of examples causes, and what to draw from it."""
    jtfs = JTFSPath(N_SAMPLES, J=8, Q=(4, 1), J_fr=2, T="global", sample_rate=SAMPLE_RATE)
    found = importance(encoder, synth, JTFSPathLoss(jtfs), sounds)
    print(found)
    return found, PathSampler(found.probs, min_prob_frac=0.25)


def property_test_a_sampler_and_an_estimator() -> None:
    """D: do draws follow pi, and does the weighted loss estimate the full one without bias?"""
    pi, losses = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    sampler = PathSampler(pi)
    assert_draws_follow(sampler, pi, n_steps=20_000)
    assert_unbiased(lambda path: sampler.weight(path) * losses[path], sampler.probs, losses.mean())


def look_at_features(x: Tensor, y: Tensor, picture: Path) -> Any:
    """E: coefficients with names, a picture of them, and how far apart two sounds are."""
    jtfs = JTFSPath(N_SAMPLES, J=10, Q=(8, 1), J_fr=3, T="global", sample_rate=SAMPLE_RATE)
    features = jtfs.features(x, rows="mean", frames="mean")
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_scalogram(left, jtfs, x)
    energies = features.values / features.values.mean()
    draw_rate_scale(right, jtfs.paths, energies)
    figure.savefig(picture)
    return features, relative_distance(jtfs, x, y)


def train_on_another_family(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> PathAdamSAGA:
    """F: spectrograms of four resolutions as the paths of a family of one's own; nothing knows of a JTFS."""
    losses = [auraloss.freq.STFTLoss(size, size // 4, size) for size in (64, 128, 256, 512)]
    sampler = PathSampler(n_paths=len(losses), cover_first=True)
    optimizer = PathAdamSAGA(model.parameters(), n_paths=len(losses), lr=1e-3)
    for step, (x, y) in enumerate(batches):
        path = sampler(step)
        losses[path](model(x)[:, None], y[:, None]).backward()
        optimizer.step(path_idx=path)
        optimizer.zero_grad()
    return optimizer


def choose_a_transform(synth: Any, theta: Tensor, picture: Path) -> Any:
    """G: a transform for the sounds at hand, what it hears, and whether its loss is a bowl over a control."""
    jtfs = JTFSPath.for_sounds(seconds=1, sample_rate=SAMPLE_RATE, rates=(2, 20), n_paths=100)
    print(jtfs.describe(steps=1920, n_parameters=600_000))
    print(jtfs.paths)
    figure = Figure()
    too_short = JTFSPath(N_SAMPLES, J=6, Q=(8, 1), J_fr=2, T="global", sample_rate=SAMPLE_RATE)
    losses = {name: JTFSPathLoss(j).full for name, j in (("chosen", jtfs), ("J=6", too_short))}
    sweep = draw_sweep(figure.subplots(), losses, synth, theta, control=0, values=torch.linspace(0, 1, 5))
    figure.savefig(picture)
    return jtfs, sweep


def come_from_scrapl_loss(model: nn.Module, synth: Any, batches: list[Tensor]) -> SCRAPL:
    """H: the peer's loss, unsquared and without the factor P, its 63 paths, floor and optimizer."""
    scrapl = SCRAPL(N_SAMPLES, J=9, Q=(8, 1), J_fr=3, T=512, F=8, squared=False, min_prob_frac=0.25, seed=0)
    optimizer = scrapl.optimizer(model.parameters(), lr=1e-4)
    for x in batches:
        scrapl(synth(model(x)), x).backward()
        optimizer.step()
        optimizer.zero_grad()
    return scrapl


def make_things() -> tuple[Encoder, Any, list[Tensor]]:
    """What a user brings: an encoder, a synthesizer, sounds."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    sounds = [vibrato(torch.rand(2, 2, generator=generator), generator) for _ in range(3)]
    return Encoder(), lambda theta: vibrato(theta, torch.Generator().manual_seed(7)).to(theta.dtype), sounds
