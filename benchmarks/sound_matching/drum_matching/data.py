"""The recordings of a run: a folder of the user's, or what Debian packages hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.drum_sounds.fetch import (
    DEFAULT_FOLDER,
    fetch_sounds,
    find_missing,
    get_by_apt,
)
from benchmarks.sound_matching.drum_sounds.manifest import read_manifest
from benchmarks.sound_matching.drum_sounds.sounds import DrumSounds, load_sounds
from benchmarks.sound_matching.presets import Preset
from scrapl_jtfs.commands.command_line import check_name, say, shown
from scrapl_jtfs.commands.files import claimed_folder

__all__ = ["DEFAULT_FOLDER", "find_task"]

# Files that are told of by name where they cannot be used.
_MAX_TOLD = 5


def find_task(preset: Preset, seed: int, device: torch.device, folder: Path | None = None) -> DrumTask:
    """Load the recordings of a run, tell of them, and split them.

    Args:
        preset: the settings.
        seed: of the split.
        device: of all tensors.
        folder: of recordings; None for those of Debian packages, which are fetched if they are not there.

    Raises:
        OSError: a folder cannot be listed or written to.
        ValueError: there are too few usable recordings, or they cannot be had.
    """
    if folder is None:
        folder = _fetched_folder()
    check_name(folder, "--data")
    sounds = load_sounds(folder, preset.n_samples, preset.sample_rate)
    task = DrumTask(sounds, preset, seed, device)
    say(_described(sounds, folder, preset))
    return task


def _fetched_folder() -> Path:
    """Return the folder of sounds from Debian packages, complete."""
    folder, packages = DEFAULT_FOLDER, read_manifest()
    if any(find_missing(folder, package) for package in packages):
        say(f"Fetching drum sounds to {shown(folder)}; a folder of your own: --data DIR")
        with claimed_folder(folder):
            fetch_sounds(folder, get_by_apt, packages, say)
    return folder


def _described(sounds: DrumSounds, folder: Path, preset: Preset) -> str:
    """Return what there is, and what was left out, in a few lines."""
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(sounds.kinds).items())
    seconds = preset.n_samples / preset.sample_rate
    lines = [f"{len(sounds.names)} recordings in {shown(folder)}, {seconds:.2f} s of each: {counts}"]
    lines += [f"left out: {reason}" for reason in sounds.left_out[:_MAX_TOLD]]
    if len(sounds.left_out) > _MAX_TOLD:
        lines.append(f"left out: {len(sounds.left_out) - _MAX_TOLD} more")
    return "\n".join(lines)
