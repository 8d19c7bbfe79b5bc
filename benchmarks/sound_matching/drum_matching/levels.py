"""Where in their decays the matches of an arm are off: bands of level below the loudest frame, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from benchmarks.sound_matching.drum_matching.summary import spread
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.metrics import Framing
from benchmarks.sound_matching.metrics.decay_by_level import Band, decay_by_level


def levels_of(task: DrumTask, matches: Tensor) -> dict[str, Band]:
    """Divide the loudness distance of the decays of matches by the level of their targets.

    Args:
        task: with the seed of the run.
        matches: (n, n_samples), of the n drums of its test set.
    """
    rate = task.preset.sample_rate
    return decay_by_level(task.test_sounds.audio, matches, rate, framing=Framing.at(rate))


def summarize_levels(found: Sequence[Mapping[str, Band]]) -> dict[str, dict[str, Any]]:
    """Summarise the bands of several seeds: mean shares, spreads of errors and biases.

    Bands without a frame in any of the seeds are left out.
    """
    summary = {}
    for name in found[0]:
        bands = [one[name] for one in found if one[name].share]
        if bands:
            summary[name] = {
                "share": sum(band.share for band in bands) / len(found),
                "error": spread([band.error for band in bands]),
                "bias": spread([band.bias for band in bands]),
            }
    return summary
