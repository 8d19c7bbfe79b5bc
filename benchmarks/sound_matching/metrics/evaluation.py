"""Distances of a set of matches from their targets: of each sound, of each kind of drum, and of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.sound_matching.distances.embeddings import Embedding, load_embedding
from benchmarks.sound_matching.metrics.drum_metrics import DRUM_METRICS, DrumMetrics
from benchmarks.sound_matching.metrics.framing import as_pair
from benchmarks.sound_matching.metrics.frechet_distance import frechet_distance
from scrapl_jtfs.commands.audio import resample

ALL = "all"
"""Name of the group of all sounds, beside those of the kinds."""

FRECHET = "frechet_"
"""What the name of a Frechet distance begins with, before that of its embedding."""

FREE_EMBEDDINGS = ("aisfx", "crepe")
"""Embeddings whose weights come with their packages, the one for drums first."""

# Sounds whose spectra and embeddings are in memory at a time.
_BATCH = 16


class Embeddings(NamedTuple):
    """The embeddings that are installed.

    Attributes:
        loaded: by their names.
        left_out: a sentence for each that is not installed.
    """

    loaded: dict[str, Embedding]
    left_out: tuple[str, ...]


class Evaluation(NamedTuple):
    """Distances of matches from their targets; lower is better for all of them.

    Attributes:
        kinds: of the sounds.
        values: distances of the n sounds by the names in DRUM_METRICS.
        frechet: Frechet distances by "frechet_" and the name of the embedding, there by the group of sounds.
            Groups of fewer than two sounds have none.
    """

    kinds: tuple[str, ...]
    values: dict[str, list[float]]
    frechet: dict[str, dict[str, float]]

    def table(self) -> dict[str, dict[str, float]]:
        """Return means over the sounds of each group, by the names of metrics and groups.

        Frechet distances are of the whole group. The smaller a group, the larger they are, so groups cannot be
        compared with each other by them, but matches of one group can.
        """
        groups = groups_of(self.kinds)
        means = {
            name: {group: fmean(values[k] for k in index) for group, index in groups.items()}
            for name, values in self.values.items()
        }
        return {**means, **{name: dict(values) for name, values in self.frechet.items()}}


def groups_of(kinds: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of all sounds, and of those of each kind, kinds in alphabetical order."""
    by_kind = {kind: [k for k, other in enumerate(kinds) if other == kind] for kind in sorted(set(kinds))}
    return {ALL: list(range(len(kinds))), **by_kind}


def load_embeddings(names: Sequence[str] = FREE_EMBEDDINGS) -> Embeddings:
    """Load those embeddings that need no file of weights and whose packages are installed."""
    found = {name: _load(name) for name in names}
    left_out = [f"No Frechet distance over {name}: {why}" for name, why in found.items() if isinstance(why, str)]
    return Embeddings({name: one for name, one in found.items() if not isinstance(one, str)}, tuple(left_out))


def _load(name: str) -> Embedding | str:
    """Return an embedding, or why there is none."""
    try:
        return load_embedding(name)
    except ValueError as error:
        return str(error)


@torch.no_grad()
def evaluate(
    targets: Tensor,
    matches: Tensor,
    kinds: Sequence[str],
    metrics: DrumMetrics,
    embeddings: Mapping[str, Embedding] | None = None,
    onset: int | Tensor = 0,
) -> Evaluation:
    """Compare each match with its target, and the set of matches with the set of targets.

    Sounds are compared as they are. Where matches are shifted at random ("meso"), every metric counts the shift,
    that of the JTFS too, as its averages in time are shorter than the sound. To judge the timbre alone, render
    the matches without a shift, as the paper's authors do: in their program matches are shifted in training, and
    not in the test.

    Args:
        targets: (n, n_samples), full scale being 1.
        matches: the same.
        kinds: of the n sounds.
        metrics: of pairs; it has the sample rate.
        embeddings: by name, for Frechet distances. Where they tell frames, each frame is a member of the set.
        onset: sample at which the targets begin, one for all or (n,).

    Raises:
        TypeError: the sounds are not real floating-point tensors.
        ValueError: they do not fit each other or the metrics, are not finite, or kinds are not n.
    """
    as_pair(targets, matches)
    if len(kinds) != len(targets):
        raise ValueError(f"Invalid kinds: {len(kinds)} for {len(targets)} sounds; expected one for each")
    for name, sounds in (("targets", targets), ("matches", matches)):
        if not sounds.isfinite().all():
            raise ValueError(f"Invalid {name}: NaN or infinite; expected finite sounds; lower the learning rate")
    onsets = torch.as_tensor(onset).expand(len(targets))
    parts = [metrics(*some) for some in zip(*(x.split(_BATCH) for x in (targets, matches, onsets)), strict=True)]
    values = {name: torch.cat([part[name] for part in parts]).tolist() for name in DRUM_METRICS}
    frechet = {}
    for name, embedding in (embeddings or {}).items():
        members = [_embed(embedding, sounds, metrics.sample_rate) for sounds in (targets, matches)]
        frechet[FRECHET + name] = {
            group: frechet_distance(*(vectors[index].flatten(0, 1) for vectors in members))
            for group, index in groups_of(kinds).items()
            if len(index) > 1
        }
    return Evaluation(tuple(kinds), values, frechet)


def _embed(embedding: Embedding, sounds: Tensor, sample_rate: float) -> Tensor:
    """Return vectors (n, frames, d) of sounds (n, n_samples), with one frame where the embedding tells none."""
    rate = int(sample_rate)
    parts = [embedding(resample(part, rate, embedding.sample_rate)) for part in sounds.float().split(_BATCH)]
    vectors = torch.cat(parts)
    return vectors if vectors.ndim == 3 else vectors[:, None]
