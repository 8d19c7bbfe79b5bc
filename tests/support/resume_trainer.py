"""A small training run that resumes exactly: run by test_resume_after_kill.py, in processes of its own.

python tests/support/resume_trainer.py FOLDER whole  STORAGE...  trains to the end without interruption
python tests/support/resume_trainer.py FOLDER killed STORAGE...  kills it again and again; prints a JSON report
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint

N_PATHS = 12
N_STEPS = 200
SAVE_EVERY = 5
N_KILLS = 8
MOST_KILLS = 30
N_BALLAST = 500_000  # makes saving slow enough to be hit


class Run:
    """Everything that the next step depends on, and how to save it."""

    def __init__(self, storage: str) -> None:
        torch.manual_seed(0)  # initial weights, then dropout
        self.model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Dropout(0.5), nn.Linear(96, N_PATHS))
        self.optimizer = PathAdamSAGA(self.model.parameters(), n_paths=N_PATHS, lr=3e-3, storage=storage)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.99)
        self.sampler = PathSampler(n_paths=N_PATHS, seed=5)
        self.n_steps = 0

    def step(self) -> None:
        generator = torch.Generator().manual_seed(self.n_steps)  # data: a pure function of the step
        x = torch.randn(16, 64, generator=generator)
        path = int(self.sampler(self.n_steps))
        self.optimizer.set_path(path)
        loss = (self.model(x)[:, path] - x[:, path].sin()).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.n_steps += 1

    def save(self, path: Path) -> None:
        state = {
            "n_steps": self.n_steps,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "ballast": torch.full((N_BALLAST,), float(self.n_steps)),
        }
        save_checkpoint(state, path)

    def load(self, path: Path) -> None:
        state = load_checkpoint(path)
        self.n_steps = state["n_steps"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"])
        if not bool((state["ballast"] == self.n_steps).all()):
            raise RuntimeError(f"{path} holds a mixture of saves around step {self.n_steps}")


def train(storage: str, path: Path, saves: mmap.mmap) -> None:
    """Go on to the last step from where the checkpoint stands; `saves` counts those begun and those done."""
    run = Run(storage)
    if path.exists():
        run.load(path)
    while run.n_steps < N_STEPS:
        run.step()
        if run.n_steps % SAVE_EVERY == 0:
            saves[0] += 1
            run.save(path)
            saves[1] += 1


def start(storage: str, path: Path, saves: mmap.mmap) -> int:
    """Train in a child, which is a process like a fresh one: this one never used torch's random state."""
    saves[0] = saves[1] = 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(storage, path, saves)
            status = 0
        finally:
            os._exit(status)
    return child


def duration_of_a_save(folder: Path) -> float:
    state = {"ballast": torch.zeros(N_BALLAST)}
    save_checkpoint(state, folder / "trial.pt")
    begin = time.perf_counter()
    save_checkpoint(state, folder / "trial.pt")
    return time.perf_counter() - begin


def kill_and_resume(storage: str, folder: Path, rng: random.Random) -> dict[str, int]:
    """Kill at random moments, half of them during saves, then let the run come to its end.

    A busy machine may delay every kill beyond the save that it was meant for: more are then aimed at the first.
    """
    path = folder / "checkpoint.pt"
    saves = mmap.mmap(-1, 2)
    one_save = duration_of_a_save(folder.parent)
    report = {"killed": 0, "while_saving": 0}
    while report["killed"] < N_KILLS or (not report["while_saving"] and report["killed"] < MOST_KILLS):
        child = start(storage, path, saves)
        if report["killed"] < N_KILLS:
            counted, longest = rng.choice([(0, 1.5 * one_save), (1, 0.01)])  # from the start or the end of a save
            n_saves = rng.randint(1, 3)
        else:
            counted, longest, n_saves = 0, one_save, 1
        delay = rng.uniform(0.0, longest)
        while saves[counted] < n_saves:
            if os.waitpid(child, os.WNOHANG)[0]:
                raise RuntimeError(f"the run with storage {storage} ended before it was killed")
            time.sleep(2e-4)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        report["killed"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        report["while_saving"] += len(list(folder.glob(".checkpoint.part-*"))) > 0
    status = os.waitstatus_to_exitcode(os.waitpid(start(storage, path, saves), 0)[1])
    return {**report, "status": status, "files": len(list(folder.iterdir()))}


def main(folder: Path, mode: str, storages: list[str]) -> None:
    torch.set_num_threads(1)
    importlib.import_module("torch._dynamo")  # the first optimizer would: once here, not in each child
    rng = random.Random(0)
    report = {}
    for storage in storages:
        place = folder / f"{mode}-{storage}"
        place.mkdir()
        if mode == "whole":
            train(storage, place / "checkpoint.pt", mmap.mmap(-1, 2))
        else:
            report[storage] = kill_and_resume(storage, place, rng)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
