"""One contender in a process of its own: requests and replies are lines of JSON on stdin and stdout.

python -m benchmarks.optimizer.worker float32 --threads 1 --cores 1

{"do": "hello"}                                        -> {"versions": {...}, "missing": null or a reason}
{"do": "answers"}                                      -> {"answers": [...]}
{"do": "build", "model": "3M", "n_paths": 315, ...}    -> {"drawable": ..., "row_bytes": ...}
{"do": "first", "seconds": 1.0}                        -> {"seconds": [...], "left": ...}, first visits of paths
{"do": "steps", "turn": {...}}                         -> {"seconds": [...]}, visits of paths drawn before
{"do": "state", "model": ..., "drawn": [0, 1, 10]}     -> {"bytes": [...]}
{"do": "peak", "model": ..., "earlier_steps": 0}       -> {"bytes": ..., "method": ...}
{"do": "drift", "n_paths": 16, "path_adam": true, "steps": 10000} -> {"steps": ..., "sum": ..., "mean": ...}
"""

import argparse
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from scrapl_jtfs.commands.provenance import versions

from ..speed.measure import peak_memory, time_once, wake_libraries
from ..speed.worker import serve
from .answers import check_ours, check_peer
from .contenders import CONTENDERS, OURS, PEER, Contender, ScraplLoss, build, unique_bytes
from .drift import DriftRun
from .models import MODELS, make_parameters
from .plan import Turn

__all__ = ["Session", "main"]

_PACKAGES = ("torch", "numpy", "scrapl-loss")
_CPU = torch.device("cpu")
_EVICTED_BYTES = 2**27  # four times the last-level cache of most machines


class Session:
    """Answers requests for one contender; the parameters and state last asked for are kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._contender: Contender | None = None
        self._drawn, self._drawable, self._next = 0, 0, 0
        self._drift: tuple[tuple[int, bool], DriftRun] | None = None
        self._sweep: Tensor | None = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reply to one request.

        Raises:
            ValueError: an unknown request, or one that needs a build before.
        """
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "answers": self._answers,
            "build": self._build,
            "first": self._first,
            "steps": self._steps,
            "state": self._state,
            "peak": self._peak,
            "drift": self._advance,
        }
        if request.get("do") not in handlers:
            raise ValueError(f"unknown request {request.get('do')!r}: expected one of {', '.join(handlers)}")
        return handlers[request["do"]](request)

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            build(self.name, make_parameters([(2,)]), 2)
        except ImportError as error:
            return {"versions": versions(_PACKAGES), "missing": str(error)}
        return {"versions": versions(_PACKAGES), "missing": None}

    def _answers(self, request: dict[str, Any]) -> dict[str, Any]:
        checks = {PEER: check_peer, **dict.fromkeys(OURS, check_ours)}
        return {"answers": [asdict(answer) for answer in checks[self.name]()]}

    def _make(self, request: dict[str, Any]) -> Contender:
        self._contender = None  # before the next is built: two at once need not fit
        gc.collect()
        return_freed_memory()
        return build(self.name, make_parameters(MODELS[request["model"]].shapes()), request["n_paths"])

    def _build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build, draw two paths, and tell from the second how many fit in the bytes given for rows."""
        contender, n_paths = self._make(request), request["n_paths"]
        if isinstance(contender, ScraplLoss):
            contender.draw_all()
        row_bytes, self._drawn = 0, min(2, n_paths)
        for path in range(self._drawn):
            before = unique_bytes(contender.state())
            _visit(contender, path)
            row_bytes = unique_bytes(contender.state()) - before
        lazy = self.name in OURS and row_bytes > 0 and n_paths > 1
        self._drawable = max(2, min(n_paths, request["row_budget"] // row_bytes)) if lazy else n_paths
        if not lazy:  # all was allocated before or at the first step
            self._drawn = n_paths
        self._contender, self._next = contender, 0
        return {"drawable": self._drawable, "row_bytes": row_bytes if lazy else 0}

    def _built(self) -> Contender:
        if self._contender is None:
            raise ValueError("nothing was built: ask for build first")
        return self._contender

    def _first(self, request: dict[str, Any]) -> dict[str, Any]:
        contender, seconds = self._built(), []
        while self._drawn < self._drawable and sum(seconds) < request["seconds"]:
            seconds.append(_visit(contender, self._drawn))
            self._drawn += 1
        return {"seconds": seconds, "left": self._drawable - self._drawn}

    def _steps(self, request: dict[str, Any]) -> dict[str, Any]:
        """Cycle through the paths drawn before: between two visits of a row come all the others."""
        contender, turn, seconds = self._built(), Turn(**request["turn"]), []
        if self._drawn < self._drawable:
            raise ValueError(f"{self._drawable - self._drawn} paths were not drawn yet: ask for first visits")
        for _ in range(turn.warm):
            self._cycle(contender, turn.evict)
        while len(seconds) < turn.at_least or (sum(seconds) < turn.seconds and len(seconds) < turn.at_most):
            seconds.append(self._cycle(contender, turn.evict))
        return {"seconds": seconds}

    def _cycle(self, contender: Contender, evict: bool) -> float:
        path, self._next = self._next, (self._next + 1) % self._drawable
        contender.prepare(path)
        if evict:
            if self._sweep is None:
                self._sweep = torch.zeros(_EVICTED_BYTES // 4)
            self._sweep.add_(1)
        return time_once(lambda: contender.step(path), _CPU)

    def _state(self, request: dict[str, Any]) -> dict[str, Any]:
        contender, sizes, drawn = self._make(request), [], 0
        for wanted in request["drawn"]:
            for path in range(drawn, wanted):
                _visit(contender, path)
            drawn = max(drawn, wanted)
            sizes.append(unique_bytes(contender.state()))
        return {"bytes": sizes}

    def _peak(self, request: dict[str, Any]) -> dict[str, Any]:
        """Peak of the step after some earlier ones, all of path 0: those allocate the state, this one does not."""
        wake_libraries()
        torch.optim.Adam(make_parameters([(2,)]), foreach=True).step()  # what any optimizer imports at first
        contender = self._make(request)
        for _ in range(request["earlier_steps"]):
            _visit(contender, 0)
        contender.prepare(0)
        size, method = peak_memory(lambda: contender.step(0), _CPU)
        return {"bytes": size, "method": method}

    def _advance(self, request: dict[str, Any]) -> dict[str, Any]:
        key = request["n_paths"], request["path_adam"]
        if self._drift is None or self._drift[0] != key:
            self._drift = key, DriftRun(*key)
        return asdict(self._drift[1].advance(request["steps"]))


def _visit(contender: Contender, path: int) -> float:
    contender.prepare(path)
    return time_once(lambda: contender.step(path), _CPU)


def return_freed_memory() -> None:
    """Hand back what the last case freed, else first visits of the next find pages that are there already."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizer.worker")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help="run on these only")
    arguments = parser.parse_args(argv)
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, arguments.cores)  # before any thread starts: they inherit it
    torch.set_num_threads(arguments.threads)
    # Packages print; only replies may go where the conductor reads.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    session: Any = Session(arguments.contender)  # serve asks a session for nothing but handle
    serve(session, sys.stdin, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
