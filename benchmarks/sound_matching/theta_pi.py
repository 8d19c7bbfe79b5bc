"""theta-importance for the losses that draw paths by it, kept in the run folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.files import read_json, write_json
from benchmarks.harness.runs import configuration_hash
from benchmarks.sound_matching.data import synth_seeds
from benchmarks.sound_matching.train import Experiment
from scrapl_jtfs import importance
from scrapl_jtfs.commands.command_line import say
from scrapl_optim import Progress

N_EXAMPLES = 4
"""Examples that pi is computed from. Table 12 has 16; for drums each costs a minute or more."""

_FILE = "theta_pi.json"
# Residual of the eigenvalues; the choice of examples makes far larger errors.
_TOLERANCE = 1e-2
# Samples per bandwidth of the compact transform, whose derivatives are several times as fast.
_COMPACT = 2.0
# Seconds between lines that tell how far it is.
_INTERVAL = 30.0


def spread_examples(n: int, count: int) -> Tensor:
    """Return `count` indices spread evenly over n sounds; recordings lie in the order of their folders."""
    count = min(n, count)
    return ((torch.arange(count, dtype=torch.float64) + 0.5) * (n / count)).long()


def compute_pi(
    experiment: Experiment, n_examples: int = N_EXAMPLES, progress: bool | Callable[[Progress], None] = False
) -> dict[str, Any]:
    """Compute theta-importance on training sounds with the encoder's first weights.

    Args:
        experiment: on the CPU.
        n_examples: number of sounds.
        progress: as that of `scrapl_jtfs.importance`.

    Returns:
        "pi" and what is to be told of it.

    Source: paper, section 3.4 and Table 12.
    """
    started = time.perf_counter()
    preset, data = experiment.preset, experiment.train
    index = spread_examples(len(data), n_examples)
    compact = preset.samples_per_bandwidth or _COMPACT
    found = importance(
        experiment.fresh_encoder(),
        experiment.synth,
        preset.path_loss(preset.transform(samples_per_bandwidth=compact)),
        data.spectrograms[index],
        targets=data.targets(index),
        # Those of no match in training.
        conditions=torch.tensor(synth_seeds(experiment.seed, "report", 0, len(index))),
        halves=False,  # which would take half as long again
        tolerance=_TOLERANCE,
        seed=experiment.seed,
        progress=progress,
    )
    return {
        "pi": found.probs.tolist(),
        "examples": index.tolist(),
        "from_uniform": found.from_uniform,
        "n_effective": found.n_effective,
        "unconverged": len(found.unconverged),
        "seconds": time.perf_counter() - started,
    }


def kept_pi(experiment: Experiment, folder: Path) -> list[float]:
    """Return pi, from the run folder if it was computed before, else computed and kept there."""
    path, owner = folder / _FILE, configuration_hash(experiment.configuration)
    if path.exists():
        kept = read_json(path)
        if kept.get("configuration") == owner:
            return kept["pi"]
    say(f"theta-importance of {N_EXAMPLES} sounds, {len(experiment.preset.controls)} controls ...")
    found = compute_pi(experiment, progress=_teller())
    write_json(path, {"configuration": owner, **found})
    say(
        f"theta-importance took {found['seconds']:.0f} s: {found['n_effective']:.0f} effective of "
        f"{len(found['pi'])} paths, {found['from_uniform']:.2f} from uniform in total variation"
    )
    return found["pi"]


def _teller() -> Callable[[Progress], None]:
    """Return a function that tells on standard error how far it is, now and then."""
    told = time.perf_counter()

    def tell(state: Progress) -> None:
        nonlocal told
        if time.perf_counter() - told >= _INTERVAL:
            told = time.perf_counter()
            say(f"  {state.stage}: {state.done} of {state.total}", sys.stderr)

    return tell
