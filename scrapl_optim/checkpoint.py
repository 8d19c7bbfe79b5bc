"""Checkpoints that no crash can damage: written under another name, checked, and renamed."""

from __future__ import annotations

import os
import pickle
import re
import secrets
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.serialization import MAP_LOCATION

from scrapl_optim._validation import as_path

__all__ = ["load_checkpoint", "save_checkpoint", "write_atomically"]

# Where a file system cannot tell whether the writer of a partial file lives: no save goes a day without a write.
_STALE_SECONDS = 86_400.0


def save_checkpoint(state: object, path: str | os.PathLike[str]) -> None:
    r"""Save ``state`` to ``path`` as ``torch.save`` does, whole or not at all.

    The file is written under another name, flushed to the disk and renamed. A reader of ``path`` gets either
    what was there before or all of ``state``, whatever ended the process and whenever: an exception, SIGKILL,
    or a power failure (as far as the disk keeps its promises). What killed processes left behind is removed
    by the next save to the same path. Processes that save to the same path at the same time do not mix; the
    last to finish wins. If ``path`` is a symbolic link, the file that it points to is replaced.

    For an exact resume, ``state`` must hold everything that the next step depends on: model, optimizer,
    learning rate scheduler, ``GradScaler``, step, and the random state (``torch.get_rng_state()``) where
    dropout or augmentation draw from it. A :class:`scrapl_optim.PathSampler` called with the step, as in
    ``sampler(step)``, has no state of its own.

    Args:
        state: anything that :func:`load_checkpoint` accepts back: tensors on any device, numbers, strings,
            and lists, tuples and dicts of these; every ``state_dict()`` of torch is.
        path: where to save; missing folders are created. A new file gets the permissions of any new file
            (``umask``), one that is there keeps its own.

    Raises:
        TypeError: ``state`` holds objects that could not be loaded again. ``path`` is as it was before.
        ValueError: ``state`` is nested too deeply to be written. ``path`` is as it was before.
        IsADirectoryError: ``path`` is a folder.
        OSError, RuntimeError: the disk is full, or whatever kept ``torch.save`` from writing. ``path`` is as
            it was before.

    Example:
        >>> import tempfile
        >>> from scrapl_optim import PathAdamSAGA, PathSampler
        >>> from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "checkpoint.pt"
        >>> model, sampler = torch.nn.Linear(3, 1), PathSampler(n_paths=4, seed=0)
        >>> optimizer = PathAdamSAGA(model.parameters(), n_paths=4)
        >>> for step in range(2):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(1, 3)).sum().backward()
        ...     optimizer.step(path_idx=sampler(step))
        ...     save_checkpoint(
        ...         {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path
        ...     )
        >>> state = load_checkpoint(path)  # after a restart
        >>> model.load_state_dict(state["model"])
        <All keys matched successfully>
        >>> optimizer.load_state_dict(state["optimizer"])
        >>> state["step"]  # the next one
        2
        >>> folder.cleanup()
    """

    def write(beside: Path) -> None:
        # Torch can be told to leave checksums out, but load_checkpoint relies on them.
        with_checksums = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(True)
        try:
            torch.save(state, beside)
        except (AttributeError, pickle.PicklingError) as error:
            raise TypeError(
                f"Invalid state: an object that cannot be saved ({error}); expected tensors, numbers, strings, "
                f"lists and dicts; {path} was not written"
            ) from error
        except RecursionError as error:
            raise ValueError(
                f"Invalid state: nested too deeply; expected one that pickle can save; {path} was not written"
            ) from error
        finally:
            torch.serialization.set_crc32_options(with_checksums)
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(beside)
        if refused:
            raise TypeError(
                f"Invalid state: objects that loading would refuse ({', '.join(sorted(refused))}); expected "
                "tensors, numbers, strings, lists and dicts, e.g. float(x) of a NumPy number; or allow them "
                f"everywhere with torch.serialization.add_safe_globals; {path} was not written"
            )

    write_atomically(path, write)


