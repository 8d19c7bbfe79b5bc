"""Small families of path transforms that are no JTFS: of signals and of images, fixed, learnable, and foreign."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scrapl_jtfs import PathTransform


@dataclass(frozen=True)
class Frame:
    """A path of Spectra."""

    index: int
    samples: int

    def __str__(self) -> str:
        return f"path {self.index}: frames of {self.samples} samples"


class Spectra(PathTransform):
    """Magnitudes of frames on average, a path for each length of frame: coefficients have one axis."""

    def __init__(self, n_samples: int = 64, n_paths: int = 3) -> None:
        super().__init__()
        self.signal_shape = (n_samples,)
        self.paths = [Frame(p, 8 * 2**p) for p in range(n_paths)]

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        path = self.paths[self.checked_index(path_idx)]
        frames = self.checked_signal(x).unfold(-1, path.samples, path.samples // 2)
        return torch.fft.rfft(frames).abs().mean(-2)


@dataclass(frozen=True)
class Band:
    """A path of LearnedBands."""

    index: int

    def __str__(self) -> str:
        return f"path {self.index}: filter {self.index}"


class LearnedBands(PathTransform):
    """The mean square through each of some learnable filters: coefficients have no axis of their own."""

    def __init__(self, n_samples: int = 64, n_paths: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.signal_shape = (n_samples,)
        self.paths = tuple(map(Band, range(n_paths)))
        generator = torch.Generator().manual_seed(seed)
        self.filters = nn.Parameter(torch.randn(n_paths, 9, generator=generator) / 3)

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        p = self.checked_index(path_idx)
        x = self.checked_signal(x)
        flat = x.reshape(-1, 1, x.shape[-1])
        return (
            nn.functional.conv1d(flat, self.filters[p][None, None]).square().mean((-2, -1)).reshape(x.shape[:-1])
        )


@dataclass(frozen=True)
class Slope:
    """A path of Gratings."""

    index: int
    scale: float
    angle: float

    def __str__(self) -> str:
        return f"path {self.index}: scale {self.scale:g} pixels, angle {self.angle:g} degrees"


class Gratings(PathTransform):
    """Local energy of images at an orientation: three axes, of phases, of rows and of columns."""

    def __init__(self, shape: tuple[int, int] = (12, 10), n_angles: int = 3) -> None:
        super().__init__()
        self.signal_shape = shape
        keys = [(scale, 180 * k / n_angles) for scale in (3.0, 5.0) for k in range(n_angles)]
        self.paths = tuple(Slope(p, *key) for p, key in enumerate(keys))
        across, down = torch.meshgrid(torch.arange(5) - 2.0, torch.arange(5) - 2.0, indexing="xy")
        waves = []
        for path in self.paths:
            turn = math.radians(path.angle)
            phase = 2 * math.pi * (across * math.cos(turn) + down * math.sin(turn)) / path.scale
            waves.append(torch.stack([phase.cos(), phase.sin()]))
        self.register_buffer("waves", torch.stack(waves), persistent=False)

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        p = self.checked_index(path_idx)
        x = self.checked_signal(x)
        waves = self.get_buffer("waves")[p, :, None]
        bands = nn.functional.conv2d(x.reshape(-1, 1, *self.signal_shape), waves).square()
        local = nn.functional.avg_pool2d(bands, 4)
        return local.reshape(*x.shape[:-2], *local.shape[1:])

    @property
    def settings(self) -> dict[str, Any]:
        return {"shape": self.signal_shape, "n_paths": self.n_paths}


class Foreign:
    """A path transform by its members alone, which no class of ours knows."""

    signal_shape = (6,)
    paths = (Band(0), Band(1))
    n_paths = 2
    dtype = torch.float32
    device = torch.device("cpu")
    settings = "differences"

    def __call__(self, x: Tensor, path_idx: int) -> Tensor:
        return x.diff(n=path_idx + 1).abs()

    def select(self, x: Tensor, path_indices: Any) -> list[Tensor]:
        return [self(x, int(p)) for p in path_indices]

    def full(self, x: Tensor) -> list[Tensor]:
        return self.select(x, range(2))

    def stream(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield from enumerate(self.full(x))
