"""What importance is computed of: the paper's synthesizers, encoders before training, and some examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.data import build_front_end, build_synth, synth_seeds
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.synths import PaperChirplet
from benchmarks.sound_matching.synths.chirplets import WIDTH, draw_shifts
from scrapl_jtfs import JTFSPath

# Controls of examples are drawn once for all cases, so that those of one problem hear the same sounds.
_N_DRAWN = 4096


class Case(NamedTuple):
    """One measurement.

    Attributes:
        name: in tables and of its folder.
        preset: name of the preset of the synthesizer, transform and encoder.
        n_examples: sounds to be matched.
        first: the first of them, of those that are drawn for the preset.
        n_heard: examples whose derivatives of the encoder are taken, each for its share of the others: before
            training they are much alike. 0 leaves the eigenvalues out.
        encoder: "paper" or "ours", as presets name them.
        seed: of the encoder's weights.
        fixed_width: whether chirplets are differentiated as the authors' are, whose window has a width that is
            read off the control as a number, through which no gradient goes.
    """

    name: str
    preset: str
    n_examples: int
    first: int = 0
    n_heard: int = 1
    encoder: Literal["paper", "ours"] = "paper"
    seed: int = 0
    fixed_width: bool = False


class Problem(NamedTuple):
    """What a case consists of, in float64.

    Attributes:
        jtfs: the transform.
        encoder: freshly made, in evaluation mode.
        features: what it hears of the sounds, (E, 1, bins, frames).
        sounds: to be matched, (E, N).
        controls: the encoder's answers, (E, U).
        synth: maps controls (B, U) and B seeds to sounds (B, N).
        seeds: of the matches, other than those of the sounds.
    """

    jtfs: JTFSPath
    encoder: nn.Module
    features: Tensor
    sounds: Tensor
    controls: Tensor
    synth: Callable[[Tensor, list[int]], Tensor]
    seeds: list[int]

    def play(self, theta: Tensor, rows: slice) -> Tensor:
        """Return the matches of some examples."""
        return self.synth(theta, self.seeds[rows])


def build_problem(case: Case, preset: Preset) -> Problem:
    """Make the problem of a case, whose preset this is."""
    synth, front_end = build_synth(preset), build_front_end(preset)
    torch.manual_seed(case.seed)
    encoder = replace(preset, encoder=case.encoder).build_encoder().double().eval()
    generator = torch.Generator().manual_seed(0)
    rows = slice(case.first, case.first + case.n_examples)
    theta = torch.rand(_N_DRAWN, 2, generator=generator, dtype=torch.float64)[rows]
    with torch.no_grad():
        sounds = synth(theta, synth_seeds(0, "target", case.first, case.n_examples))
        features = front_end(sounds.float()).double()
        controls = encoder(features)
    # Sounds of three or four octaves: what the compact transform leaves out is below 1e-3 of a path's distance.
    jtfs = preset.transform(samples_per_bandwidth=2.0).double()
    played = with_fixed_width(synth) if case.fixed_width else synth
    return Problem(
        jtfs, encoder, features, sounds, controls, played, synth_seeds(0, "match", case.first, case.n_examples)
    )


def with_fixed_width(synth: nn.Module) -> Callable[[Tensor, list[int]], Tensor]:
    """Return chirplets of the same samples whose window does not take part in derivatives."""
    if not isinstance(synth, PaperChirplet):
        raise ValueError(f"Invalid synth: {type(synth).__name__}; expected a PaperChirplet, which has a window")

    def play(theta: Tensor, seeds: list[int]) -> Tensor:
        low, high = synth.fm
        index = torch.arange(synth.n_samples, dtype=torch.float64) - draw_shifts(seeds, synth.max_shift)[:, None]
        time = (index - synth.n_samples / 2) / synth.sample_rate
        fm = low * (high / low) ** theta[:, 1, None].double()
        # One, with the derivatives of a window of the present width over those of the window.
        correction = torch.exp(0.5 * (time / WIDTH).square() * (fm.square() - fm.detach().square()))
        return (synth(theta, seeds).double() * correction).to(theta.dtype)

    return play
