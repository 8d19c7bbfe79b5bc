"""The process of one contender: values of a problem's paths, and how long they took.

{"do": "build", "scale": {...}, "spectrogram": "x.npy", "options": {...}} -> {"n_paths": P}
{"do": "values", "paths": [...], "options": {...}}       -> {"values": {...}, "seconds": s, "cpu": s}
{"do": "crossed", "paths": [...], "options": {...}}      -> the same; scrapl-loss's process alone
{"do": "pieces", "paths": [...], "options": {...}}       -> {"pieces": {...}}
{"do": "release"}                                        -> {}; forgets the problem
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.harness.files import tuples
from benchmarks.harness.worker import Session, serve_contender
from benchmarks.importance.contenders import CONTENDERS, PEER, TRANSFORMS, Ours, Peer, Values
from benchmarks.importance.problem import Scale


class ImportanceSession(Session):
    """The session of one contender; the problem last built is kept."""

    packages = ("torch", "numpy", "scrapl-loss")
    _problem: Any = None

    def probe(self) -> None:
        if self.name == PEER:
            importlib.import_module("scrapl")

    def do_build(
        self, scale: dict[str, Any], spectrogram: str, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        self._problem = None  # before the next is built: two at once need not fit
        problem, audio = Scale(**tuples(scale)), torch.from_numpy(np.load(spectrogram))
        if self.name == PEER:
            self._problem = Peer(problem, audio, **(options or {}))
        else:
            self._problem = Ours(problem, audio, **{"transform": TRANSFORMS[self.name], **(options or {})})
        return {"n_paths": self._problem.n_paths}

    def do_release(self) -> dict[str, Any]:
        self._problem = None
        return {}

    def do_values(self, paths: list[int], options: dict[str, Any] | None = None) -> dict[str, Any]:
        return _timed(lambda: self._built().values(paths, **(options or {})))

    def do_crossed(self, paths: list[int], options: dict[str, Any] | None = None) -> dict[str, Any]:
        return _timed(lambda: self._built().crossed(paths, **(options or {})))

    def do_pieces(self, paths: list[int], options: dict[str, Any]) -> dict[str, Any]:
        return {"pieces": self._built().pieces(paths, **options)}

    def _built(self) -> Any:
        if self._problem is None:
            raise ValueError("nothing was built: ask for build first")
        return self._problem


def _timed(run: Callable[[], Values]) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    values = run()
    return {
        "values": asdict(values),
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    sys.exit(serve_contender(ImportanceSession, CONTENDERS))
