"""PathAdamSAGA inside the wrappers of pytorch_optimizer, and in the tests that come with its source."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import assert_bitwise, clones, set_grads

pytorch_optimizer: Any = pytest.importorskip(
    "pytorch_optimizer", reason="its tests need it: pip install pytorch_optimizer"
)

ROOT = Path(__file__).parent.parent
FEWEST = 200  # tests that PathAdamSAGA takes part in; 4.1.0 has more


def download(requirement: str, folder: Path) -> Path:
    """Return the source distribution of a package, fetched by pip; skip where there is no way to it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--retries", "1"]
    command += ["--no-binary", requirement.partition("==")[0], "--dest", str(folder), requirement]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()
        pytest.skip(f"the source of {requirement} cannot be downloaded: {said[-1]}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def suite(tmp_path: Path) -> Path:
    """Return the folder of the installed version's tests, kept in the virtual environment once they are there."""
    package = f"pytorch_optimizer-{version('pytorch_optimizer')}"
    home = Path(sys.prefix) / "share" / "sdist" if os.access(sys.prefix, os.W_OK) else tmp_path
    if (home / package / "tests").is_dir():
        return home / package
    with tempfile.TemporaryDirectory() as folder:
        archive = download(package.replace("-", "=="), Path(folder))
        home.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=home) as unpacked:
            members = [member for member in tar if member.name.startswith(f"{package}/tests/")]
            tar.extractall(unpacked, members, filter="data")
            # The name appears with all of the content; whoever was faster, theirs is the same.
            try:
                os.rename(Path(unpacked) / package, home / package)
            except OSError:
                if not (home / package / "tests").is_dir():
                    raise
    return home / package


def test_their_tests_pass_with_ours_in_the_table_and_inside_their_wrappers(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "--tb=short",
        "-p",
        "pytorch_optimizer_adaptor",
    ]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", ".", "tests"]
    command += ["--ignore", "tests/test_docs.py"]  # its subject is outside of the tests
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=suite(tmp_path), env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= FEWEST
    assert "skipped" not in done.stdout


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "TRAC": lambda base: pytorch_optimizer.TRAC(base, s_prev=0.1),
    "Lookahead": lambda base: pytorch_optimizer.Lookahead(base, k=2),
    "Lookahead, reset": lambda base: pytorch_optimizer.Lookahead(base, k=2, pullback_momentum="reset"),
    "Lookahead, pullback": lambda base: pytorch_optimizer.Lookahead(base, k=2, pullback_momentum="pullback"),
    "OrthoGrad": lambda base: pytorch_optimizer.OrthoGrad(base),
    "ScheduleFree": lambda base: pytorch_optimizer.ScheduleFreeWrapper(base),
    "PCGrad": lambda base: pytorch_optimizer.PCGrad(base),
    "Magma": lambda base: pytorch_optimizer.optimizer.Magma(base, mask_prob=1.0),
}


def wrapped(make: Callable[[Any], Any], params: list[Parameter], storage: str) -> tuple[PathAdamSAGA, Any]:
    base = PathAdamSAGA(params, n_paths=3, lr=0.1, storage=storage)
    wrapper = make(base)
    if isinstance(wrapper, pytorch_optimizer.ScheduleFreeWrapper):
        wrapper.train()
    return base, wrapper


def train(base: PathAdamSAGA, wrapper: Any, params: list[Parameter], steps: range) -> None:
    for k in steps:
        set_grads(params, seed=k)
        for p in params:
            p.grad = None if p.grad is None else p.grad.abs()  # TRAC stands still where signs change
        base.set_path(k % 3)
        wrapper.step()


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_resumes_exactly(make: Callable[[Any], Any], storage: str) -> None:
    """The path is announced before the wrapper steps, which keeps things of its own in the optimizer's state."""
    start = [torch.ones(70, 64), torch.ones(5), torch.ones(1)]  # no scalar: TRAC takes none
    params = [Parameter(p.clone()) for p in start]
    base, wrapper = wrapped(make, params, storage)
    train(base, wrapper, params, range(5))
    assert all(not torch.equal(p, before) for p, before in zip(params, start, strict=True))
    copies = [Parameter(p) for p in clones(params)]
    other_base, other = wrapped(make, copies, storage)
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(base, wrapper, params, range(5, 10))
    train(other_base, other, copies, range(5, 10))
    assert_bitwise(copies, params)
    for p, q in zip(params, copies, strict=True):
        assert base.state[p]["step"].tolist() == other_base.state[q]["step"].tolist() == [10, 8, 9]
