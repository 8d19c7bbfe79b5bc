"""Transform of the commands that compare and match sounds."""

from __future__ import annotations

import math
import warnings

from scrapl_jtfs.transform import JTFSPath

__all__ = ["make_jtfs"]


def make_jtfs(n_samples: int, sample_rate: int, invariant: bool) -> JTFSPath:
    """Return a transform that hears textures: its wavelets last up to half a second, eight to an octave of pitch.

    Args:
        n_samples: the number N of samples.
        sample_rate: in Hz.
        invariant: True to average over the whole signal, False over half a second.
    """
    octaves = int(math.log2(min(n_samples, sample_rate / 2)))
    with warnings.catch_warnings():
        # It warns of averages that hear a signal's reflection, which a waveform shares with its recording.
        warnings.simplefilter("ignore", UserWarning)
        return JTFSPath(
            n_samples,
            J=octaves,
            Q=(8, 1),
            J_fr=3,
            T="global" if invariant else 2**octaves,
            F=8,
            sample_rate=sample_rate,
            orders=(1, 2),  # order 1 carries the spectrum
        )
