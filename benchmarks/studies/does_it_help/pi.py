"""python -m benchmarks.studies.does_it_help.pi [--released DIR]: compute the distributions that arms draw from.

For each problem there is a file for each source. One that exists is kept, since runs belong to their pi.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.files import write_json
from benchmarks.harness.program import guarded
from benchmarks.sound_matching.data import build_synth
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.studies.does_it_help.problems import CHIRPLETS, GRANULAR, VARIANTS, preset_of, quick
from benchmarks.studies.released_pi.cases import Case, build_problem
from benchmarks.studies.released_pi.compare import read_released, restricted
from benchmarks.studies.released_pi.distances import norms, squared_distances
from benchmarks.studies.released_pi.search import distribution, eigenvalues, rms_slopes
from scrapl_jtfs import measure_alignment
from scrapl_jtfs.commands.command_line import say
from scrapl_optim import aligned_probs

FOLDER = Path("runs/does_it_help/pi")
_EXAMPLES = {GRANULAR: 32}
_FEWER_EXAMPLES = 16
_PAIRS = 96

Pi = dict[str, Any]


def of_derivatives(preset: Preset, n_examples: int) -> dict[str, Pi]:
    """Return theta-importance, of the distance and of its square, and the root mean square of slopes.

    Encoder, loss and floor are those of the authors: fresh, unsquared, none. All examples are heard.
    """
    problem = build_problem(Case(preset.name, preset.name, n_examples, n_heard=n_examples), preset)
    squared = squared_distances(problem)
    norm = norms(squared)
    theta, theta_squared = eigenvalues(problem, (norm, squared), n_examples)
    return {
        "theta": {"pi": distribution(theta.values).tolist(), "residual": theta.residual},
        "theta-squared": {"pi": distribution(theta_squared.values).tolist(), "residual": theta_squared.residual},
        "rms": {"pi": distribution(rms_slopes(norm)).tolist()},
    }


def of_alignment(preset: Preset, n_pairs: int) -> Pi:
    """Return the subset of the paths, drawn alike, whose sum leads the worst control best."""
    theta, theta_hat = torch.rand(2, n_pairs, 2, generator=torch.Generator().manual_seed(0))
    measured = measure_alignment(build_synth(preset), preset.path_loss(preset.transform()), theta, theta_hat)
    return {"pi": aligned_probs(measured).probs.tolist(), "pairs": n_pairs}


def of_authors(preset: Preset, released: Path) -> Pi:
    """Return the released pi of the problem at full size, over the paths that are left of it."""
    name = preset.name.replace("scaled", "paper")
    paper, ours = PRESETS[name].transform(), preset.transform()
    faster = PRESETS[name].n_samples / preset.n_samples
    pi = restricted(read_released(released, name), paper.paths, ours.paths, faster)
    return {"pi": (pi / pi.sum()).tolist(), "share_of_the_released": float(np.sum(pi))}


def write_distributions(
    folder: Path, preset: Preset, released: Path | None, n_examples: int, n_pairs: int
) -> list[str]:
    """Write the files of a problem that are not there; returns what was written."""
    sources: list[tuple[tuple[str, ...], Callable[[], dict[str, Pi]]]] = [
        (("theta", "theta-squared", "rms"), lambda: of_derivatives(preset, n_examples)),
        (("predicted",), lambda: {"predicted": of_alignment(preset, n_pairs)}),
    ]
    if released is not None:
        sources.append((("released",), lambda: {"released": of_authors(preset, released)}))
    written: list[str] = []
    for names, compute in sources:
        missing = [name for name in names if not (folder / f"{name}.json").exists()]
        if not missing:
            continue
        started = time.perf_counter()
        found = compute()
        for name in missing:
            about = {"examples": n_examples, "seconds": round(time.perf_counter() - started, 1)}
            write_json(folder / f"{name}.json", {**found[name], **about})
            written.append(name)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 for a failure, 2 for something the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.does_it_help.pi", description=__doc__)
    parser.add_argument(
        "--released", type=Path, help="folder of the authors' pi; without it their arm is left out"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the results (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two examples, twelve pairs: to see that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)

    def run() -> None:
        for name in (GRANULAR, *CHIRPLETS, *VARIANTS):
            n_examples = 2 if options.quick else _EXAMPLES.get(name, _FEWER_EXAMPLES)
            # The name stays: it is that of the authors' file.
            preset = replace(quick(preset_of(name)), name=name) if options.quick else preset_of(name)
            folder = options.folder / name
            n_pairs = 12 if options.quick else _PAIRS
            released = None if name in VARIANTS else options.released
            written = write_distributions(folder, preset, released, n_examples, n_pairs)
            say(f"{name}: {', '.join(written) or 'all there'}", sys.stderr)

    return guarded(run, f"What was computed is in {options.folder}.")


if __name__ == "__main__":
    sys.exit(main())
