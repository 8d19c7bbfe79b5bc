"""The errors that the first training run of the notebooks ends at, with several seeds.

`python -m benchmarks.first_training` (a minute a seed) runs notebooks/first_training.py as a reader would, and
writes benchmarks/results/first_training.json. The learning rate is that of the script, not tuned to it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance

_SCRIPT = Path("notebooks/first_training.py")
_LINE = re.compile(r"step (\d+): error of rate ([0-9.]+), depth ([0-9.]+)")


def run(seed: int, steps: int) -> dict[str, Any]:
    """Run the script; returns its errors on unseen sounds, at every step that it tells, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(_SCRIPT), f"--seed={seed}", f"--steps={steps}", f"--out={folder}"]
        start = time.perf_counter()
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    curve = [[int(step), float(rate), float(depth)] for step, rate, depth in _LINE.findall(said)]
    return {"seed": seed, "seconds": time.perf_counter() - start, "step_rate_depth": curve}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5, help="runs seeds 0 to SEEDS - 1 (default: 5)")
    parser.add_argument("--steps", type=int, default=750, help="of each run (default: 750)")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all seeds."""
    runs = [run(seed, options.steps) for seed in tqdm(range(options.seeds), unit="seed")]
    ends = [found["step_rate_depth"][-1] for found in runs]
    return {
        **provenance(),
        "chance": 0.25,
        "mean_error": {"rate": mean(end[1] for end in ends), "depth": mean(end[2] for end in ends)},
        "largest_error": {"rate": max(end[1] for end in ends), "depth": max(end[2] for end in ends)},
        "runs": runs,
    }


main = Program(
    "benchmarks.first_training",
    "Run notebooks/first_training.py with several seeds.",
    measure,
    lambda results: f"mean error of rate and depth: {results['mean_error']}; by chance {results['chance']}",
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
