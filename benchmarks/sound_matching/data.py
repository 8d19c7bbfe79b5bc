"""Sounds to be matched, and textures of known parameters, which are a pure function of the run's seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sound_matching.front_end import LogCQT
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.synths import ChirpletSynth, DrumSynth, PaperChirplet, PaperGranular
from scrapl_jtfs.commands.granular import GranularSynth

# Roles keep the synthesizer seeds of targets and of their matches apart: no match ever has its target's grains.
_TARGET, _MATCH, _REPORT, _SECOND_MATCH = range(4)
_ROLES = {"target": _TARGET, "match": _MATCH, "report": _REPORT, "second match": _SECOND_MATCH}
_MAX_SEED, _MAX_COUNT = 2**20, 2**40

# Classes of synthesizers, and the settings that each takes besides length and sample rate.
_OF_GRAINS = ("n_grains", "grain_samples", "min_pitch", "max_pitch")
_OF_CHIRPLETS = ("am", "fm", "max_shift")
_SYNTHS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "granular": (GranularSynth, (*_OF_GRAINS, "max_slope", "softness")),
    "chirplet": (ChirpletSynth, _OF_CHIRPLETS),
    "paper-granular": (PaperGranular, _OF_GRAINS),
    "paper-chirplet": (PaperChirplet, _OF_CHIRPLETS),
    "drum": (DrumSynth, ("max_shift", "delay")),
}


def check_seed(run_seed: int) -> None:
    """Raise ValueError for a seed that leaves no room for those of the textures."""
    if not 0 <= run_seed < _MAX_SEED:
        raise ValueError(f"the seed must lie in [0, {_MAX_SEED}), got {run_seed}: choose another seed")


def synth_seeds(run_seed: int, role: str, start: int, count: int) -> list[int]:
    """`count` consecutive seeds, different for every (run, role, position)."""
    check_seed(run_seed)
    if not 0 <= start <= start + count <= _MAX_COUNT:
        raise ValueError(
            f"the position must lie in [0, {_MAX_COUNT}], got {start} + {count}: train for fewer steps"
        )
    first = ((_ROLES[role] * _MAX_SEED) + run_seed) * _MAX_COUNT + start
    return list(range(first, first + count))


def match_seeds(preset: Preset, run_seed: int, step: int, rendering: int = 0) -> list[int]:
    """Seeds for rendering the matches of a training step, once (0) or twice (1): new ones at every step."""
    role = ("match", "second match")[rendering]
    return synth_seeds(run_seed, role, step * preset.batch_size, preset.batch_size)


def build_synth(preset: Preset) -> nn.Module:
    """Build the synthesizer, a module that renders theta (B, U) and B seeds to (B, n_samples)."""
    kind, names = _SYNTHS[preset.synth]
    return kind(preset.n_samples, preset.sample_rate, **{name: getattr(preset, name) for name in names})


def build_front_end(preset: Preset) -> LogCQT:
    return LogCQT(
        preset.sample_rate,
        octaves=preset.octaves,
        bins_per_octave=preset.bins_per_octave,
        hop=preset.hop,
        gain=preset.gain,
    )


class Split(Protocol):
    """Sounds to be matched, one of the sets for training, validation and test.

    Attributes:
        spectrograms: (n, 1, n_bins, frames), what the encoder sees.
        theta: (n, U) true controls; NaN where nobody knows them.
    """

    @property
    def spectrograms(self) -> Tensor: ...

    @property
    def theta(self) -> Tensor: ...

    def targets(self, index: Tensor) -> Tensor:
        """Return the sounds (B, n_samples) of these indices (B,)."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Textures:
    """Target textures: parameters theta (n, 2), synthesizer seeds, and what the encoder sees of them.

    Spectrograms are kept (30 kB per texture in the paper's configuration), audio is rendered when asked for.
    """

    theta: Tensor
    seeds: list[int]
    spectrograms: Tensor
    synth: nn.Module

    @torch.no_grad()
    def targets(self, index: Tensor) -> Tensor:
        """Render the sounds of these indices."""
        return self.synth(self.theta[index.to(self.theta.device)], [self.seeds[i] for i in index.tolist()])

    def __len__(self) -> int:
        return len(self.seeds)


def as_textures(split: Split) -> Textures:
    """Return a set of textures as such, with its seeds.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(split, Textures):
        raise TypeError(f"Invalid split: {type(split).__name__}; expected textures; take another preset")
    return split


@dataclass(frozen=True)
class Batch:
    """Step number and indices into the training textures."""

    step: int
    index: Tensor


def _render_textures(theta: Tensor, seeds: list[int], synth: nn.Module, front_end: LogCQT) -> Textures:
    """Render in chunks, so that no more than a batch of audio exists at a time."""
    chunks = [front_end(synth(part, seeds[32 * k : 32 * k + len(part)])) for k, part in enumerate(theta.split(32))]
    return Textures(theta, seeds, torch.cat(chunks), synth)


@torch.no_grad()
def make_splits(
    preset: Preset, run_seed: int, synth: nn.Module, front_end: LogCQT, device: torch.device
) -> tuple[Textures, Textures, Textures]:
    """Training, validation and test textures: disjoint slices of one sequence, theta uniform in [0, 1]^2."""
    sizes = (preset.n_train, preset.n_val, preset.n_test)
    words = np.random.Philox(np.random.SeedSequence((run_seed, 0))).random_raw(2 * sum(sizes))
    uniform = (words >> np.uint64(11)).reshape(-1, 2) * 2.0**-53
    theta = torch.from_numpy(uniform).to(device, torch.float32).split(sizes)
    seeds = synth_seeds(run_seed, "target", 0, sum(sizes))
    starts = (0, sizes[0], sizes[0] + sizes[1])
    train, val, test = (
        _render_textures(part, seeds[start : start + size], synth, front_end)
        for part, start, size in zip(theta, starts, sizes, strict=True)
    )
    return train, val, test


def epoch_batches(preset: Preset, run_seed: int, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch, a pure function of (seed, epoch): a resumed run sees what it would have seen."""
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence((run_seed, 1, epoch))))
    order = torch.from_numpy(stream.permutation(preset.n_train))
    for k in range(preset.steps_per_epoch):
        index = order[k * preset.batch_size : (k + 1) * preset.batch_size]
        yield Batch(epoch * preset.steps_per_epoch + k, index)
