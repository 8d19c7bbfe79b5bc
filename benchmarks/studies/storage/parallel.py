"""Several runs at a time, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Job", "RunError", "run_jobs"]

_ROOT = Path(__file__).parents[3]
_LAST_LINES = 15


class Job(NamedTuple):
    """One arm, one seed, and how many epochs are left."""

    arm: str
    seed: int
    epochs: int


class RunError(RuntimeError):
    """A run failed; what it had finished is kept."""


@contextmanager
def _process(job: Job, folder: Path, is_quick: bool) -> Iterator[subprocess.Popen[str]]:
    """The process of a run; killed on the way out if it still runs, which its checkpoint survives."""
    command = [sys.executable, "-m", f"{__package__}.worker", job.arm, "--seed", str(job.seed)]
    command += ["--out", str(folder.resolve()), *(["--quick"] if is_quick else [])]
    log = folder / f"seed{job.seed}" / f"{job.arm}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the program that started it
        )
    try:
        yield process
        if process.wait():
            lines = log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]
            raise RunError(
                f"{job.arm}, seed {job.seed} ended with status {process.returncode}; the same command goes on "
                f"from its last epoch. Its last words, in full in {log}:\n" + "\n".join(lines)
            )
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    on_epoch: Callable[[Job, dict[str, Any]], object],
    *,
    n_parallel: int = 2,
    is_quick: bool = False,
) -> None:
    """Run all jobs, `n_parallel` at a time; `on_epoch` is called from their threads.

    Raises:
        RunError: a run failed; the others are stopped.
        KeyboardInterrupt: they are stopped, too.
    """
    running: set[subprocess.Popen[str]] = set()
    stopped = False

    def work(job: Job) -> None:
        if stopped:
            return
        with _process(job, folder, is_quick) as process:
            running.add(process)
            if stopped:  # since the test above
                process.kill()
            try:
                for line in process.stdout or ():
                    on_epoch(job, json.loads(line))
            finally:
                running.discard(process)

    with ThreadPoolExecutor(n_parallel) as threads:
        futures = [threads.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stopped = True
            for future in futures:
                future.cancel()
            for process in list(running):
                process.kill()
