"""The synthesizers of the experiment besides the package's GranularSynth, all with its interface.

A synth is called with theta (B, 2) in [0, 1], (B, 14) for drums, and B seeds, and gives (B, n_samples). Its seed
decides what must not matter: grains, noise or shifts.
"""

from __future__ import annotations

from benchmarks.sound_matching.synths.chirplets import ChirpletSynth, PaperChirplet
from benchmarks.sound_matching.synths.drums import DrumSynth
from benchmarks.sound_matching.synths.paper_granular import PaperGranular

__all__ = ["ChirpletSynth", "DrumSynth", "PaperChirplet", "PaperGranular"]
