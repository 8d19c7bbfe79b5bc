"""Checkpoints are written whole or not at all, and read back whole or not at all."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrapl_optim import checkpoint
from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from tests.support.same_content import assert_same_content

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and limits as in POSIX")


def small_state() -> dict[str, Any]:
    return {"step": 7, "w": torch.arange(30.0), "names": ["a", 2.5], "nested": {3: (torch.ones(2),)}}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def stale_name(path: Path, number: int = 0) -> Path:
    return path.with_name(f".{path.stem}.part-{number:016x}{path.suffix}")


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    state = small_state()
    dtypes = (torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.int64, torch.complex64, torch.bool)
    state["dtypes"] = [torch.arange(5).to(dtype) for dtype in dtypes]
    path = tmp_path / "new" / "folder" / "checkpoint.pt"
    save_checkpoint(state, path)
    assert_same_content(load_checkpoint(path), state)
    save_checkpoint({"step": 8}, str(path))
    assert load_checkpoint(str(path)) == {"step": 8}
    assert names(path.parent) == ["checkpoint.pt"]


def test_rows_of_zero_stride_take_no_space(tmp_path: Path) -> None:
    """As in the state_dict of PathAdamSAGA: rows of paths never drawn."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"row": torch.zeros(1).expand(1_000_000)}, path)
    assert path.stat().st_size < 10_000
    assert_same_content(load_checkpoint(path)["row"], torch.zeros(1_000_000))


