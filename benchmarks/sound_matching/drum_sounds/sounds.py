"""One-shots of drums read from a folder, all of one length and level, and split by seed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs.commands.audio import MAX_RATE, MIN_SAMPLES, read_format, read_sound, resample
from scrapl_jtfs.commands.command_line import shown

PEAK = 0.5
"""Largest magnitude of a loaded sound: half of full scale, which a synth with a tanh at its end reaches without
distortion."""

PAPER_SIZES = (425, 128, 128)
"""Sizes of the paper's training, validation and test sets (Table 12)."""

_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".aif", ".aiff", ".aifc")
# A sound begins where its magnitude first reaches this share of its largest: -40 dB.
_ONSET = 0.01
# Seconds over which the end of a sound falls to zero.
_FADE = 0.005
# Seconds of a file that are read to find the onset, and behind it as the length of a sound asks.
_MAX_SECONDS = 60.0
# Seconds that are resampled behind the cut, so that the edge of resampling lies outside.
_MARGIN = 0.05
# Share of the largest magnitude that must be left at the working rate.
_LEFT = 0.01
_MAX_SEED = 2**20
# Names of folders for the kinds of drums, in lower case, with spaces for "-" and "_", in the singular.
_KINDS = {
    "bass drum": ("bass drum", "bassdrum", "kick", "kick drum", "bd"),
    "snare": ("snare", "snare drum", "sd"),
    "tom": ("tom", "tom tom", "tomtom"),
    "hi-hat": ("hi hat", "hihat", "hat", "hh"),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


class DrumSounds(NamedTuple):
    """Drum sounds of one length.

    Attributes:
        names: paths below the folder that was read, with "/" between the parts, in the order of the sounds.
        kinds: bass drum, snare, tom, hi-hat, another name of a folder, or unknown.
        audio: (n, n_samples) float32; each begins with its onset and has the largest magnitude ``PEAK``.
        left_out: a sentence for each file that could not be used.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    audio: Tensor
    left_out: tuple[str, ...] = ()

    def subset(self, index: Sequence[int]) -> DrumSounds:
        """Return some of the sounds."""
        return DrumSounds(
            tuple(self.names[k] for k in index),
            tuple(self.kinds[k] for k in index),
            self.audio[torch.tensor(index, dtype=torch.long)],
        )


class DrumSplits(NamedTuple):
    """Three disjoint sets of drum sounds.

    Attributes:
        train: the training set.
        val: the validation set.
        test: the test set.
    """

    train: DrumSounds
    val: DrumSounds
    test: DrumSounds


def load_sounds(folder: Path, n_samples: int, sample_rate: int) -> DrumSounds:
    """Load the one-shots in a folder and its sub-folders.

    All WAV, FLAC, OGG and AIFF files are read, in the order of their paths; hidden ones, whose name or folder
    begins with a dot, are not. Of each the channels are averaged and the mean of its first minute is removed. The
    sound begins at the first sample whose magnitude is 1% (-40 dB) of the largest in that minute; what lies before
    is dropped. It is resampled by cropping or padding its spectrum and cut to ``n_samples``. Its last 5 ms, at the
    cut or where the recording ends, fall to zero along a half cosine; zeros follow. It is scaled to the largest
    magnitude ``PEAK``, so that soft strokes differ from hard ones in timbre alone. Table 12 of the paper has 44100
    samples at 44.1 kHz; it does not say how its recordings were aligned and scaled.

    A file that cannot be used, as it is damaged, silent, shorter than 1024 samples, or a copy of another, is left
    out, and ``left_out`` says why. The kind of a drum is the name of the nearest folder that stands for a kind
    (Kicks, snare_drums, ...), else the name of its own folder; for files directly in ``folder`` it is unknown.

    Args:
        folder: with any structure of sub-folders.
        n_samples: length of the sounds, 1024 or more.
        sample_rate: in Hz.

    Raises:
        ImportError: soundfile is not installed.
        OSError: a folder cannot be listed.
        ValueError: a number is out of range, or there is no usable sound in the folder.
    """
    if n_samples < MIN_SAMPLES:
        raise ValueError(f"Invalid n_samples: {n_samples}; expected {MIN_SAMPLES} or more; ask for longer sounds")
    if not 1000 <= sample_rate <= MAX_RATE:
        raise ValueError(
            f"Invalid sample_rate: {sample_rate}; expected 1000 to {MAX_RATE} Hz; the paper's is 44100 Hz"
        )
    if not folder.is_dir():
        raise ValueError(
            f"Invalid data folder: {shown(folder)}; expected a folder of WAV, FLAC or OGG files; name one"
        )
    names: dict[str, str] = {}  # by hash
    audio, left_out = [], []
    for name in _list_audio(folder):
        try:
            sound, sha256 = _load_sound(folder / name, n_samples, sample_rate)
        except ValueError as error:
            left_out.append(f"{shown(name)}: {_problem(error, folder / name)}")
            continue
        if sha256 in names:
            left_out.append(f"{shown(name)}: the same file as {shown(names[sha256])}")
            continue
        names[sha256] = name
        audio.append(sound)
    if not audio:
        why = f"{len(left_out)} files cannot be used, first {left_out[0]}" if left_out else "it holds none"
        raise ValueError(
            f"Invalid data folder: {shown(folder)} ({why}); expected one-shots in WAV, FLAC or OGG files; "
            "name another folder"
        )
    return DrumSounds(
        tuple(names.values()), tuple(map(_find_kind, names.values())), torch.stack(audio), tuple(left_out)
    )


def split_sounds(sounds: DrumSounds, sizes: Sequence[float], seed: int) -> DrumSplits:
    """Split sounds into training, validation and test sets with equal shares of every kind.

    The split is a pure function of the kinds and the seed. Within a kind the sounds are shuffled; the kinds, in an
    order that is shuffled as well, then form one row, along which the sets take turns so that each has its share
    of any stretch of the row, up to two sounds. All sounds are used.

    Strokes of one instrument at several strengths may lie in different sets, as strokes of one drum machine do in
    the paper.

    Args:
        sounds: three or more.
        sizes: three positive numbers, whose ratios alone count: ``PAPER_SIZES`` serve any number of sounds. No
            set is empty.
        seed: in [0, 2^20).

    Raises:
        ValueError: there are fewer than three sounds, or an argument is out of range.
    """
    n = len(sounds.names)
    if n < 3:
        raise ValueError(
            f"Invalid sounds: {n}; expected three or more, for training, validation and test; add recordings"
        )
    if len(sizes) != 3 or not all(0 < size < math.inf for size in sizes):
        raise ValueError(f"Invalid sizes: {list(sizes)}; expected three positive numbers, as in {PAPER_SIZES}")
    if not 0 <= seed < _MAX_SEED:
        raise ValueError(f"Invalid seed: {seed}; expected 0 to {_MAX_SEED - 1}; choose another seed")
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 2))))
    order = stream.permutation(n).tolist()
    names = sorted(set(sounds.kinds))
    rank = dict(zip(names, stream.permutation(len(names)).tolist(), strict=True))
    row = sorted(order, key=lambda k: rank[sounds.kinds[k]])  # sorting is stable: each kind stays shuffled
    turns = _take_turns(_round_sizes(n, sizes))
    parts = [sorted(k for k, turn in zip(row, turns, strict=True) if turn == part) for part in range(3)]
    return DrumSplits(*map(sounds.subset, parts))


def _round_sizes(n: int, sizes: Sequence[float]) -> list[int]:
    """Return whole sizes with the sum n and nearly the given ratios, none of them 0 (largest remainders)."""
    exact = [n * size / sum(sizes) for size in sizes]
    whole = [math.floor(size) for size in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: whole[k] - exact[k])
    for k in by_remainder[: n - sum(whole)]:
        whole[k] += 1
    while 0 in whole:
        whole[whole.index(max(whole))] -= 1
        whole[whole.index(0)] += 1
    return whole


def _take_turns(sizes: Sequence[int]) -> list[int]:
    """Return a sequence of sets, each spread evenly: the one that is farthest behind its share is next."""
    n, taken, turns = sum(sizes), [0] * len(sizes), []
    for position in range(1, n + 1):
        behind = [position * size - n * count for size, count in zip(sizes, taken, strict=True)]
        turns.append(behind.index(max(behind)))
        taken[turns[-1]] += 1
    return turns


def _list_audio(folder: Path) -> Iterator[str]:
    """List the audio files below a folder, in the order of their paths, which does not depend on the system."""

    def stop(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(parent) / name).relative_to(folder).parts
            for name in files
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
        ]
    return ("/".join(parts) for parts in sorted(found))


def _find_kind(name: str) -> str:
    """Return the kind that the folders of a sound tell."""
    folders = name.split("/")[:-1]
    for folder in reversed(folders):
        words = folder.lower().replace("-", " ").replace("_", " ").strip()
        kind = _KIND_OF.get(words) or _KIND_OF.get(words.removesuffix("s"))
        if kind:
            return kind
    return folders[-1] if folders else "unknown"


def _load_sound(path: Path, n_samples: int, sample_rate: int) -> tuple[Tensor, str]:
    """Return the sound of a file (n_samples,) and the hash of the file.

    Raises:
        ValueError: it cannot be used.
    """
    rate = read_format(path).rate
    recording = read_sound(path, rate, math.ceil(_MAX_SECONDS * rate))
    magnitude = recording.samples.abs()
    onset = int((magnitude >= _ONSET * magnitude.max()).nonzero()[0])
    n_native = math.ceil((n_samples / sample_rate + _MARGIN) * rate)
    sound = resample(recording.samples[onset : onset + n_native], rate, sample_rate)[:n_samples].clone()
    n_fade = min(math.ceil(_FADE * sample_rate), len(sound))
    steps = torch.arange(1, n_fade + 1, dtype=sound.dtype) / n_fade
    sound[-n_fade:] *= 0.5 + 0.5 * (math.pi * steps).cos()
    peak = float(sound.abs().max())
    if peak < _LEFT * float(magnitude.max()):
        raise ValueError(f"{shown(path)}: nothing of it is left at {sample_rate} Hz")
    return torch.nn.functional.pad(sound * (PEAK / peak), (0, n_samples - len(sound))).float(), recording.sha256


def _problem(error: ValueError, path: Path) -> str:
    """Return what a message says of a file, without its name and without options of other commands."""
    return str(error).removeprefix(f"{shown(path)}: ").partition("; ")[0]
