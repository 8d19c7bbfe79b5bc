"""One run in a process of its own, on one thread: a line of JSON on stdout for each epoch.

python -m benchmarks.studies.storage.worker int8 --seed 0 --out runs/storage [--quick]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.sound_matching.train import EpochRecord, Experiment
from benchmarks.studies.storage.arms import ARMS, PRESET, QUICK
from benchmarks.studies.storage.runs import run_arm

__all__ = ["main"]


def tell(record: EpochRecord) -> None:
    print(json.dumps(record), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.storage.worker", description=__doc__)
    parser.add_argument("arm", choices=list(ARMS))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    experiment = Experiment(QUICK if arguments.quick else PRESET, arguments.seed)
    run_arm(experiment, ARMS[arguments.arm], arguments.out, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
