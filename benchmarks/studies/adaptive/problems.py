"""The two problems: the granular one of the sound matching benchmark, and chirplets in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.chirplet import Chirplet
from benchmarks.sound_matching.data import build_front_end, build_synth, make_splits
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.sound_matching.train import Experiment
from benchmarks.studies.accuracy.signals import normalized
from scrapl_jtfs import JTFSPath
from scrapl_jtfs.commands.granular import draw_grains

_LEVEL = 0.1
"""RMS of the granular textures, for which the gain of the encoder's front end is chosen."""


class ChirpletSynth(nn.Module):
    """Chirplets with the interface of GranularSynth: the seed of an example gives its onset.

    Onsets are whole samples, uniform within a sixteenth of the sound on either side of the middle. Sounds have the
    RMS of the textures, so that nothing can be read off the level. They are computed in double precision and
    returned in the dtype of theta.
    """

    def __init__(self, chirplet: Chirplet) -> None:
        super().__init__()
        self.chirplet, self.max_shift = chirplet, chirplet.n_samples // 16

    def shifts(self, seeds: Sequence[int]) -> Tensor:
        """(B,) samples, float64: a pure function of each seed."""
        uniform = np.array([draw_grains(seed, 1)[0, 0] for seed in seeds])
        return torch.from_numpy(np.floor(uniform * (2 * self.max_shift + 1)) - self.max_shift)

    def forward(self, theta: Tensor, seeds: Sequence[int]) -> Tensor:
        """(B, 2) and B seeds -> (B, n_samples)."""
        return (_LEVEL * normalized(self.chirplet(theta, self.shifts(seeds)))).to(theta.dtype)


@dataclass(frozen=True)
class Problem:
    """A problem: what is to be matched.

    Args:
        name: of the synthesizer.
        controls: names of the two entries of theta.
        preset: sizes, transform and training.
        smoothing: of the transform's moduli. Chirplets are clean sounds and leave sub-bands empty, where gradients
            are rounding noise in single precision, which P-Adam would blow up to updates of full size. Smoothed
            moduli are preferred to noise in the sounds here, as they leave the paper's sounds as they are.
            Textures fill their sub-bands and need neither.
        am, fm: ranges of the chirplet's rates in Hz and octaves per second, None for textures.
    """

    name: str
    controls: tuple[str, str]
    preset: Preset
    smoothing: float = 0.0
    am: tuple[float, float] | None = None
    fm: tuple[float, float] | None = None

    def build_synth(self) -> nn.Module:
        preset = self.preset
        if self.am is None or self.fm is None:
            return build_synth(preset)
        return ChirpletSynth(Chirplet(preset.n_samples, preset.sample_rate, self.am, self.fm, center=512.0))

    def transform(self, **options: Any) -> JTFSPath:
        return self.preset.transform(smoothing=self.smoothing, **options)


# A step takes 105 ms or more on a core. With 20 epochs instead of the preset's 30, and 12 for chirplets, which are
# learned sooner, the study of five seeds takes 90 minutes. The learning rate falls over the epochs there are.
_SMALL = PRESETS["small"]
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("granular", ("density", "slope"), replace(_SMALL, name="small-20-epochs", epochs=20)),
        Problem(
            "chirplet",
            ("am", "fm"),
            replace(_SMALL, name="small-12-epochs", epochs=12),
            smoothing=1e-4,
            am=(2.8, 8.4),
            fm=(4.0, 12.0),
        ),
    )
}


def quick(problem: Problem) -> Problem:
    """Four steps with a small transform: to see that everything runs."""
    sizes: dict[str, Any] = {"n_train": 16, "n_val": 8, "n_test": 8, "batch_size": 8, "epochs": 2}
    transform: dict[str, Any] = {"n_samples": 2048, "J": 7, "Q": (4, 1), "J_fr": 2}
    return replace(problem, preset=replace(problem.preset, name="quick", **sizes, **transform))


class ProblemExperiment(Experiment):
    """The sound matching experiment with the problem's synthesizer in the place of the preset's."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.preset, self.seed, self.device = problem.preset, seed, torch.device("cpu")
        self.problem, self.synth = problem, problem.build_synth()
        self.front_end = build_front_end(self.preset)
        self.train, self.val, self.test = make_splits(self.preset, seed, self.synth, self.front_end, self.device)
        self._objectives = {}
