"""One contender in a process of its own: requests and replies are lines of JSON on stdin and stdout.

python -m benchmarks.speed.worker scrapl-loss --threads 1 --cores 1

{"do": "hello"}                       -> {"versions": {...}, "missing": null or a reason}
{"do": "paths", "settings": {...}}    -> {"paths": [[n2, n_fr], ...]}
{"do": "time", "case": {...}, "repeat": 3, "warm": true} -> {"seconds": [...]}
{"do": "memory", "case": {...}}       -> {"bytes": ..., "method": ...}
{"do": "answer", "case": {...}, "file": "answer.npz"}    -> {}, arrays in the file
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs.commands.provenance import versions

from .cases import Case, Settings
from .contenders import CONTENDERS, Contender, build, noise, work
from .measure import peak_memory, time_once, wake_libraries

__all__ = ["Session", "main", "serve"]

_PACKAGES = ("torch", "numpy", "scipy", "scrapl-loss", "auraloss")


class Session:
    """Answers requests for one contender; the transform last asked for is kept."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self._key: tuple[Settings, bool] | None = None
        self._contender: Contender | None = None
        self._warm: set[Case] = set()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reply to one request.

        Raises:
            ValueError: an unknown request.
        """
        handlers = {
            "hello": self._hello,
            "paths": self._paths,
            "time": self._time,
            "memory": self._memory,
            "answer": self._answer,
        }
        if request.get("do") not in handlers:
            raise ValueError(f"unknown request {request.get('do')!r}: expected one of {', '.join(handlers)}")
        return handlers[request["do"]](request)

    def _contender_for(self, settings: Settings, whole: bool) -> Contender:
        if self._contender is None or self._key != (settings, whole):
            self._contender = None  # before the next is built: two at once need not fit
            self._warm.clear()
            self._contender, self._key = build(self.name, settings, self.device, whole=whole), (settings, whole)
        return self._contender

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        settings = Settings(2048, 6, (4, 1), 2, 1, 256, 4, (128, 64))
        try:
            build(self.name, settings, self.device)
        except ImportError as error:
            return {"versions": versions(_PACKAGES), "missing": str(error)}
        return {"versions": versions(_PACKAGES), "missing": None}

    def _paths(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"paths": self._contender_for(Settings.from_json(request["settings"]), False).paths}

    def _time(self, request: dict[str, Any]) -> dict[str, Any]:
        case = Case.from_json(request["case"])
        run = work(self._contender_for(case.settings, case.kind == "tree"), case, self.device)
        if request["warm"] and case not in self._warm:
            run()
        self._warm.add(case)
        return {"seconds": [time_once(run, self.device) for _ in range(request["repeat"])]}

    def _memory(self, request: dict[str, Any]) -> dict[str, Any]:
        case = Case.from_json(request["case"])
        wake_libraries()
        run = work(self._contender_for(case.settings, case.kind == "tree"), case, self.device)
        size, method = peak_memory(run, self.device)
        return {"bytes": size, "method": method}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        case = Case.from_json(request["case"])
        contender = self._contender_for(case.settings, case.kind == "tree")
        x = noise("signal", case.batch, case.settings.n_samples, self.device)
        arrays: dict[str, Any] = answers(contender, case, x)
        np.savez(request["file"], **arrays)
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


def serve(session: Session, requests: TextIO, replies: TextIO) -> None:
    """Answer until the requests end; an exception is a reply too."""
    for line in requests:
        try:
            reply = session.handle(json.loads(line))
        except Exception as error:  # the conductor decides what to do about it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.worker")
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
    serve(Session(arguments.contender, torch.device("cpu")), sys.stdin, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
