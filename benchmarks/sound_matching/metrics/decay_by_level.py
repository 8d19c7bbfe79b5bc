"""The loudness distance of decays (paper, Table 9), divided by how loud the target is in each frame."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from benchmarks.sound_matching.metrics.framing import PAPER_FRAMING, Framing, as_pair
from benchmarks.sound_matching.metrics.loudness import loudness_above_floor

# In dB below the loudest frame. The last band has no lower end but silence.
_EDGES = (0.0, 20.0, 40.0, float("inf"))
# In dB above the floor: recordings are silent after their end, and most one-shots end early.
_SILENCE = 1.0

SILENCE = "silence"
"""Name of the band of frames in which the target has ended."""


class Band(NamedTuple):
    """Frames of the decay in which the target is about as loud.

    Attributes:
        share: of all frames of decays.
        error: mean absolute difference of loudness in dB; NaN without frames.
        bias: mean difference in dB, positive where matches are too loud; NaN without frames.
    """

    share: float
    error: float
    bias: float


def decay_by_level(
    target: Tensor, match: Tensor, sample_rate: float, *, framing: Framing = PAPER_FRAMING
) -> dict[str, Band]:
    r"""Divide the differences of loudness over decays among bands of the target's level.

    Bands are levels below the loudest frame of the same target, and silence: frames in which the target is less
    than 1 dB above the floor of the loudness, most of them after the end of a recording. What a match sounds there
    is too much, however little; hence the bias of that band is its error, or nearly.

    The mean over all frames is the mean of the bands' errors, weighted by their shares:

    .. math:: \frac{1}{B} \sum_b d_b = \sum_k s_k e_k

    with the distance d of the decay of each sound, shares s and errors e.

    Args:
        target: (B, n_samples), full scale being 1, from the onset on.
        match: the same.
        sample_rate: in Hz.
        framing: lengths and numbers of frames.

    Returns:
        Bands by name: "0 to 20" and so on, dB below the loudest frame, and SILENCE.

    Raises:
        TypeError: the sounds are not real floating-point tensors.
        ValueError: they do not fit each other, are not finite, or are too short for a frame of the decay; the
            sample rate is not positive.
    """
    for name, audio in (("target", target), ("match", match)):
        if not audio.isfinite().all():
            raise ValueError(f"Invalid {name}: NaN or infinite; expected finite sounds; lower the learning rate")
    ours, theirs = (loudness_above_floor(audio, sample_rate, framing=framing) for audio in as_pair(match, target))
    below = (theirs.amax(-1, keepdim=True) - theirs)[:, framing.transient :]
    silent = theirs[:, framing.transient :] < _SILENCE
    difference = (ours - theirs)[:, framing.transient :]
    bands = {_name(low, high): ~silent & (below >= low) & (below < high) for low, high in pairwise(_EDGES)}
    found = {}
    for name, inside in {**bands, SILENCE: silent}.items():
        some = difference[inside]
        found[name] = Band(float(inside.double().mean()), float(some.abs().mean()), float(some.mean()))
    return found


def _name(low: float, high: float) -> str:
    return f"{low:g} and more" if high == float("inf") else f"{low:g} to {high:g}"
