"""What trains the encoder: parameters (P-loss), multi-resolution spectrograms (MSS), or SCRAPL (scrapl.py)."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from auraloss.freq import MultiResolutionSTFTLoss
from torch import Tensor, nn

from benchmarks.sound_matching.presets import Preset

__all__ = ["OBJECTIVES", "MultiResolution", "Objective", "ParameterLoss", "build_objective"]

Render = Callable[[], Tensor]


class Objective(Protocol):
    """A loss with its optimizer. State that must survive an interruption lives in the optimizer alone."""

    label: str

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        """`match` renders theta_hat with new grains, `target` the texture without graph; both (B, n_samples)."""
        ...

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """One optimizer step, gradients being there."""
        ...


class _WithAdamW:
    """What the comparisons share: AdamW with the preset's hyperparameters."""

    def __init__(self, preset: Preset, lr: float) -> None:
        self.preset, self.lr = preset, lr

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.preset.betas, weight_decay=self.preset.weight_decay
        )

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.step()


class ParameterLoss(_WithAdamW):
    """Supervised: mean absolute error of theta, the very figure that is reported."""

    label = "P-loss (supervised)"

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset, preset.lr_p_loss)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return (theta_hat - theta).abs().mean()


class MultiResolution(_WithAdamW):
    """L1 distance of magnitudes and of log magnitudes over several FFT sizes, 75% overlap (Engel et al., 2020)."""

    label = "MSS log + linear"

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset, preset.lr_mss)
        sizes = list(preset.fft_sizes)
        self.distance = MultiResolutionSTFTLoss(
            sizes, [size // 4 for size in sizes], sizes, w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0
        )

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance(match()[:, None], target()[:, None])


OBJECTIVES = ("scrapl", "mss", "p_loss")


def build_objective(name: str, preset: Preset, seed: int, device: torch.device) -> Objective:
    if name == "scrapl":
        from benchmarks.sound_matching.scrapl import (
            Scrapl,  # building wavelets takes time, importing them too: only when asked for
        )

        return Scrapl(preset, seed, device)
    if name == "mss":
        return MultiResolution(preset)
    if name == "p_loss":
        return ParameterLoss(preset)
    raise ValueError(f"unknown loss {name!r}: choose among {', '.join(OBJECTIVES)}")
