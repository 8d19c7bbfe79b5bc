"""Two of the three studies: compact transforms against the exact one, and smoothed moduli in single precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.studies.accuracy.measures import PAPER, Answer, Settings, answers, compare, path_ids
from benchmarks.studies.accuracy.signals import CLEAN_SOUNDS, SOUNDS, Pair
from scrapl_jtfs import JTFSPath

Record = dict[str, Any]
"""A comparison: what was compared with what, and the errors of "coefficients", "gradient" and "value"."""

_SCALE = 1.7


def _record(keys: Record, found: Sequence[Answer], wanted: Sequence[Answer]) -> Record:
    return {**keys, **{what: asdict(errors) for what, errors in compare(found, wanted).items()}}


def rounded_answers(jtfs: JTFSPath, pair: Pair, paths: Sequence[int]) -> list[Answer]:
    """Evaluate in double precision with other rounding errors: on both sounds times 1.7, undone afterwards.

    The transform is homogeneous, smoothed or not, so that only rounding tells these from :func:`answers`.
    """
    scaled = answers(jtfs, (_SCALE * pair[0], _SCALE * pair[1]), paths)
    return [Answer(a.coefficients / _SCALE, a.value / _SCALE**2, a.gradient / _SCALE) for a in scaled]


@dataclass(frozen=True)
class Selection:
    """A selection of what to measure: all by default, less for a quick look."""

    settings: Settings = PAPER
    samples_per_bandwidth: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0)
    smoothing: tuple[float, ...] = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    second: tuple[float, ...] = (1.0,)
    every: int = 1

    def paths(self, jtfs: JTFSPath) -> list[int]:
        return path_ids(jtfs)[:: self.every]


def study_compact(selection: Selection) -> Iterator[Record]:
    """Distances from the exact transform in double precision.

    Records carry `sound` and `variant`: "float64, other rounding", "float32", or the samples per bandwidth.
    """
    n = selection.settings.n_samples
    exact = selection.settings.build()
    paths = selection.paths(exact)
    pairs = {sound: make(n) for sound, make in SOUNDS.items()}
    wanted = {sound: answers(exact, pair, paths) for sound, pair in pairs.items()}
    for sound, pair in pairs.items():
        other = rounded_answers(exact, pair, paths)
        yield _record({"sound": sound, "variant": "float64, other rounding"}, other, wanted[sound])
    for sound, pair in pairs.items():
        single = answers(exact, pair, paths, torch.float32)
        yield _record({"sound": sound, "variant": "float32"}, single, wanted[sound])
    for samples in selection.samples_per_bandwidth:
        compact = selection.settings.build(samples_per_bandwidth=samples)
        for sound, pair in pairs.items():
            keys = {"sound": sound, "variant": samples}
            yield _record(keys, answers(compact, pair, paths), wanted[sound])


def study_smoothing(selection: Selection) -> Iterator[Record]:
    """Distances of single from double precision at equal eps, and in double precision from eps = 0.

    Records carry `sound`, `smoothing`, `second` (eps of the second layer over that of the first) and `against`:
    "float64" or "eps = 0". Sounds are rounded to single
    precision first, so that both precisions hear the same.
    """
    n = selection.settings.n_samples
    pairs: dict[str, Pair] = {}
    for sound, make in CLEAN_SOUNDS.items():
        x, y = make(n)
        pairs[sound] = (x.float().double(), y.float().double())
    sharp = selection.settings.build()
    paths = selection.paths(sharp)
    wanted = {sound: answers(sharp, pair, paths) for sound, pair in pairs.items()}
    for second, eps in itertools.product(selection.second, selection.smoothing):
        jtfs = selection.settings.build(smoothing=eps, second=second)
        for sound, pair in pairs.items():
            double = answers(jtfs, pair, paths)
            single = answers(jtfs, pair, paths, torch.float32)
            keys = {"sound": sound, "smoothing": eps, "second": second}
            yield _record({**keys, "against": "float64"}, single, double)
            if eps:
                yield _record({**keys, "against": "eps = 0"}, double, wanted[sound])


SMALL = Settings(8192, 10, 1024)
"""A quarter of the paper's length, for whatever is done many times."""

LAYERS = Selection(settings=SMALL, smoothing=(1e-4, 1e-3), second=(1.0, 0.1, 0.01, 0.001, 0.0))
"""The second layer's eps apart from the first's."""


def quick(selection: Selection) -> Selection:
    """A quarter of the paths and of the length, and few settings."""
    return replace(
        selection,
        settings=SMALL,
        samples_per_bandwidth=(2.0, 4.0),
        smoothing=selection.smoothing[::3],
        second=selection.second[::2],
        every=4,
    )
