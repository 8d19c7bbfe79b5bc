"""One contender in a process of its own: requests and replies are lines of JSON on its stdin and stdout.

The conductor's side is `Worker` (and `Workers`, one for each contender), the contender's side a `Session` that
`serve_contender` runs: the request {"do": "time", "case": {...}} calls its method `do_time(case=...)`, which
returns the reply.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.harness.records import BenchmarkError
from scrapl_jtfs.commands.provenance import versions

# Not resolved: a trial may reach this package through a link, beside another copy.
_ROOT = Path(__file__).parents[2]


class WorkerError(BenchmarkError):
    """A worker failed, or ended."""


def cores_for(threads: int) -> list[int]:
    """The same cores for every worker: the last ones, since the first serves most interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


class Worker:
    """The process of one contender.

    Args:
        python: the interpreter that has its package.
        module: whose `python -m` serves the contender.
        contender: its name.
        threads: of torch; as many cores are its own.
        environment: variables to set besides.
    """

    def __init__(
        self,
        python: str,
        module: str,
        contender: str,
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.contender = contender
        cores = [str(core) for core in cores_for(threads)]
        # Ours is taken from this tree, whether or not the interpreter has an installed copy.
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        numbers = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [python, "-m", module, contender, "--threads", str(threads), "--cores", *cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, **numbers, **(environment or {}), "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the conductor, which closes them
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the reply.

        Raises:
            WorkerError: the worker says so, or ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerError(f"{self.contender}: no pipes")
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise WorkerError(f"{self.contender}: the worker ended with status {code} (killed for memory if -9)")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.contender}: {reply['error']}")
        return reply

    def close(self) -> None:
        """End it: at the end of its requests it leaves by itself, unless it is stuck or at work."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # what was not sent to one that ended
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Workers:
    """One worker for each contender, started by `start(contender)` when first asked, and closed together."""

    def __init__(self, start: Callable[[str], Worker]) -> None:
        self._start = start
        self._workers: dict[str, Worker] = {}

    def __getitem__(self, contender: str) -> Worker:
        if contender not in self._workers:
            self._workers[contender] = self._start(contender)
        return self._workers[contender]

    def close(self, contenders: Iterable[str] | None = None) -> None:
        """End the workers of some contenders, of all if None."""
        for contender in list(self._workers if contenders is None else contenders):
            if contender in self._workers:
                self._workers.pop(contender).close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Session:
    """The requests for one contender, answered by methods of their names.

    Args:
        name: of the contender.

    Attributes:
        packages: whose versions it tells.
    """

    packages: tuple[str, ...] = ("torch", "numpy")

    def __init__(self, name: str) -> None:
        self.name = name

    def probe(self) -> None:
        """Build the contender in its smallest size, to see that its package is there.

        Raises:
            ImportError: it is not.
        """

    def do_hello(self) -> dict[str, Any]:
        """Tell the versions of the packages, and why the contender cannot take part (None: it can)."""
        missing = None
        try:
            self.probe()
        except ImportError as error:
            missing = str(error)
        return {"versions": versions(self.packages), "missing": missing}

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Reply to one request.

        Raises:
            ValueError: an unknown request.
        """
        arguments = dict(request)
        do = arguments.pop("do", None)
        known = [name.removeprefix("do_") for name in dir(self) if name.startswith("do_")]
        if do not in known:
            raise ValueError(f"Invalid request: {do!r}; expected one of {', '.join(known)}")
        return getattr(self, f"do_{do}")(**arguments)


def serve(session: Session, requests: TextIO, replies: TextIO) -> None:
    """Answer until the requests end; an exception is a reply too."""
    for line in requests:
        try:
            reply = session.handle(json.loads(line))
        except Exception as error:  # the conductor decides what to do about it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def serve_contender(
    session: Callable[[str], Session], contenders: Sequence[str], argv: Sequence[str] | None = None
) -> int:
    """Be the process of one contender: python -m MODULE CONTENDER --threads 1 --cores 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=contenders)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help="run on these only")
    arguments = parser.parse_args(argv)
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, arguments.cores)  # before any thread starts: they inherit it
    torch.set_num_threads(arguments.threads)
    # Packages print; only replies may go where the conductor reads.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(session(arguments.contender), sys.stdin, replies)
    return 0
