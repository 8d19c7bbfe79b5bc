"""Runs that are killed again and again end where an uninterrupted one ends, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scrapl_optim.checkpoint import load_checkpoint
from scrapl_optim.experimental import host_rows
from tests.support.same_content import assert_same_content

ROOT = Path(__file__).parent.parent
STORAGES = ("float32", "bfloat16", "int8", host_rows("int8"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def run_script(folder: Path, mode: str, hash_seed: int) -> dict[str, dict[str, int]]:
    """In a process of its own, whose Python hashes strings in its own way."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": str(hash_seed),
    }
    command = [sys.executable, str(ROOT / "tests" / "support" / "resume_trainer.py"), str(folder), mode, *STORAGES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    run_script(folder, "whole", hash_seed=1)
    report = run_script(folder, "killed", hash_seed=2)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.mark.parametrize("storage", STORAGES)
def test_a_run_killed_at_random_ends_where_an_uninterrupted_one_ends(folder: Path, storage: str) -> None:
    whole, killed = (
        load_checkpoint(folder / f"{mode}-{storage}" / "checkpoint.pt") for mode in ("whole", "killed")
    )
    assert whole["n_steps"] == killed["n_steps"] == 200
    assert_same_content(killed, whole, ordered=False)
    visits = whole["optimizer"]["state"][0]["step"]
    assert int(visits.max()) == 200
    assert int((visits > 0).sum()) == 12  # every path was drawn


@pytest.mark.parametrize("storage", STORAGES)
def test_kills_hit_steps_and_saves(folder: Path, storage: str) -> None:
    """Otherwise the test above would prove little."""
    report = json.loads((folder / "report.json").read_text())[storage]
    assert report["killed"] >= 8
    assert report["while_saving"] >= 1
    assert report["status"] == 0
    assert report["files"] == 1  # what killed saves left behind is gone


def test_storages_make_runs_of_their_own(folder: Path) -> None:
    """Bit for bit is not a matter of course: the policies round differently."""
    weights = {
        name: load_checkpoint(folder / f"whole-{name}" / "checkpoint.pt")["model"]["0.weight"] for name in STORAGES
    }
    assert not torch.equal(weights["float32"], weights["bfloat16"])
    assert not torch.equal(weights["bfloat16"], weights["int8"])
    assert torch.equal(weights["int8"], weights["int8-host"])
    with pytest.raises(AssertionError, match=r"it\['a'\]"):
        assert_same_content({"a": torch.zeros(2)}, {"a": torch.tensor([0.0, -0.0])})
