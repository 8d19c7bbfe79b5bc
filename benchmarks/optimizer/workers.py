"""The conductor's side of the workers: those of the speed benchmark, asked by other names."""

import os
import subprocess
from pathlib import Path

from ..speed.processes import Worker, cores_for

__all__ = ["OptimizerWorker"]

_ROOT = Path(__file__).parents[2]  # not resolved, as in speed.processes

_RETAINING = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class OptimizerWorker(Worker):
    """One contender's process.

    Args:
        python: the interpreter that has its package.
        contender: its name.
        threads: of torch; as many cores are its own.
        allocator: "default", or "retaining": never hand freed memory back to the system (glibc; others ignore it).
    """

    def __init__(self, python: str, contender: str, threads: int = 1, allocator: str = "default") -> None:
        self.contender = contender
        cores = [str(core) for core in cores_for(threads)]
        module = f"{__package__}.worker"
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if allocator == "retaining":
            environment |= _RETAINING
        # Ours is taken from this tree, whether or not the interpreter has an installed copy.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [python, "-m", module, contender, "--threads", str(threads), "--cores", *cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the conductor, which closes them
        )
