"""Kills processes while they save: run by test_checkpoint.py, in a process of its own because it forks.

python tests/support/checkpoint_killer.py FOLDER   prints what happened as JSON
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint

N_KILLS = 40
N_SAVES = 12


def save(path: Path, number: int) -> None:
    """A state in which every entry tells the same number: a mixture would show."""
    save_checkpoint({"number": number, "tensor": torch.full((1_000_000,), float(number))}, path)


def load(path: Path) -> int:
    """The number of a whole checkpoint."""
    state = load_checkpoint(path)
    if not bool((state["tensor"] == state["number"]).all()) or state["tensor"].shape != (1_000_000,):
        raise RuntimeError(f"{path} holds a mixture of saves around number {state['number']}")
    return state["number"]


def partials(path: Path) -> list[Path]:
    return [file for file in path.parent.iterdir() if file.name != path.name]


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child does `work` and ends with status 0, or 1 after an exception."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def kill_savers(path: Path, rng: random.Random) -> dict[str, int]:
    """A child saves ever higher numbers, and is killed; the next one goes on from what is there."""
    save(path, 0)
    begin = time.perf_counter()
    save(path, 0)
    one_save = time.perf_counter() - begin
    report = {"killed": 0, "while_saving": 0, "went_back": 0, "most_partials": 0}
    number = 0

    def work() -> None:
        for next_number in range(load(path) + 1, 10**9):
            save(path, next_number)

    for _ in range(N_KILLS):
        child = in_child(work)
        time.sleep(rng.uniform(0.0, 4 * one_save))
        os.kill(child, signal.SIGKILL)
        report["killed"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        left = len(partials(path))
        report["while_saving"] += left > 0
        report["most_partials"] = max(left, report["most_partials"])
        report["went_back"] += load(path) < number
        number = load(path)
    save(path, number + 1)
    return {**report, "last": load(path), "expected": number + 1, "left_over": len(partials(path))}


def save_from_two(path: Path) -> dict[str, int]:
    """Two children save to one path while the parent reads it."""
    save(path, 0)

    def work(first: int) -> None:
        for number in range(first, first + N_SAVES):
            save(path, number)

    waiting = {in_child(partial(work, first)) for first in (100, 200)}
    statuses, reads = [], 0
    while waiting:
        load(path)
        reads += 1
        for child in list(waiting):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                waiting.remove(child)
                statuses.append(os.waitstatus_to_exitcode(status))
    report = {"failed": sum(status != 0 for status in statuses), "reads": reads}
    return {**report, "last": load(path), "left_over": len(partials(path))}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    for name in ("killed", "two"):
        (folder / name).mkdir()
    killed = kill_savers(folder / "killed" / "checkpoint.pt", rng)
    two = save_from_two(folder / "two" / "checkpoint.pt")
    json.dump({"killed": killed, "two": two}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
