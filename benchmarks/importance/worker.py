"""One contender in a process of its own: requests and replies are lines of JSON on stdin and stdout.

python -m benchmarks.importance.worker ours --cores 1

{"do": "hello"}                                          -> {"versions": {...}}
{"do": "build", "scale": {...}, "spectrogram": "x.npy", "options": {...}} -> {"n_paths": P}
{"do": "values", "paths": [...], "options": {...}}       -> {"values": {...}, "seconds": s, "cpu": s}
{"do": "crossed", "paths": [...], "options": {...}}      -> the same; scrapl-loss's process alone
{"do": "release"}                                        -> {}; forgets the problem
{"do": "pieces", "path": p, "options": {...}}            -> {"pieces": {...}}; ours takes "paths": [...]
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from scrapl_jtfs.commands.provenance import versions

from ..speed.worker import serve
from .contenders import Ours, Peer, Values
from .problem import scale_from_json

__all__ = ["CONTENDERS", "Session", "main"]

CONTENDERS = ("ours", "scrapl-loss")
_PACKAGES = ("torch", "numpy", "scrapl-loss")


class Session:
    """Answers requests for one contender; the problem last built is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._built: Any = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reply to one request.

        Raises:
            ValueError: an unknown request.
        """
        do = request.get("do")
        if do == "hello":
            return {"versions": versions(_PACKAGES)}
        if do == "release":
            self._built = None
            return {}
        if do == "build":
            return self._build(request)
        if self._built is None or do not in ("values", "crossed", "pieces"):
            raise ValueError(f"request {do!r} before a problem was built, or unknown")
        if do == "pieces":
            chosen = request["paths"] if self.name == "ours" else request["path"]
            return {"pieces": self._built.pieces(chosen, **request.get("options", {}))}
        method = getattr(self._built, do)
        started, cpu = time.perf_counter(), time.process_time()
        found: Values = method(request["paths"], **request.get("options", {}))
        return {
            "values": asdict(found),
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - cpu,
        }

    def _build(self, request: dict[str, Any]) -> dict[str, Any]:
        self._built = None  # before the next is built: two at once need not fit
        scale = scale_from_json(request["scale"])
        spectrogram = torch.from_numpy(np.load(request["spectrogram"]))
        kind = Ours if self.name == "ours" else Peer
        self._built = kind(scale, spectrogram, **request.get("options", {}))
        return {"n_paths": self._built.n_paths}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.importance.worker")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help="run on these only")
    arguments = parser.parse_args(argv)
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, arguments.cores)  # before any thread starts: they inherit it
    torch.set_num_threads(1)
    # Packages print; only replies may go where the conductor reads.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    session: Any = Session(arguments.contender)  # serve asks a session for nothing but handle
    serve(session, sys.stdin, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
