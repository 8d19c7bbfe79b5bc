"""The conductor's side of the workers: those of the speed benchmark, asked by other names."""

import os
import subprocess
from pathlib import Path

from ..speed.processes import Worker, cores_for

__all__ = ["ImportanceWorker"]

_ROOT = Path(__file__).parents[2]  # not resolved, as in speed.processes


class ImportanceWorker(Worker):
    """One contender's process.

    Args:
        python: the interpreter that has its package.
        contender: its name.
    """

    def __init__(self, python: str, contender: str) -> None:
        self.contender = contender
        cores = [str(core) for core in cores_for(1)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LOGLEVEL": "ERROR"}
        # Ours is taken from this tree, whether or not the interpreter has an installed copy.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [python, "-m", f"{__package__}.worker", contender, "--cores", *cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the conductor, which closes them
        )