def test_a_save_that_fails_midway_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    real_save = torch.save

    def interrupted(state: object, file: Path) -> None:
        real_save(state, file)
        file.write_bytes(file.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(small_state(), path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["checkpoint.pt"]


def test_a_save_that_is_silently_cut_short_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(torch, "save", lambda state, file: file.write_bytes(b"PK half a checkpoint"))
    with pytest.raises((RuntimeError, ValueError)):
        save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    assert names(tmp_path) == ["checkpoint.pt"]


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The system refuses writes beyond the limit as it does on a full disk."""
    import resource

    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint({"step": 2, "w": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path) == {"step": 1}
    assert names(tmp_path) == ["checkpoint.pt"]


def test_what_could_not_be_loaded_is_refused_when_saving(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    for bad in (np.float64(2.0), Path("a"), np.zeros(3)):
        with pytest.raises(TypeError, match=r"loading would refuse \(.+\); expected tensors.*was not written"):
            save_checkpoint({"step": 2, "bad": bad}, path)
    assert load_checkpoint(path) == {"step": 1}
    assert names(tmp_path) == ["checkpoint.pt"]
    torch.save({"bad": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt holds objects that loading could run as code"):
        load_checkpoint(path)


def test_states_of_torch_are_accepted(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(model.parameters())
    schedules = torch.optim.lr_scheduler
    parts: list[Any] = [schedules.ConstantLR(adam), schedules.StepLR(adam, 2)]
    state = {
        "model": model.state_dict(),
        "adam": adam.state_dict(),
        "random": torch.get_rng_state(),
        "schedulers": [
            schedules.MultiStepLR(adam, [2, 5]).state_dict(),
            schedules.OneCycleLR(adam, 0.1, total_steps=9).state_dict(),
            schedules.ReduceLROnPlateau(adam).state_dict(),
            schedules.SequentialLR(adam, parts, [3]).state_dict(),
        ],
    }
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    assert_same_content(loaded["random"], state["random"])
    assert_same_content(dict(loaded["model"]), dict(state["model"]))


def test_left_over_partial_files_go_with_the_next_save_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.b.pt"
    for number in range(3):
        stale_name(path, number).write_bytes(b"half")
    others = [".a.part-0000000000000000.pt", ".a.b.part-1.pt", ".a.b.part-0000000000000000.png", "a.b.pt.old"]
    for name in others:
        (tmp_path / name).write_bytes(b"keep")
    save_checkpoint({"step": 1}, path)
    assert names(tmp_path) == sorted(["a.b.pt", *others])


def test_a_save_spares_the_partial_file_of_another_at_work(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    def slow(beside: Path) -> None:
        beside.write_text("slow")
        write_atomically(path, lambda other: other.write_text("quick"))
        assert path.read_text() == "quick"
        assert beside.read_text() == "slow"

    write_atomically(path, slow)
    assert path.read_text() == "slow"  # the last to finish
    assert names(tmp_path) == ["file.txt"]


def test_without_locks_age_tells_what_is_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(checkpoint, "_try_lock", lambda descriptor: None)
    old, young = stale_name(path, 1), stale_name(path, 2)
    for file in (old, young):
        file.write_bytes(b"half")
    long_ago = time.time() - 100_000
    os.utime(old, times=(long_ago, long_ago))
    save_checkpoint({"step": 1}, path)
    assert names(tmp_path) == [young.name, path.name]
    assert load_checkpoint(path) == {"step": 1}


def test_a_file_taken_for_stale_before_its_lock_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that clears up may lock, or have removed, the file just created."""
    real_lock, answers = checkpoint._try_lock, iter(["locked by another", "removed"])

    def contended(descriptor: int) -> bool | None:
        answer = next(answers, None)
        if answer == "removed":
            for file in tmp_path.glob(".checkpoint.part-*"):
                file.unlink()
        return False if answer == "locked by another" else real_lock(descriptor)

    monkeypatch.setattr(checkpoint, "_try_lock", contended)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    assert next(answers, None) is None
    assert load_checkpoint(path) == {"step": 1}
    assert names(tmp_path) == ["checkpoint.pt"]


@posix
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    new, old = tmp_path / "new.pt", tmp_path / "old.pt"
    old.write_bytes(b"")
    old.chmod(0o604)
    umask = os.umask(0o027)
    try:
        save_checkpoint({"step": 1}, new)
        save_checkpoint({"step": 1}, old)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (new, old)] == [0o640, 0o604]


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "latest.pt"
    link.symlink_to(tmp_path / "disk" / "run1.pt")
    for step in (1, 2):  # the target is missing at first
        save_checkpoint({"step": step}, link)
    assert link.is_symlink()
    assert load_checkpoint(tmp_path / "disk" / "run1.pt") == {"step": 2}
    assert names(tmp_path) == ["disk", "latest.pt"]
    assert names(tmp_path / "disk") == ["run1.pt"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"is a folder; expected a file; name one in it"):
        save_checkpoint({}, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*gone\.pt; .*start a new run"):
        load_checkpoint(tmp_path / "gone.pt")


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    """Flip random bits, cut at random places: an error that names the file, or exactly what was saved."""
    path, state = tmp_path / "checkpoint.pt", small_state()
    save_checkpoint(state, path)
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = [whole[: rng.randrange(len(whole))] for _ in range(100)]
    for _ in range(500):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except ValueError as error:
            assert "checkpoint.pt is damaged or no checkpoint" in str(error)  # noqa: PT017
            noticed += 1
        else:
            assert_same_content(loaded, state)  # padding, time stamps
    assert noticed >= 300


def test_a_flipped_bit_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"w": torch.arange(30.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor([17.0, 18.0]).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["w"][17] != 17.0  # torch does not look
    with pytest.raises(ValueError, match=r"damaged .*/data/0, by its checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged.*delete it and resume from an older one"):
        load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "a zip, but no checkpoint")
    with pytest.raises(ValueError, match=r"it has no data\.pkl"):
        load_checkpoint(path)


def test_checksums_are_written_whatever_torch_is_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(small_state(), path)
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same_content(load_checkpoint(path), small_state())


def test_map_location_goes_to_torch_and_its_errors_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(small_state(), path)
    assert load_checkpoint(path, map_location="meta")["w"].device.type == "meta"

    def no_such_device(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Attempting to deserialize object on a CUDA device")

    monkeypatch.setattr(torch, "load", no_such_device)
    with pytest.raises(RuntimeError, match="on a CUDA device"):
        load_checkpoint(path)


@posix
def test_sigkill_and_two_writers_never_damage_a_checkpoint(tmp_path: Path) -> None:
    """Forty processes are killed at random moments of their saves; two more save to one path at once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "support" / "checkpoint_killer.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    killed, two = (json.loads(done.stdout)[name] for name in ("killed", "two"))
    assert killed["killed"] == 40
    assert killed["while_saving"] >= 1, killed
    assert killed["most_partials"] == 1, killed
    assert killed["went_back"] == 0
    assert killed["last"] == killed["expected"] > 1, killed
    assert killed["left_over"] == 0
    assert two["failed"] == 0
    assert two["reads"] > 0
    assert two["last"] in (111, 211)
    assert two["left_over"] == 0
