"""What the first training run of the notebooks ends at, with several seeds.

`python -m benchmarks.first_training` (a minute a seed) runs notebooks/first_training.py as a reader would, and
writes benchmarks/results/first_training.json. The learning rate is that of the script, not tuned to it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from tqdm import tqdm

from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

__all__ = ["main"]

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all seeds and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first_training.json"))
    options = parser.parse_args(arguments)
    runs = [run(seed, options.steps) for seed in tqdm(range(options.seeds), unit="seed")]
    ends = [found["step_rate_depth"][-1] for found in runs]
    results = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(torch.device("cpu")),
        "versions": versions(["torch", "numpy", "scrapl-jtfs"]),
        "chance": 0.25,
        "mean_error": {"rate": mean(end[1] for end in ends), "depth": mean(end[2] for end in ends)},
        "largest_error": {"rate": max(end[1] for end in ends), "depth": max(end[2] for end in ends)},
        "runs": runs,
    }
    write_text(options.out, json.dumps(results, indent=1) + "\n")
    print(f"mean error of rate and depth after {options.steps} steps: {results['mean_error']}; by chance 0.25")
    return 0


if __name__ == "__main__":
    sys.exit(main())
