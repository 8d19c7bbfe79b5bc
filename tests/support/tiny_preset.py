"""A preset of the sound-matching benchmark that trains in seconds."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.sound_matching.presets import PRESETS, Preset

TINY: Preset = replace(
    PRESETS["small"],
    name="tiny",
    n_train=24,
    n_val=8,
    n_test=8,
    n_samples=4096,
    n_grains=4,
    grain_samples=1024,
    max_slope=6.0,
    channels=4,
    dropout=0.5,  # so that resuming must restore the random state
    J=7,
    T=512,
    fft_sizes=(512, 128),
    epochs=3,
    batch_size=8,
)
