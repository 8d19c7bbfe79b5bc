"""The configurations of the experiment, and the guard against mixing configurations in one run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.sound_matching.encoder import Encoder, PaperEncoder
from benchmarks.sound_matching.synths import ChirpletSynth, DrumSynth, PaperChirplet, PaperGranular
from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import CONFIGURATION, check_configuration
from scrapl_optim import PathAdamSAGA

_VERSION = 2  # raise it when the meaning of a configuration changes, e.g. the formulas of the synthesizer


# Names of the entries of theta, by synthesizer.
_CONTROLS: dict[str, tuple[str, ...]] = {
    "granular": ("density", "slope"),
    "chirplet": ChirpletSynth.controls,
    "paper-granular": PaperGranular.controls,
    "paper-chirplet": PaperChirplet.controls,
    "drum": DrumSynth.controls,
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that determines a result, except the seed. Frequencies in Hz, lengths in samples.

    Settings with a default came later: ``configuration`` leaves them out where they have it.
    """

    name: str
    # data: number of examples and their split
    n_train: int
    n_val: int
    n_test: int
    # synthesizer: the package's, our chirplets, one of the two of the paper's authors, or drums for recordings
    synth: Literal["granular", "chirplet", "paper-granular", "paper-chirplet", "drum"] = "granular"
    sample_rate: int
    n_samples: int
    # of grains; the last two are the package's own
    n_grains: int | None = None
    grain_samples: int | None = None
    min_pitch: float | None = None
    max_pitch: float | None = None
    max_slope: float | None = None
    softness: float | None = None
    # of chirplets: ranges of their rates in Hz and octaves per second; and the largest shift, of drums as well
    am: tuple[float, float] | None = None
    fm: tuple[float, float] | None = None
    max_shift: int | None = None
    # constant-Q front end: the encoder sees log(1 + gain |CQT|)
    octaves: int
    bins_per_octave: int
    hop: int
    gain: float = 10.0
    # encoder: ours, or that of the paper's authors
    encoder: Literal["ours", "paper"] = "ours"
    channels: int
    n_blocks: int
    embedding: int
    dropout: float
    # bins and frames that each block makes one of, for the authors' encoder alone
    pooling: tuple[tuple[int, int], ...] | None = None
    # JTFS. Smoothed moduli are for clean sounds, which leave sub-bands empty: in single precision gradients are
    # rounding noise there, which P-Adam would blow up to updates of full size. Textures fill their sub-bands.
    J: int
    Q: tuple[int, int]
    J_fr: int
    Q_fr: int
    T: int | Literal["global"]
    F: int
    samples_per_bandwidth: float | None = None
    boundary: Literal["reflect", "even"] = "reflect"
    smoothing: float = 0.0
    # distance on a path: the paper writes P times the square, and its authors trained with the norm itself
    squared: bool = True
    path_scale: bool = True
    # of rho(s) = log(1 + s / eps), in the units of the coefficients; None for the coefficients themselves
    log1p_eps: float | None = None
    # multi-resolution STFT
    fft_sizes: tuple[int, ...]
    # training: the learning rate rises linearly over `warmup_steps`, and falls linearly to `final_lr` of itself
    epochs: int
    batch_size: int
    lr_scrapl: float
    lr_mss: float
    lr_p_loss: float
    final_lr: float
    warmup_steps: int = 0
    betas: tuple[float, float]
    weight_decay: float

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the entries of theta."""
        return _CONTROLS[self.synth]

    @property
    def is_of_recordings(self) -> bool:
        """Whether sounds to be matched are recordings, whose controls nobody knows."""
        return self.synth == "drum"

    @property
    def delay(self) -> int:
        """Samples by which drums come later where they are shifted, so that none loses its first samples."""
        return self.max_shift or 0

    @property
    def steps_per_epoch(self) -> int:
        return self.n_train // self.batch_size

    @property
    def n_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of a step, 0 being the first, relative to the preset's."""
        decay = 1.0 - (1.0 - self.final_lr) * step / self.n_steps
        return decay * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else decay

    def build_encoder(self) -> nn.Module:
        """Build the encoder with the initial weights that torch's generator gives it."""
        shape: dict[str, Any] = {"n_blocks": self.n_blocks, "embedding": self.embedding, "dropout": self.dropout}
        shape["n_parameters"] = len(self.controls)
        if self.encoder == "paper":
            encoder = PaperEncoder(self.channels, pooling=self.pooling, **shape)
            # Faster on a CPU. Other presets keep the rounding of their published results.
            if self.synth == "drum":
                encoder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            return encoder
        return Encoder(self.channels, **shape)

    def transform(self, **options: Any) -> JTFSPath:
        """Build the transform; further options are JTFSPath's."""
        names = ("J", "Q", "J_fr", "Q_fr", "T", "F", "sample_rate")
        names += ("samples_per_bandwidth", "boundary", "smoothing")
        return JTFSPath(self.n_samples, **{**{name: getattr(self, name) for name in names}, **options})

    def path_loss(self, jtfs: JTFSPath) -> JTFSPathLoss:
        """Build the distance on paths of a transform."""
        return JTFSPathLoss(jtfs, squared=self.squared, path_scale=self.path_scale, log1p_eps=self.log1p_eps)

    def path_adam_saga(self, parameters: Iterable[nn.Parameter], n_paths: int, **options: Any) -> PathAdamSAGA:
        """Build the optimizer that SCRAPL is trained with; further options are PathAdamSAGA's."""
        rates: dict[str, Any] = {"lr": self.lr_scrapl, "betas": self.betas, "weight_decay": self.weight_decay}
        return PathAdamSAGA(parameters, n_paths=n_paths, **rates, **options)


