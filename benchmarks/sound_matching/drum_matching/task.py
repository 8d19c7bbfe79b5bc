"""The task of matching recordings: their sets, and how far matches are from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sound_matching.data import Split, build_synth, synth_seeds
from benchmarks.sound_matching.distances import Spectrograms
from benchmarks.sound_matching.drum_sounds.sounds import DrumSounds, load_sounds, split_sounds
from benchmarks.sound_matching.front_end import LogCQT
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.task import Score, predict
from benchmarks.sound_matching.train import Experiment, Trainer


@dataclass(frozen=True)
class Recordings:
    """A set of recordings, with what the encoder sees of them.

    Attributes:
        names: paths below their folder.
        kinds: of drums.
        audio: (n, n_samples).
        spectrograms: (n, 1, n_bins, frames).
        theta: (n, U), NaN.
        delay: samples by which targets come later than `audio`, so that no match, which is shifted either way by
            as much at most, has to begin before they do.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    audio: Tensor
    spectrograms: Tensor
    theta: Tensor
    delay: int = 0

    def targets(self, index: Tensor) -> Tensor:
        """Return the recordings (B, n_samples) of these indices (B,), delayed."""
        return nn.functional.pad(self.audio[index.to(self.audio.device)], (self.delay, -self.delay))

    def __len__(self) -> int:
        return len(self.names)


def identity_of(sounds: DrumSounds) -> str:
    """Return a hash (SHA-256) of names, kinds and samples."""
    digest = hashlib.sha256()
    for name, kind, audio in zip(sounds.names, sounds.kinds, sounds.audio.numpy(), strict=True):
        for text in (name, kind):
            content = text.encode("utf-8", "surrogateescape")
            digest.update(len(content).to_bytes(8, "little") + content)
        digest.update(np.ascontiguousarray(audio, "<f4").tobytes())
    return digest.hexdigest()


class DrumTask:
    """Recordings of drums, split by seed.

    Encoders are judged by the log + linear spectrogram distance between recordings and matches without shifts,
    the same for all losses, whether it is theirs or not.

    Args:
        sounds: all recordings, of the preset's length and sampling rate.
        preset: the settings; those of the sizes of the sets give proportions.
        seed: of the split, and of the noise in matches.
        device: of all tensors.

    Attributes:
        preset: with the sizes of the sets as they are.
        sounds: the recordings.

    Raises:
        ValueError: there are too few sounds for a batch.
    """

    def __init__(self, sounds: DrumSounds, preset: Preset, seed: int, device: torch.device | None = None) -> None:
        self.sounds, self.seed = sounds, seed
        self.device = torch.device("cpu") if device is None else device
        self._identity = {"n_sounds": len(sounds.names), "sha256": identity_of(sounds)}
        self._splits = split_sounds(sounds, (preset.n_train, preset.n_val, preset.n_test), seed)
        n_train, n_val, n_test = (len(part.names) for part in self._splits)
        if n_train < preset.batch_size:
            raise ValueError(
                f"Invalid data folder: {len(sounds.names)} usable sounds, {n_train} of them for training; "
                f"expected {preset.batch_size} or more for training, a batch; add recordings"
            )
        self.preset = replace(preset, n_train=n_train, n_val=n_val, n_test=n_test)
        self._synth = build_synth(replace(preset, max_shift=0)).to(self.device)
        self._distance = Spectrograms(preset.fft_sizes, log=True).to(self.device)

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._identity

    @property
    def test_sounds(self) -> DrumSounds:
        """The recordings of the test set."""
        return self._splits[2]

    def splits(self, synth: nn.Module, front_end: LogCQT) -> tuple[Recordings, Recordings, Recordings]:
        train, val, test = (self._recordings(part, front_end) for part in self._splits)
        return replace(train, delay=self.preset.delay), val, test

    def _recordings(self, sounds: DrumSounds, front_end: LogCQT) -> Recordings:
        audio = sounds.audio.to(self.device)
        spectrograms = torch.cat([front_end(part) for part in audio.split(32)])
        theta = torch.full((len(audio), len(self.preset.controls)), torch.nan, device=self.device)
        return Recordings(sounds.names, sounds.kinds, audio, spectrograms, theta)

    @torch.no_grad()
    def render(self, theta: Tensor) -> Tensor:
        """Render sounds (n, n_samples) of controls (n, U) without shifts, always with the same noise."""
        seeds = synth_seeds(self.seed, "report", 0, len(theta))
        return torch.cat(
            [self._synth(part, seeds[32 * k : 32 * k + len(part)]) for k, part in enumerate(theta.split(32))]
        )

    @torch.no_grad()
    def score(self, encoder: nn.Module, split: Split) -> Score:
        """Return the mean distance of matches from the recordings, and that of each kind of drum."""
        assert isinstance(split, Recordings)
        matches = self.render(predict(encoder, split.spectrograms))
        distances = [float(self._distance(x[None], y[None])) for x, y in zip(matches, split.audio, strict=True)]
        by_kind = {
            kind: [distance for distance, other in zip(distances, split.kinds, strict=True) if other == kind]
            for kind in sorted(set(split.kinds))
        }
        means = {kind: sum(some) / len(some) for kind, some in by_kind.items()}
        return {**means, "mean": sum(distances) / len(distances)}

    def note(self, score: Score) -> str:
        return f"MSS {score['mean']:.3f} on unseen recordings"


def match_sounds(trainer: Trainer, split: Recordings) -> Tensor:
    """Return what the synthesizer makes of an encoder's guesses for recordings, (n, n_samples), without shifts."""
    task = trainer.experiment.task
    if not isinstance(task, DrumTask):
        raise TypeError(
            f"Invalid trainer: of {type(task).__name__}; expected one of drums; take a preset of drums"
        )
    return task.render(predict(trainer.encoder, split.spectrograms))


def drum_experiment(
    preset: Preset,
    seed: int,
    data: Path,
    device: torch.device | None = None,
    weights: Mapping[str, Path] | None = None,
) -> Experiment:
    """Load the recordings in a folder and return the experiment of matching them.

    Raises:
        OSError: a folder cannot be listed.
        ValueError: there are too few usable recordings.
    """
    task = DrumTask(load_sounds(data, preset.n_samples, preset.sample_rate), preset, seed, device)
    return Experiment(task.preset, seed, device, weights, task)
