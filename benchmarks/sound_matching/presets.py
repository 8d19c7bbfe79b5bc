"""The three configurations of the experiment, and the guard against mixing configurations in one run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from scrapl_jtfs import JTFSPath
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import CONFIGURATION, check_configuration
from scrapl_optim import PathAdamSAGA

_VERSION = 2  # raise it when the meaning of a configuration changes, e.g. the formulas of the synthesizer


@dataclass(frozen=True)
class Preset:
    """Everything that determines a result, except the seed. Frequencies in Hz, lengths in samples."""

    name: str
    # data: number of textures and their split
    n_train: int
    n_val: int
    n_test: int
    # synthesizer
    sample_rate: int
    n_samples: int
    n_grains: int
    grain_samples: int
    min_pitch: float
    max_pitch: float
    max_slope: float
    softness: float
    # constant-Q front end
    octaves: int
    bins_per_octave: int
    hop: int
    # encoder
    channels: int
    n_blocks: int
    embedding: int
    dropout: float
    # JTFS
    J: int
    Q: tuple[int, int]
    J_fr: int
    Q_fr: int
    T: int | Literal["global"]
    F: int
    # multi-resolution STFT
    fft_sizes: tuple[int, ...]
    # training
    epochs: int
    batch_size: int
    lr_scrapl: float
    lr_mss: float
    lr_p_loss: float
    final_lr: float
    betas: tuple[float, float]
    weight_decay: float

    @property
    def steps_per_epoch(self) -> int:
        return self.n_train // self.batch_size

    @property
    def n_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def lr_factor(self, step: int) -> float:
        """Learning rate of a step relative to the first: falls linearly to `final_lr`."""
        return 1.0 - (1.0 - self.final_lr) * step / self.n_steps

    def transform(self, **options: Any) -> JTFSPath:
        """Build the transform; further options are JTFSPath's."""
        names = ("J", "Q", "J_fr", "Q_fr", "T", "F", "sample_rate")
        return JTFSPath(self.n_samples, **{name: getattr(self, name) for name in names}, **options)

    def path_adam_saga(self, parameters: Iterable[nn.Parameter], n_paths: int, **options: Any) -> PathAdamSAGA:
        """Build the optimizer that SCRAPL is trained with; further options are PathAdamSAGA's."""
        rates: dict[str, Any] = {"lr": self.lr_scrapl, "betas": self.betas, "weight_decay": self.weight_decay}
        return PathAdamSAGA(parameters, n_paths=n_paths, **rates, **options)


# Table 10 of the paper. It leaves open max_slope (1.5 octaves per grain: 3444 Hz at most, below Nyquist) and
# softness. 5120 textures in 60% / 20% / 20%; one learning rate for all losses.
PAPER = Preset(
    name="paper",
    n_train=3072,
    n_val=1024,
    n_test=1024,
    sample_rate=8192,
    n_samples=32768,
    n_grains=64,
    grain_samples=4096,
    min_pitch=256.0,
    max_pitch=2048.0,
    max_slope=3.0,
    softness=1.0,
    octaves=5,
    bins_per_octave=12,
    hop=256,
    channels=128,
    n_blocks=5,
    embedding=64,
    dropout=0.5,
    J=12,
    Q=(8, 2),
    J_fr=3,
    Q_fr=2,
    T=4096,
    F=8,
    fft_sizes=(2048, 1024, 512, 256, 128, 64),
    epochs=200,
    batch_size=32,
    lr_scrapl=1e-5,
    lr_mss=1e-5,
    lr_p_loss=1e-5,
    final_lr=1.0,
    betas=(0.9, 0.999),
    weight_decay=0.01,
)

# One second of texture at half the rate and a narrow encoder, for minutes on two cores. T is the mean over the
# whole texture (not over its reflections, where rising grains fall). With one wavelet per octave of rate and scale
# there are 72 paths, each seen often enough within two thousand steps.
SMALL = replace(
    PAPER,
    name="small",
    n_train=1024,
    n_val=256,
    n_test=256,
    sample_rate=4096,
    n_samples=4096,
    n_grains=32,
    grain_samples=512,
    min_pitch=128.0,
    max_pitch=1024.0,
    max_slope=11.0,
    hop=64,
    channels=24,
    dropout=0.0,
    J=10,
    Q=(8, 1),
    Q_fr=1,
    T="global",
    fft_sizes=(512, 256, 128, 64),
    epochs=30,
    batch_size=16,
    lr_scrapl=5e-4,
    lr_mss=5e-4,
    lr_p_loss=1e-3,
    final_lr=0.1,
)

# A first look, and a check of an installation: textures half as long, 49 paths, 640 steps. So few find the slope
# (errors of 68 to 125 per mille over three seeds), and not yet the density (217 to 281): no result to quote.
QUICK = replace(
    SMALL,
    name="quick",
    n_val=128,
    n_test=128,
    n_samples=2048,
    n_grains=16,
    J=9,
    J_fr=2,
    epochs=10,
)

PRESETS = {preset.name: preset for preset in (QUICK, SMALL, PAPER)}


@dataclass(frozen=True)
class Usual:
    """The usual way to run a preset: CPU threads (None: torch's choice), and how long that takes.

    Not part of the configuration: results do not depend on it. Steps of the small presets are too small to gain
    from a second thread, and where another program has the core, threads that wait for each other cost a factor of
    ten.
    """

    threads: int | None
    duration: str


USUAL = {
    "quick": Usual(1, "usually 80 seconds"),
    "small": Usual(1, "usually 6 minutes"),
    "paper": Usual(None, "a day or more without a GPU"),
}


def configuration(preset: Preset, seed: int) -> dict[str, Any]:
    """JSON-like configuration of a run: tuples become lists, as they do when read back."""
    return json.loads(json.dumps({"version": _VERSION, "seed": seed, **asdict(preset)}))


def check_run_folder(folder: Path, preset: Preset, seed: int) -> None:
    """Claim an empty folder for this configuration, or refuse one that belongs to another."""
    wanted = configuration(preset, seed)
    check_configuration(folder, wanted)
    write_text(folder / CONFIGURATION, json.dumps(wanted, indent=2) + "\n")
