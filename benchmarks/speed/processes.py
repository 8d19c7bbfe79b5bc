"""The conductor's side of the workers: start them, ask them, one at a time."""

import json
import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Worker", "WorkerError", "Workers", "cores_for"]

_ROOT = Path(__file__).parents[
    2
]  # not resolved: a trial may reach this package through a link, beside another copy


class WorkerError(RuntimeError):
    """A worker failed, or ended."""


def cores_for(threads: int) -> list[int]:
    """The same cores for every worker: the last ones, since the first serves most interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


class Worker:
    """One contender's process.

    Args:
        python: the interpreter that has its package.
        contender: its name.
        threads: of torch; as many cores are its own.
    """

    def __init__(self, python: str, contender: str, threads: int = 1) -> None:
        self.contender = contender
        cores = [str(core) for core in cores_for(threads)]
        command = [python, "-m", f"{__package__}.worker", contender, "--threads", str(threads), "--cores", *cores]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        # Ours is taken from this tree, whether or not the interpreter has an installed copy.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
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

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Workers:
    """One worker for each contender, started when first asked and closed together."""

    def __init__(self, python: str, threads: int) -> None:
        self.python, self.threads = python, threads
        self._workers: dict[str, Worker] = {}

    def __getitem__(self, contender: str) -> Worker:
        if contender not in self._workers:
            self._workers[contender] = Worker(self.python, contender, self.threads)
        return self._workers[contender]

    def close(self, contenders: Iterable[str] | None = None) -> None:
        for contender in list(self._workers if contenders is None else contenders):
            if contender in self._workers:
                self._workers.pop(contender).close()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
