"""The process of one contender: its work on a case timed, weighed and answered.

{"do": "paths", "settings": {...}}                          -> {"paths": [[n2, n_fr], ...]}
{"do": "time", "case": {...}, "repeat": 3, "warm": true}    -> {"seconds": [...]}
{"do": "memory", "case": {...}}                             -> {"bytes": ..., "method": ...}
{"do": "dispatches", "case": {...}}                         -> {"launches": ..., "views": ..., "bytes": ..., ...}
{"do": "answer", "case": {...}, "file": "answer.npz"}       -> {}, arrays in the file
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.dispatches import count_dispatches
from benchmarks.harness.measure import peak_memory, time_once, wake_libraries
from benchmarks.harness.worker import Session, serve_contender
from benchmarks.speed.cases import Case, Settings
from benchmarks.speed.contenders import CONTENDERS, Contender, build, noise, work

_CPU = torch.device("cpu")


class SpeedSession(Session):
    """The session of one contender; the transform last asked for is kept."""

    packages = ("torch", "numpy", "scipy", "scrapl-loss", "auraloss")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._key: tuple[Settings, bool] | None = None
        self._contender: Contender | None = None
        self._warm: set[Case] = set()

    def probe(self) -> None:
        build(self.name, Settings(2048, 6, (4, 1), 2, 1, 256, 4, (128, 64)), _CPU)

    def _contender_for(self, settings: Settings, whole: bool) -> Contender:
        if self._contender is None or self._key != (settings, whole):
            self._contender = None  # before the next is built: two at once need not fit
            self._warm.clear()
            self._contender, self._key = build(self.name, settings, _CPU, whole=whole), (settings, whole)
        return self._contender

    def _work(self, case: Case) -> Callable[[], Any]:
        return work(self._contender_for(case.settings, case.kind == "tree"), case, _CPU)

    def _construction(self, case: Case) -> Callable[[], Any]:
        return lambda: build(self.name, case.settings, _CPU, whole=True)

    def do_paths(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {"paths": self._contender_for(Settings.from_json(settings), False).paths}

    def do_time(self, case: dict[str, Any], repeat: int, warm: bool) -> dict[str, Any]:
        todo = Case.from_json(case)
        run = self._construction(todo) if todo.kind == "construction" else self._work(todo)
        if warm and todo not in self._warm:
            run()
        self._warm.add(todo)
        return {"seconds": [time_once(run, _CPU) for _ in range(repeat)]}

    def do_memory(self, case: dict[str, Any]) -> dict[str, Any]:
        todo = Case.from_json(case)
        wake_libraries()
        size, method = peak_memory(self._work(todo), _CPU)
        return {"bytes": size, "method": method}

    def do_dispatches(self, case: dict[str, Any]) -> dict[str, Any]:
        todo = Case.from_json(case)
        return count_dispatches(self._work(todo))

    def do_answer(self, case: dict[str, Any], file: str) -> dict[str, Any]:
        todo = Case.from_json(case)
        contender = self._contender_for(todo.settings, todo.kind == "tree")
        arrays: dict[str, Any] = answers(
            contender, todo, noise("signal", todo.batch, todo.settings.n_samples, _CPU)
        )
        np.savez(file, **arrays)
        return {}


def answers(contender: Contender, case: Case, x: Tensor) -> dict[str, np.ndarray]:
    """Coefficients of the tree; or of each path, with the gradient and a Hessian product of their energy."""
    if case.kind == "tree":
        with torch.no_grad():
            found = contender.tree(x)
        return {f"coefficients {n}": s.reshape(len(x), *s.shape[-2:]).cpu().numpy() for n, s in found.items()}
    direction = noise("direction", case.batch, case.settings.n_samples, x.device)
    arrays = {}
    for path in case.paths:
        x = x.detach().requires_grad_()
        coefficients = contender.coefficients(x, path)
        energy = coefficients.square().sum()
        (gradient,) = torch.autograd.grad(energy, x, create_graph=case.kind == "hvp")
        arrays[f"coefficients {path}"] = coefficients
        arrays[f"gradient {path}"] = gradient
        if case.kind == "hvp":
            arrays[f"product {path}"] = torch.autograd.grad((gradient * direction).sum(), x)[0]
        arrays = {name: array.detach() for name, array in arrays.items()}  # lets go of the graph
    return {name: array.cpu().numpy() for name, array in arrays.items()}


if __name__ == "__main__":
    sys.exit(serve_contender(SpeedSession, CONTENDERS))
