"""Measured times of a training step on a path and of one on a spectrogram loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs.paths import Path, number_text

if TYPE_CHECKING:
    from scrapl_jtfs.transform import JTFSPath

# FFT size, hop and window in samples: the defaults of auraloss.freq.MultiResolutionSTFTLoss.
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
_BATCH = 4
_ROUNDS = 7
# Seconds after which no further round begins.
_PATIENCE = 20.0
# The number of paths that are timed.
_N_TIMED = 3
# The smallest power of a bin of a spectrogram; less is raised to it before the logarithm.
_SMALLEST_POWER = 1e-8


class StepTimes(NamedTuple):
    """Seconds of a training step: the loss between white noise and a target, and its gradient.

    Attributes:
        path: seconds with the loss on one path, a mean over paths of typical cost.
        spectrogram: seconds with a spectrogram loss of three resolutions.
        batch: number of signals in a step.
        dtype: of the signals.
        device: of the signals.
    """

    path: float
    spectrogram: float
    batch: int
    dtype: torch.dtype
    device: torch.device

    @property
    def ratio(self) -> float:
        """Time of a step on a path, relative to one on the spectrogram loss."""
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

    Times are medians over seven rounds, or fewer if these take longer than 20 s.

    Args:
        jtfs: the transform; signals have its dtype and device.
        paths: the paths that are drawn in training.

    Raises:
        ValueError: the transform is on the meta device, where nothing is computed.
    """
    from scrapl_jtfs.loss import JTFSPathLoss  # it imports the transform, which imports this module

    check_computes(jtfs)
    loss_fn = JTFSPathLoss(jtfs)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(jtfs.device.type, enabled=False):
        x, target = _noise(jtfs).unbind()
        x.requires_grad_()
        losses = [partial(loss_fn, x, target, path.index) for path in typical_paths(paths)]
        rounds = _time_rounds([*losses, partial(spectrogram_loss, x, target)], x)
    *on_paths, spectrogram = map(median, zip(*rounds, strict=True))
    return StepTimes(fmean(on_paths), spectrogram, _BATCH, jtfs.dtype, jtfs.device)


def check_computes(jtfs: JTFSPath) -> None:
    """Raise ValueError if the transform is on the meta device, on which nothing is computed."""
    if jtfs.device.type == "meta":
        raise ValueError(
            "Invalid measure: True; expected a transform on a device that computes, not on meta; move it there "
            "first, or leave measure out"
        )


def typical_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the middle path of each third by cost, whose mean cost is about that of all."""
    ordered = sorted(paths, key=lambda path: path.cost)
    n_parts = min(_N_TIMED, len(ordered))
    return [ordered[(2 * part + 1) * len(ordered) // (2 * n_parts)] for part in range(n_parts)]


def spectrogram_loss(x: Tensor, target: Tensor) -> Tensor:
    r"""Compute the mean over resolutions of the mean :math:`|X - Y| + |\log X - \log Y|`, magnitudes of STFTs.

    FFTs and windows are at most as long as the signals.

    Args:
        x: (batch, n_samples) signals.
        target: signals of the same shape.

    Source: the loss of auraloss.freq.MultiResolutionSTFTLoss with w_sc=0, w_log_mag=1, w_lin_mag=1.
    """
    return torch.stack([_spectrogram_distance(x, target, *sizes) for sizes in RESOLUTIONS]).mean()


def _spectrogram_distance(x: Tensor, target: Tensor, n_fft: int, hop: int, support: int) -> Tensor:
    n_fft, support = min(n_fft, x.shape[-1]), min(support, x.shape[-1])
    window = torch.hann_window(support, dtype=x.dtype, device=x.device)
    spectra = [torch.stft(s, n_fft, hop, support, window, return_complex=True) for s in (x, target)]
    a, b = ((s.real.square() + s.imag.square()).clamp(min=_SMALLEST_POWER).sqrt() for s in spectra)
    return (a - b).abs().mean() + (a.log() - b.log()).abs().mean()


def _noise(jtfs: JTFSPath) -> Tensor:
    """Draw x and the target; a generator of their own leaves the caller's random numbers as they are."""
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (2, _BATCH, jtfs.geometry.n_samples)
    return torch.randn(shape, generator=generator, dtype=jtfs.dtype, device="cpu").to(jtfs.device)


def _time_rounds(losses: Sequence[Callable[[], Tensor]], x: Tensor) -> list[list[float]]:
    """Return the seconds of each loss and its gradient, by round."""
    for loss in losses:
        _step_seconds(loss, x)
    start, rounds = perf_counter(), []
    while not rounds or (len(rounds) < _ROUNDS and perf_counter() - start < _PATIENCE):
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
