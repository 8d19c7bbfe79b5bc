"""The process of one contender: its steps timed, its state weighed, its drift followed.

{"do": "answers"}                                      -> {"answers": [...]}
{"do": "build", "model": "3M", "n_paths": 315, ...}    -> {"drawable": ..., "row_bytes": ...}
{"do": "first", "seconds": 1.0}                        -> {"seconds": [...], "left": ...}, first visits of paths
{"do": "steps", "turn": {...}}                         -> {"seconds": [...]}, visits of paths drawn before
{"do": "state", "model": ..., "drawn": [0, 1, 10]}     -> {"bytes": [...]}
{"do": "peak", "model": ..., "earlier_steps": 0}       -> {"bytes": ..., "method": ...}
{"do": "drift", "n_paths": 16, "path_adam": true, "steps": 10000} -> {"steps": ..., "sum": ..., "mean": ...}
"""

from __future__ import annotations

import gc
import sys
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.measure import peak_memory, return_freed_memory, time_once, wake_libraries
from benchmarks.harness.worker import Session, serve_contender
from benchmarks.optimizer.answers import check_ours, check_peer
from benchmarks.optimizer.contenders import CONTENDERS, OURS, PEER, Contender, ScraplLoss, build, unique_bytes
from benchmarks.optimizer.drift import DriftRun
from benchmarks.optimizer.models import MODELS, make_parameters
from benchmarks.optimizer.plan import Turn

_CPU = torch.device("cpu")
_EVICTED_BYTES = 2**27  # four times the last-level cache of most machines


class OptimizerSession(Session):
    """The session of one contender; the parameters and state last asked for are kept."""

    packages = ("torch", "numpy", "scrapl-loss")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._contender: Contender | None = None
        self._drawn, self._drawable, self._next = 0, 0, 0
        self._drift: tuple[tuple[int, bool], DriftRun] | None = None
        self._sweep: Tensor | None = None

    def probe(self) -> None:
        build(self.name, make_parameters([(2,)]), 2)

    def do_answers(self) -> dict[str, Any]:
        checks = {PEER: check_peer, **dict.fromkeys(OURS, check_ours)}
        return {"answers": [asdict(answer) for answer in checks[self.name]()]}

    def _make(self, model: str, n_paths: int) -> Contender:
        self._contender = None  # before the next is built: two at once need not fit
        gc.collect()
        return_freed_memory()
        return build(self.name, make_parameters(MODELS[model].shapes()), n_paths)

    def do_build(self, model: str, n_paths: int, row_budget: int) -> dict[str, Any]:
        """Build, draw two paths, and tell from the second how many fit in the bytes given for rows."""
        contender = self._make(model, n_paths)
        if isinstance(contender, ScraplLoss):
            contender.draw_all()
        row_bytes, self._drawn = 0, min(2, n_paths)
        for path in range(self._drawn):
            before = unique_bytes(contender.state())
            _visit(contender, path)
            row_bytes = unique_bytes(contender.state()) - before
        lazy = self.name in OURS and row_bytes > 0 and n_paths > 1
        self._drawable = max(2, min(n_paths, row_budget // row_bytes)) if lazy else n_paths
        if not lazy:  # all was allocated before or at the first step
            self._drawn = n_paths
        self._contender, self._next = contender, 0
        return {"drawable": self._drawable, "row_bytes": row_bytes if lazy else 0}

    def _built(self) -> Contender:
        if self._contender is None:
            raise ValueError("nothing was built: ask for build first")
        return self._contender

    def do_first(self, seconds: float) -> dict[str, Any]:
        contender, found = self._built(), []
        while self._drawn < self._drawable and sum(found) < seconds:
            found.append(_visit(contender, self._drawn))
            self._drawn += 1
        return {"seconds": found, "left": self._drawable - self._drawn}

    def do_steps(self, turn: dict[str, Any]) -> dict[str, Any]:
        """Cycle through the paths drawn before: between two visits of a row come all the others."""
        contender, wanted, seconds = self._built(), Turn(**turn), []
        if self._drawn < self._drawable:
            raise ValueError(f"{self._drawable - self._drawn} paths were not drawn yet: ask for first visits")
        for _ in range(wanted.warm):
            self._cycle(contender, wanted.evict)
        while len(seconds) < wanted.at_least or (sum(seconds) < wanted.seconds and len(seconds) < wanted.at_most):
            seconds.append(self._cycle(contender, wanted.evict))
        return {"seconds": seconds}

    def _cycle(self, contender: Contender, evict: bool) -> float:
        path, self._next = self._next, (self._next + 1) % self._drawable
        contender.prepare(path)
        if evict:
            if self._sweep is None:
                self._sweep = torch.zeros(_EVICTED_BYTES // 4)
            self._sweep.add_(1)
        return time_once(lambda: contender.step(path), _CPU)

    def do_state(self, model: str, n_paths: int, drawn: list[int]) -> dict[str, Any]:
        contender, sizes, visited = self._make(model, n_paths), [], 0
        for wanted in drawn:
            for path in range(visited, wanted):
                _visit(contender, path)
            visited = max(visited, wanted)
            sizes.append(unique_bytes(contender.state()))
        return {"bytes": sizes}

    def do_peak(self, model: str, n_paths: int, earlier_steps: int) -> dict[str, Any]:
        """Peak of the step after some earlier ones, all of path 0: those allocate the state, this one does not."""
        wake_libraries()
        torch.optim.Adam(make_parameters([(2,)]), foreach=True).step()  # what any optimizer imports at first
        contender = self._make(model, n_paths)
        for _ in range(earlier_steps):
            _visit(contender, 0)
        contender.prepare(0)
        size, method = peak_memory(lambda: contender.step(0), _CPU)
        return {"bytes": size, "method": method}

    def do_drift(self, n_paths: int, path_adam: bool, steps: int) -> dict[str, Any]:
        key = n_paths, path_adam
        if self._drift is None or self._drift[0] != key:
            self._drift = key, DriftRun(*key)
        return asdict(self._drift[1].advance(steps))


def _visit(contender: Contender, path: int) -> float:
    contender.prepare(path)
    return time_once(lambda: contender.step(path), _CPU)


if __name__ == "__main__":
    sys.exit(serve_contender(OptimizerSession, CONTENDERS))
