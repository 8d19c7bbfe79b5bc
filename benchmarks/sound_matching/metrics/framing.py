"""Frames of a sound from an onset on, and means over the transient and the decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# In samples at the sample rate below: the frames of Tables 8 and 9.
_PAPER_SIZE, _PAPER_HOP = 2048, 512
_PAPER_RATE = 44100


class Parts(NamedTuple):
    """Distances over the two parts of a drum.

    Attributes:
        transient: (B,), over the first frames.
        decay: (B,), over those that follow.
    """

    transient: Tensor
    decay: Tensor


@dataclass(frozen=True)
class Framing:
    """Lengths of frames and numbers of them; by default those of the paper's Tables 8 and 9, at 44.1 kHz.

    Attributes:
        size: samples of a frame.
        hop: samples from one frame to the next.
        transient: frames of the transient, the first of which begins at the onset.
        decay: frames of the decay, which follow. In shorter sounds they are as many as fit.

    Raises:
        ValueError: one of them is not a positive integer.
    """

    size: int = _PAPER_SIZE
    hop: int = _PAPER_HOP
    transient: int = 2
    decay: int = 64

    def __post_init__(self) -> None:
        for name in ("size", "hop", "transient", "decay"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Invalid {name}: {value!r}; expected a positive integer")

    @classmethod
    def at(cls, sample_rate: float) -> Framing:
        """Return the paper's framing at another sample rate: frames of the same duration (46 ms), to 4 samples."""
        check_sample_rate(sample_rate)
        hop = max(1, round(_PAPER_HOP * sample_rate / _PAPER_RATE))
        return cls(_PAPER_SIZE // _PAPER_HOP * hop, hop)

    @property
    def n_samples(self) -> int:
        """Samples from the onset to the end of the last frame."""
        return self.size + (self.transient + self.decay - 1) * self.hop

    def frames(self, audio: Tensor, onset: int | Tensor = 0) -> Tensor:
        """Cut sounds into frames that begin at an onset.

        Args:
            audio: (B, n_samples).
            onset: sample at which the first frame begins: one for all, or (B,) integers.

        Returns:
            (B, frames, size): those of transient and decay that end within the sound, whose number is that of the
            latest onset, for all examples alike.

        Raises:
            ValueError: the onset is no sample of the sound, or there is no frame of the decay.
        """
        n_samples = audio.shape[-1]
        onsets = torch.as_tensor(onset, device=audio.device).expand(len(audio))
        first, last = int(onsets.min()), int(onsets.max())
        if first < 0 or last >= n_samples:
            raise ValueError(f"Invalid onset: {first} to {last}; expected samples from 0 to {n_samples - 1}")
        n_frames = min(self.transient + self.decay, (n_samples - last - self.size) // self.hop + 1)
        if n_frames <= self.transient:
            needed = self.size + self.transient * self.hop
            raise ValueError(
                f"Invalid audio: {n_samples - last} samples after the onset; expected at least {needed}, for one "
                "frame of the decay; take longer sounds or shorter frames"
            )
        length = self.size + (n_frames - 1) * self.hop
        index = onsets[:, None] + torch.arange(length, device=audio.device)
        return audio.gather(-1, index).unfold(-1, self.size, self.hop)

    def mean_difference(self, target: Tensor, match: Tensor) -> Parts:
        """Return the mean absolute difference of two features (B, frames), frame by frame, over both parts."""
        difference = (target - match).abs()
        return Parts(difference[:, : self.transient].mean(-1), difference[:, self.transient :].mean(-1))


# That of Tables 8 and 9.
PAPER_FRAMING = Framing()


def check_sample_rate(sample_rate: float) -> None:
    """Raise ValueError unless it is a positive number of Hz."""
    if not 0 < sample_rate < float("inf"):
        raise ValueError(f"Invalid sample_rate: {sample_rate!r}; expected a positive number of Hz")


def as_pair(target: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in double precision.

    Raises:
        TypeError: one is not a real floating-point tensor.
        ValueError: they are not of one shape (B, n_samples).
    """
    for name, audio in (("target", target), ("match", match)):
        if not isinstance(audio, Tensor) or not audio.is_floating_point():
            kind = audio.dtype if isinstance(audio, Tensor) else type(audio).__name__
            raise TypeError(f"Invalid {name}: {kind}; expected a real floating-point tensor")
    if target.ndim != 2 or not target.numel() or target.shape != match.shape:
        raise ValueError(
            f"Invalid target and match: shapes {tuple(target.shape)} and {tuple(match.shape)}; expected sounds "
            "(B, n_samples) of one shape; cut or pad one to the length of the other"
        )
    return target.double(), match.double()