def load_checkpoint(path: str | os.PathLike[str], map_location: MAP_LOCATION = None) -> Any:
    """Return what :func:`save_checkpoint` saved, after checking that every byte is what was written.

    Nothing in the file is executed (``weights_only=True``). Checksums are compared, which ``torch.load`` does
    not do: it would return tensors with flipped bits.

    Args:
        path: a file of :func:`save_checkpoint`, or of ``torch.save`` if its content is of the same kinds.
        map_location: where the tensors go, as for ``torch.load``; ``None`` for where they were. The default
            device (``torch.set_default_device``) plays no part.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: ``path`` is no path, or ``map_location`` no place.
        ValueError: it is damaged, no checkpoint, or holds objects other than plain data.
        RuntimeError: its tensors were on a device that is missing here; pass ``map_location``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint({"step": 7, "w": torch.ones(2)}, f"{folder}/last.pt")
        ...     load_checkpoint(f"{folder}/last.pt", map_location="cpu")
        {'step': 7, 'w': tensor([1., 1.])}
    """
    path = as_path(path)
    if not (map_location is None or isinstance(map_location, (str, torch.device, dict)) or callable(map_location)):
        raise TypeError(f"Invalid map_location: {map_location!r}; expected a device, a dict, a callable or None")
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Invalid path: no checkpoint {os.fspath(path)}; expected a file of save_checkpoint; name one, or "
            "start a new run"
        ) from error
    # One open file for check and load: another process may replace the path in between.
    with file:
        _check_whole(file, path)
        file.seek(0)
        try:
            # A default device would take sparse tensors away from their storages; an open file cannot be mapped.
            with torch._C.DisableTorchFunction():
                return torch.load(file, map_location=map_location, weights_only=True, mmap=False)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"Invalid path: {os.fspath(path)} holds objects that loading could run as code; expected tensors, "
                "numbers, strings, lists and dicts; write it with save_checkpoint, or, if you trust it, read it "
                "with torch.load(..., weights_only=False)"
            ) from error
        except RuntimeError as error:
            if "PytorchStreamReader" not in str(error):  # such as a device that is missing here
                raise
            raise _damaged(path, "its table of contents") from error


def _check_whole(file: BinaryIO, path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless ``file`` is a checkpoint whose checksums fit its content."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
            is_checkpoint = any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception as error:  # whatever flipped bits make the reader do
        raise _damaged(path, "its table of contents") from error
    if bad is not None or not is_checkpoint:
        raise _damaged(path, f"{bad}, by its checksum" if bad else "it has no data.pkl")


def _damaged(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(
        f"Invalid path: {os.fspath(path)} is damaged or no checkpoint ({what}); expected a whole one; delete it "
        "and resume from an older one, or start over"
    )


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Let ``write`` fill an empty file in the folder of ``path``, of the same suffix, then give it the name
    ``path``.

    What :func:`save_checkpoint` does for checkpoints, for files of any kind, with the same guarantees.

    Args:
        path: where the file shall be; missing folders are created.
        write: called once with the path to write to. When it raises, ``path`` stays as it was.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: the file could not be created, flushed or renamed; ``path`` is as it was before.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(f"{folder}/note.txt", lambda beside: beside.write_text("all or nothing"))
        ...     Path(folder, "note.txt").read_text()
        'all or nothing'
    """
    path = Path(
        os.path.realpath(as_path(path))
    )  # a link stays a link, and the new file is on the disk of the old one
    if path.is_dir():
        raise IsADirectoryError(
            f"Invalid path: {path} is a folder; expected a file; name one in it, e.g. {path / 'checkpoint.pt'}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    with _partial(path) as beside:
        write(beside)
        with suppress(FileNotFoundError):
            beside.chmod(stat.S_IMODE(path.stat().st_mode))
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())  # the content must be on the disk before the name points to it
        os.replace(beside, path)
    _sync_folder(path.parent)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Create an empty file next to ``path``, locked while this process works on it, and remove it at the end."""
    beside, descriptor = _create_partial(path)
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def _create_partial(path: Path) -> tuple[Path, int | None]:
    """Create a file of a unique name; return it with the descriptor that holds its lock, if there are locks."""
    while True:
        beside = path.with_name(f".{path.stem}.part-{secrets.token_hex(8)}{path.suffix}")
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        locked = _try_lock(descriptor)
        if locked and os.fstat(descriptor).st_nlink:
            return beside, descriptor
        os.close(descriptor)
        if locked is None:
            return beside, None
        # Another process took it for stale between its creation and its lock.
        beside.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove what killed processes left of their saves to ``path``."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.part-[0-9a-f]{{16}}{re.escape(path.suffix)}")
    for name in os.listdir(path.parent):
        if pattern.fullmatch(name):
            _remove_if_stale(path.with_name(name))


def _remove_if_stale(partial: Path) -> None:
    """Remove a partial file whose writer has ended: the system has taken back its lock."""
    with suppress(OSError):  # gone, finished, or another user's
        descriptor = os.open(partial, os.O_RDWR)
        try:
            locked = _try_lock(descriptor)
            if locked:
                partial.unlink()
        finally:
            os.close(descriptor)
        if locked is None and time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            partial.unlink()


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool | None:
        """No locks that let others rename or remove the file."""
        return None

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool | None:
        """Lock a file without waiting: whether it succeeded, ``None`` if the file system knows no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


def _sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