# The task of the paper's Table 10 with the authors' synthesizer. 5120 textures in 60% / 20% / 20%; one learning
# rate for all losses. Sounds have a 2-norm of one; the gain is the square root of their length.
PAPER = Preset(
    name="paper",
    n_train=3072,
    n_val=1024,
    n_test=1024,
    synth="paper-granular",
    sample_rate=8192,
    n_samples=32768,
    n_grains=64,
    grain_samples=4096,
    min_pitch=256.0,
    max_pitch=2048.0,
    octaves=5,
    bins_per_octave=12,
    hop=256,
    gain=181.0,
    encoder="paper",
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
    squared=False,
    path_scale=False,
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

# Table 11, with the ranges of the authors' program, which are not those that the paper prints: one octave each.
_PAPER_CHIRPLET = replace(
    PAPER,
    synth="paper-chirplet",
    n_grains=None,
    grain_samples=None,
    min_pitch=None,
    max_pitch=None,
    max_shift=2048,
    gain=4.0,
    epochs=50,
    lr_scrapl=1e-4,
    lr_mss=1e-4,
    lr_p_loss=1e-4,
)
_AM = {"lo": (0.99, 1.98), "hi": (3.96, 7.92)}
_FM = {"lo": (0.5, 1.0), "med": (2.0, 4.0), "hi": (8.0, 16.0)}
_RANGES = (("lo", "lo"), ("lo", "med"), ("hi", "med"), ("hi", "hi"))


def _chirplets(preset: Preset, prefix: str, rate: float) -> list[Preset]:
    """Return the paper's four ranges of AM and FM, `rate` times as fast."""
    return [
        replace(
            preset,
            name=f"{prefix}-chirplet-{am}-{fm}",
            am=(rate * _AM[am][0], rate * _AM[am][1]),
            fm=(rate * _FM[fm][0], rate * _FM[fm][1]),
        )
        for am, fm in _RANGES
    ]


# The paper's problems shrunk by eight in time, for minutes on a core: an eighth of all lengths, rates times eight,
# J less by three. Octaves, octaves per grain, modulation per sound and the shape of the path set (225 paths) stay.
# What does not belong to the problem is smaller: a narrow encoder without dropout, fewer sounds, small batches, a
# compact transform.
_SCALE = 8
_SCALED: dict[str, Any] = {
    "n_train": 1024,
    "n_val": 256,
    "n_test": 512,
    "n_samples": PAPER.n_samples // _SCALE,
    "hop": 64,
    "channels": 24,
    "dropout": 0.0,
    "J": 9,
    "T": 512,
    "samples_per_bandwidth": 2.0,
    "fft_sizes": (512, 256, 128, 64),
    "lr_scrapl": 1e-3,
    "lr_mss": 1e-3,
    "lr_p_loss": 1e-3,
}
SCALED = replace(PAPER, name="scaled", grain_samples=512, gain=64.0, epochs=64, batch_size=16, **_SCALED)
_SCALED_CHIRPLET = replace(_PAPER_CHIRPLET, max_shift=256, smoothing=1e-4, epochs=16, batch_size=8, **_SCALED)

# One second of texture at half the rate and a narrow encoder, for minutes on two cores. T is the mean over the
# whole texture (not over its reflections, where rising grains fall). With one wavelet per octave of rate and scale
# there are 72 paths, each seen often enough within two thousand steps.
SMALL = Preset(
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
    softness=1.0,
    octaves=5,
    bins_per_octave=12,
    hop=64,
    channels=24,
    n_blocks=5,
    embedding=64,
    dropout=0.0,
    J=10,
    Q=(8, 1),
    J_fr=3,
    Q_fr=1,
    T="global",
    F=8,
    fft_sizes=(512, 256, 128, 64),
    epochs=30,
    batch_size=16,
    lr_scrapl=5e-4,
    lr_mss=5e-4,
    lr_p_loss=1e-3,
    final_lr=0.1,
    betas=(0.9, 0.999),
    weight_decay=0.01,
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

# Table 12 of the paper: drums, matched by a synthesizer of 14 controls. n_train and so on are the paper's; a run
# splits the sounds that there are, in these proportions. The gain is one, as the table has log1p of the CQT. The
# shift, of matches in training alone, makes the difference of the paper's "meso" to its "micro".
DRUMS_PAPER = replace(
    PAPER,
    name="drums-paper",
    n_train=425,
    n_val=128,
    n_test=128,
    synth="drum",
    sample_rate=44100,
    n_samples=44100,
    n_grains=None,
    grain_samples=None,
    min_pitch=None,
    max_pitch=None,
    max_shift=0,
    octaves=9,
    gain=1.0,
    embedding=128,
    dropout=0.25,
    pooling=((2, 2), (2, 2), (2, 3), (3, 3), (3, 3)),
    J_fr=5,
    T=2048,
    F=1,
    log1p_eps=1e-3,
    epochs=50,
    batch_size=8,
    lr_scrapl=1e-4,
    lr_mss=1e-4,
    final_lr=0.1,
)
# The same at half the rate and for 0.74 s, with a narrow encoder: 1600 steps of 0.09 s on a core, where the
# paper's size takes 1.1 s. That costs the octave above 11 kHz, where hats have most of their noise, and the last
# quarter of a second, the end of long decays; lengths in samples are halved, so that they are as long in time.
# 52,274 weights of 724,642 are left, so that the rows of P-Adam and P-SAGA take 180 MB. The learning rate is
# ten times as high, and one for all losses, as in the paper. In half of the steps (one seed) validation fell to
# 1.71 with 1e-3 and 1.84 with 3e-4 for SCRAPL; in a fifth of them, to 1.10 and 1.32 for MSS. 3e-3 did not settle.
DRUMS_SMALL = replace(
    DRUMS_PAPER,
    name="drums-small",
    sample_rate=22050,
    n_samples=16384,
    octaves=8,
    hop=128,
    channels=24,
    embedding=64,
    J=11,
    T=1024,
    samples_per_bandwidth=2.0,
    fft_sizes=(1024, 512, 256, 128, 64, 32),
    lr_scrapl=1e-3,
    lr_mss=1e-3,
)

PRESETS = {
    preset.name: preset
    for preset in (
        QUICK,
        SMALL,
        SCALED,
        *_chirplets(_SCALED_CHIRPLET, "scaled", _SCALE),
        PAPER,
        *_chirplets(_PAPER_CHIRPLET, "paper", 1),
        DRUMS_SMALL,
        replace(DRUMS_SMALL, name="drums-small-meso", max_shift=1024),
        DRUMS_PAPER,
        replace(DRUMS_PAPER, name="drums-paper-meso", max_shift=2048),
    )
}


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
    **{name: Usual(1, "usually 3 to 12 minutes") for name in PRESETS if name.startswith("scaled")},
    **{
        name: Usual(None, "5 hours or more without a GPU") for name in PRESETS if name.startswith("paper-chirplet")
    },
    "paper": Usual(None, "a day or more without a GPU"),
    **{name: Usual(1, "usually 2 to 4 minutes a loss") for name in ("drums-small", "drums-small-meso")},
    **{name: Usual(1, "usually half an hour to an hour a loss") for name in ("drums-paper", "drums-paper-meso")},
}


def configuration(preset: Preset, seed: int, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON-like configuration of a run: tuples become lists, as they do when read back.

    A setting at its default is left out, so that folders from before it was one are still recognised.

    Args:
        preset: the settings.
        seed: of the run.
        data: what tells recordings from others, if sounds are recordings.
    """
    defaults = {field.name: field.default for field in fields(preset) if field.default is not MISSING}
    settings = {key: value for key, value in asdict(preset).items() if (key, value) not in defaults.items()}
    return json.loads(
        json.dumps({"version": _VERSION, "seed": seed, **settings, **({"data": data} if data else {})})
    )


def check_run_folder(folder: Path, preset: Preset, seed: int, data: Mapping[str, Any] | None = None) -> None:
    """Claim an empty folder for this configuration, or refuse one that belongs to another."""
    wanted = configuration(preset, seed, data)
    check_configuration(folder, wanted)
    write_text(folder / CONFIGURATION, json.dumps(wanted, indent=2) + "\n")
