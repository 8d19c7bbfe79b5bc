"""What a training step on a path takes beside one on a spectrogram loss, timed on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .paths import Path, number_text

if TYPE_CHECKING:
    from .transform import JTFSPath

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop and window in samples: the defaults of auraloss.freq.MultiResolutionSTFTLoss."""
BATCH = 4
ROUNDS = 7
PATIENCE = 20.0
"""Seconds after which no further round begins."""

_SAMPLE = 3  # paths that are timed
_SMALLEST_POWER = 1e-8


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step: loss of white noise and target, and gradient with respect to the noise.

    Args:
        path: of the loss on one path, mean over paths of typical cost.
        spectrogram: of a spectrogram loss of three resolutions.
        batch: signals in a step.
        dtype: of the signals.
        device: where they were.
    """

    path: float
    spectrogram: float
    batch: int
    dtype: torch.dtype
    device: torch.device

    @property
    def ratio(self) -> float:
        """Steps on the spectrogram loss that one on a path takes."""
        return self.path / self.spectrogram

    def __str__(self) -> str:
        """Return the comparison as a line."""
        where = f"batch of {self.batch}, {str(self.dtype).removeprefix('torch.')}, {self.device}"
        return (
            f"a step, measured here ({where}): {_seconds_text(self.path)}, {number_text(self.ratio)} times that "
            f"of a spectrogram loss of three resolutions ({_seconds_text(self.spectrogram)})"
        )


def time_steps(jtfs: JTFSPath, paths: Sequence[Path]) -> StepTimes:
    """Time steps on paths of typical cost and on the spectrogram loss in turn, after a round of warm-up.

    Medians over 7 rounds, or as many as begin within 20 s, at least one.

    Args:
        jtfs: the transform; signals have its dtype and device.
        paths: those that are drawn.

    Raises:
        ValueError: the transform is on the meta device, where nothing is computed.
    """
    from .loss import JTFSPathLoss  # which imports the transform, which imports this

    check_computes(jtfs)
    loss_fn = JTFSPathLoss(jtfs)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(jtfs.device.type, enabled=False):
        x, target = _noise(jtfs).unbind()
        x.requires_grad_()
        losses = [partial(loss_fn, x, target, path.index) for path in typical_paths(paths)]
        rounds = _time_rounds([*losses, partial(spectrogram_loss, x, target)], x)
    *on_paths, spectrogram = map(median, zip(*rounds, strict=True))
    return StepTimes(fmean(on_paths), spectrogram, BATCH, jtfs.dtype, jtfs.device)


def check_computes(jtfs: JTFSPath) -> None:
    """Raise unless the transform is on a device where a step takes time."""
    if jtfs.device.type == "meta":
        raise ValueError(
            "Invalid measure: True; expected a transform on a device that computes, not on meta; move it there "
            "first, or leave measure out."
        )


def typical_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the middle path of each third by cost, whose mean cost is about that of all."""
    ordered = sorted(paths, key=lambda path: path.cost)
    n_parts = min(_SAMPLE, len(ordered))
    return [ordered[(2 * part + 1) * len(ordered) // (2 * n_parts)] for part in range(n_parts)]


def spectrogram_loss(x: Tensor, target: Tensor) -> Tensor:
    r"""Compute the mean over resolutions of the mean :math:`|X - Y| + |\log X - \log Y|`, magnitudes of STFTs.

    Sizes of FFTs and windows are at most the signals' length.

    Args:
        x: (batch, n_samples) signals.
        target: the same.

    Source: auraloss.freq.MultiResolutionSTFTLoss with w_sc=0, w_log_mag=1, w_lin_mag=1.
    """
    return torch.stack([_spectrogram_distance(x, target, *sizes) for sizes in RESOLUTIONS]).mean()


def _spectrogram_distance(x: Tensor, target: Tensor, n_fft: int, hop: int, support: int) -> Tensor:
    n_fft, support = min(n_fft, x.shape[-1]), min(support, x.shape[-1])
    window = torch.hann_window(support, dtype=x.dtype, device=x.device)
    spectra = [torch.stft(s, n_fft, hop, support, window, return_complex=True) for s in (x, target)]
    a, b = ((s.real.square() + s.imag.square()).clamp(min=_SMALLEST_POWER).sqrt() for s in spectra)
    return (a - b).abs().mean() + (a.log() - b.log()).abs().mean()


def _noise(jtfs: JTFSPath) -> Tensor:
    """Draw x and the target from a generator of our own, that the caller's draws stay as they are."""
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (2, BATCH, jtfs.geometry.n_samples)
    return torch.randn(shape, generator=generator, dtype=jtfs.dtype, device="cpu").to(jtfs.device)


def _time_rounds(losses: Sequence[Callable[[], Tensor]], x: Tensor) -> list[list[float]]:
    """Return the seconds of each loss and its gradient, by round."""
    for loss in losses:
        _step_seconds(loss, x)
    start, rounds = perf_counter(), []
    while not rounds or (len(rounds) < ROUNDS and perf_counter() - start < PATIENCE):
        rounds.append([_step_seconds(loss, x) for loss in losses])
    return rounds


def _step_seconds(loss: Callable[[], Tensor], x: Tensor) -> float:
    _wait(x.device)
    start = perf_counter()
    torch.autograd.grad(loss(), x)
    _wait(x.device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _seconds_text(seconds: float) -> str:
    return f"{number_text(seconds)} s" if seconds >= 1 else f"{number_text(1000 * seconds)} ms"
