"""The problems: synthesizers with the controls to find, encoders, inputs; torch alone, for either interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.chirplet import Chirplet
from benchmarks.sound_matching.encoder import Encoder


@dataclass(frozen=True)
class Scale:
    """A size of the problem; frequencies in Hz, lengths in samples.

    Attributes:
        n_samples, sample_rate: of the sounds.
        J, Q, J_fr, Q_fr, T, F: of the transform.
        log1p_eps: of the loss, None for no log.
        octaves, hop: of the constant-Q spectrogram, with 12 bins per octave.
        channels, embedding: of the encoder, which has five blocks.
        n_controls: U; 2 for the chirplet, 14 for the drum.
        batch: examples.
        max_shift: of the onsets, in either direction.
        am, fm: ranges of the chirplet's rates in Hz and octaves per second.
        center: of the chirplet's two octaves.
        double: whether the encoder has float64 weights.
    """

    name: str
    n_samples: int
    sample_rate: int
    J: int
    Q: tuple[int, int]
    J_fr: int
    Q_fr: int
    T: int
    F: int
    log1p_eps: float | None
    octaves: int
    hop: int
    channels: int
    embedding: int
    n_controls: int
    batch: int
    max_shift: int
    am: tuple[float, float] = (2.8, 8.4)
    fm: tuple[float, float] = (4.0, 12.0)
    center: float = 512.0
    double: bool = False

    @property
    def transform(self) -> dict[str, Any]:
        """Arguments of JTFSPath but for the length and the sample rate."""
        names = ("J", "Q", "J_fr", "Q_fr", "T", "F")
        return {name: getattr(self, name) for name in names}


_TINY = Scale("tiny", 2048, 4096, 7, (4, 1), 2, 1, 256, 4, None, 3, 32, 4, 8, 2, 4, 64, (6.0, 12.0), (8.0, 16.0),
              double=True)  # fmt: skip
# One second. The weights and the shape of the problem are those of the sound-matching preset "small".
_SMALL = Scale("small", 4096, 4096, 9, (8, 1), 3, 1, 512, 8, None, 5, 64, 24, 64, 2, 3, 256)
# Four seconds for the slow chirplets of section 4.3, one octave lower, at a quarter of the rate.
_SLOW = Scale("slow", 8192, 2048, 11, (8, 1), 3, 1, 1024, 8, None, 5, 128, 12, 32, 2, 4, 512, center=256.0)
_PAPER = Scale("paper", 32768, 8192, 12, (8, 2), 3, 2, 4096, 8, None, 5, 256, 128, 64, 2, 32, 2048)
# Table 12; its encoder pools otherwise, the width of the embedding makes up for the weights.
_DRUM = Scale("tr808", 44100, 44100, 12, (8, 2), 5, 2, 2048, 1, 1e-3, 9, 256, 128, 298, 14, 16, 2048)
SCALES = {scale.name: scale for scale in (_TINY, _SMALL, _SLOW, _PAPER, _DRUM)}


class Batch(NamedTuple):
    """Some examples.

    Attributes:
        spectrogram: what the encoder sees.
        audio: what is to be matched, float64.
        shift: onsets of the match in samples; other ones than the audio's.
        first: index of the first example, which names the batch.
    """

    spectrogram: Tensor
    audio: Tensor
    shift: Tensor
    first: int


class Standardize(nn.Module):
    """GroupNorm(1, affine=False), written out: scrapl-loss differentiates the encoder under torch's old vmap.

    There GroupNorm's second derivative fails ("The size of tensor a must match ...", torch 2.13).
    """

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean((1, 2, 3), keepdim=True)
        return centered * (centered.square().mean((1, 2, 3), keepdim=True) + 1e-5).rsqrt()


@dataclass(frozen=True)
class Drum:
    """Four decaying partials whose pitch falls: 14 controls in [0, 1], of cost and kind like a drum synthesizer's.

    Controls: frequency (60 to 4000 Hz), decay (20 to 400 ms) and level (40 dB) of each partial, depth (0 to 1
    octave) and time (10 to 100 ms) of the common fall of pitch. All but the depth are logarithmic.
    """

    n_samples: int
    sample_rate: float
    start: float = 4096.0

    def __call__(self, theta: Tensor, shift: Tensor) -> Tensor:
        """(B, 14) controls and (B,) onsets in samples to (B, n_samples) float64."""
        theta = theta.double()
        time = torch.arange(self.n_samples, dtype=torch.float64) - self.start - shift[:, None]
        # An attack of 1 ms: a jump would have the transform see little but its spectrum.
        attack = torch.sigmoid(time / (1e-3 * self.sample_rate))
        time = time.clamp(min=0) / self.sample_rate
        fall, depth = 10.0 ** (theta[:, 13, None] - 2), theta[:, 12, None]
        # integral of 2**(depth exp(-t / fall)), to first order in the depth
        warped = time + depth * math.log(2.0) * fall * -torch.expm1(-time / fall)
        total = torch.zeros_like(time)
        for k in range(4):
            pitch, decay, level = (theta[:, 3 * k + i, None] for i in range(3))
            frequency = 60.0 * (4000.0 / 60.0) ** pitch
            envelope = torch.exp(-time / (0.02 * 20.0**decay)) * 10.0 ** (2 * level - 2)
            total = total + envelope * torch.sin(2 * math.pi * frequency * warped)
        return attack * total


def make_synth(scale: Scale) -> Callable[[Tensor, Tensor], Tensor]:
    """(controls, onsets) to sounds."""
    if scale.n_controls == 14:
        return Drum(scale.n_samples, scale.sample_rate)
    return Chirplet(scale.n_samples, scale.sample_rate, scale.am, scale.fm, scale.center)


def _draws(scale: Scale, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Controls, onsets of the targets and of the matches."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.rand(scale.batch, scale.n_controls, generator=generator, dtype=torch.float64)
    shifts = torch.rand(2, scale.batch, generator=generator, dtype=torch.float64)
    shifts = ((2 * shifts - 1) * scale.max_shift).round()
    return theta, shifts[0], shifts[1]


def make_audio(scale: Scale, seed: int = 0) -> Tensor:
    """Targets of all examples, (B, N) float64: controls uniform, that is log-uniform rates, and random onsets."""
    theta, shift, _ = _draws(scale, seed)
    return make_synth(scale)(theta, shift)


def make_batches(scale: Scale, spectrogram: Tensor, seed: int = 0, size: int | None = None) -> list[Batch]:
    """Cut the examples into batches of ``size``; all in one if ``None``.

    Args:
        scale: the problem.
        spectrogram: of its audio, (B, 1, bins, frames).
        seed: that the audio was made with.
        size: examples in a batch.
    """
    audio, (_, _, shift) = make_audio(scale, seed), _draws(scale, seed)
    seen = spectrogram.to(torch.float64 if scale.double else torch.float32)
    size = size or scale.batch
    return [
        Batch(seen[i : i + size], audio[i : i + size], shift[i : i + size], i) for i in range(0, scale.batch, size)
    ]


def make_encoder(scale: Scale, seed: int = 0, *, written_out: bool = False) -> Encoder:
    """Freshly initialised, as the paper's is when pi is computed, in evaluation mode.

    Args:
        scale: the problem.
        seed: of its weights.
        written_out: normalise by :class:`Standardize`, the same function.
    """
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)  # initial weights depend on it, and scrapl-loss's side changes it
        blocks = 3 if scale.name == "tiny" else 5
        encoder = Encoder(
            scale.channels, n_blocks=blocks, embedding=scale.embedding, n_parameters=scale.n_controls
        )
    torch.set_default_dtype(default)
    for i, layer in enumerate(encoder.features):
        if written_out and isinstance(layer, nn.GroupNorm):
            encoder.features[i] = Standardize()
    return encoder.to(torch.float64 if scale.double else torch.float32).eval()
