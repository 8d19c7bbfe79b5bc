"""The distribution of paths by theta-importance: of a fresh encoder, once for all runs."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.files import read_json, write_json
from benchmarks.studies.image_textures.arms import path_distance, transform
from benchmarks.studies.image_textures.encoder import Encoder
from benchmarks.studies.image_textures.textures import SIZE, Grains, random_controls, random_grains, render
from scrapl_optim import SharedSubspace, ThetaImportance, theta_importance

PROBS_FILE = "pi.json"
N_EXAMPLES = 8
_SEED = 10**6


def write_probs(path: Path, n_examples: int) -> None:
    """Write pi, unless it is there: runs belong to their pi."""
    if path.exists():
        return
    started = time.process_time()
    found = measured_importance(n_examples)
    write_json(
        path,
        {
            "examples": n_examples,
            "seconds": round(time.process_time() - started, 1),
            "residual": float(found.residual.max()),
            "pi": found.probs.tolist(),
        },
    )


def read_probs(path: Path) -> list[float]:
    """Read what `write_probs` wrote."""
    return read_json(path)["pi"]


def measured_importance(n_examples: int) -> ThetaImportance:
    """Return the importance of each path for each control, in double precision."""
    generator = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        encoder = Encoder().double()
    scattering = transform().double()
    theta = random_controls(n_examples, generator).double()
    target = render(theta, random_grains(n_examples, generator))
    grains, wanted = random_grains(n_examples, generator), scattering.full(target)

    # A batch is textures under a row of their numbers, which the encoder does not see.
    def numbers(batch: Tensor) -> Tensor:
        return batch[:, 0, 0].long()

    def synth(found: Tensor, batch: Tensor) -> Tensor:
        return render(found, Grains(grains.places[numbers(batch)], grains.phases[numbers(batch)]))

    def loss(match: Tensor, batch: Tensor, path: int) -> Tensor:
        return scattering.n_paths * path_distance([scattering(match, path)], wanted[path][numbers(batch)])

    numbered = torch.arange(n_examples, dtype=torch.float64)[:, None, None].expand(-1, 1, SIZE)
    return theta_importance(
        lambda batch: encoder(batch[:, 1:]),
        synth,
        loss,
        [torch.cat([numbered, target], 1)],
        list(encoder.parameters()),
        scattering.n_paths,
        method=SharedSubspace(split_batch=lambda batch: batch.split(1)),
    )
