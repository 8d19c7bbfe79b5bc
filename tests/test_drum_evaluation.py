"""Evaluation of matched drums: zero for equal sounds, means by hand, Frechet distances by SciPy, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from torch import Tensor

from benchmarks.sound_matching.metrics import (
    ALL,
    DRUM_METRICS,
    DrumMetrics,
    JTFSDistance,
    evaluate,
    evaluation,
    groups_of,
    load_embeddings,
)
from benchmarks.sound_matching.synths import DrumSynth
from scrapl_jtfs import JTFSPath

RATE, N_SAMPLES, N_SOUNDS = 8000, 6000, 18
KINDS = ("tom", "snare", "tom") + ("bass drum",) * (N_SOUNDS - 3)


class BlockPeaks:
    """An embedding of six peaks for each of four blocks, at a rate of its own."""

    name, sample_rate = "peaks", 4000

    def __call__(self, audio: Tensor) -> Tensor:
        return audio[:, :2880].reshape(len(audio), 4, 6, 120).abs().amax(-1)


class Levels:
    """An embedding of two levels of the whole sound."""

    name, sample_rate = "levels", RATE

    def __call__(self, audio: Tensor) -> Tensor:
        return torch.stack([audio.abs().mean(1), audio.square().mean(1)], 1)


EMBEDDINGS = {"peaks": BlockPeaks(), "levels": Levels()}


def drums(seed: int) -> Tensor:
    theta = torch.rand(N_SOUNDS, 14, generator=torch.Generator().manual_seed(seed))
    return DrumSynth(N_SAMPLES, RATE)(theta, range(N_SOUNDS))


@pytest.fixture(scope="module")
def metrics() -> DrumMetrics:
    jtfs = JTFSPath(N_SAMPLES, J=7, Q=(2, 1), J_fr=2, T=512, sample_rate=RATE, samples_per_bandwidth=2.0)
    return DrumMetrics(JTFSDistance(jtfs), RATE, (256, 64))


def test_a_match_that_is_its_target_has_distance_zero(metrics: DrumMetrics) -> None:
    table = evaluate(drums(0), drums(0), KINDS, metrics, EMBEDDINGS).table()
    assert list(table) == [*DRUM_METRICS, "frechet_peaks", "frechet_levels"]
    for name, groups in table.items():
        # The Frechet distance is a difference of equal sums; FFTs of a batch round by the place in it.
        limit = {"jtfs": 1e-6, "frechet_peaks": 1e-10, "frechet_levels": 1e-10}.get(name, 0.0)
        assert max(map(abs, groups.values())) <= limit, name


def test_values_are_those_of_the_metrics_and_means_are_over_groups(metrics: DrumMetrics) -> None:
    targets, matches = drums(0), drums(1)
    found = evaluate(targets, matches, KINDS, metrics, onset=100)
    single = [metrics(targets[k : k + 1], matches[k : k + 1], 100) for k in range(N_SOUNDS)]
    table = found.table()
    for name in DRUM_METRICS:
        by_hand = np.array([float(values[name]) for values in single])
        assert by_hand.min() > 0
        np.testing.assert_allclose(found.values[name], by_hand, rtol=1e-4)  # single precision in other batches
        means = {ALL: by_hand.mean(), "bass drum": by_hand[3:].mean(), "snare": by_hand[1]}
        means["tom"] = by_hand[[0, 2]].mean()
        assert list(table[name]) == [ALL, "bass drum", "snare", "tom"]
        assert table[name] == pytest.approx(means, rel=1e-4)


def frechet_by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * np.real(root)))


def test_frechet_distances_take_frames_as_members_and_groups_of_two_or_more(metrics: DrumMetrics) -> None:
    targets, matches = drums(0), drums(1)
    table = evaluate(targets, matches, KINDS, metrics, EMBEDDINGS).table()
    levels = [EMBEDDINGS["levels"](sounds).double().numpy() for sounds in (targets, matches)]
    assert table["frechet_levels"][ALL] == pytest.approx(frechet_by_scipy(*levels), rel=1e-4)
    assert set(table["frechet_levels"]) == {ALL, "bass drum", "tom"}
    # Every second sample of sounds without their upper half, up to the edge of the filter.
    low = [scipy_halved(sounds) for sounds in (targets, matches)]
    peaks = [np.abs(x[:, :2880].reshape(-1, 6, 120)).max(-1) for x in low]
    assert table["frechet_peaks"][ALL] == pytest.approx(frechet_by_scipy(*peaks), rel=0.02)


def scipy_halved(sounds: Tensor) -> np.ndarray:
    padded = np.pad(sounds.double().numpy(), ((0, 0), (0, 2000)))
    return np.asarray(scipy.signal.resample(padded, 4000, axis=1))


def test_a_shift_counts_in_every_metric(metrics: DrumMetrics) -> None:
    targets = drums(0)
    late = torch.nn.functional.pad(targets, (300, -300))
    table = evaluate(targets, late, KINDS, metrics).table()
    assert all(table[name][ALL] > 0 for name in DRUM_METRICS)


def test_groups() -> None:
    assert groups_of(["b", "a", "b"]) == {"all": [0, 1, 2], "a": [1], "b": [0, 2]}


def test_embeddings_that_are_not_installed_are_left_out_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        if name == "crepe":
            raise ValueError("Invalid embedding: no package torchcrepe; expected it to be installed")
        return EMBEDDINGS["levels"]

    monkeypatch.setattr(evaluation, "load_embedding", load)
    found = load_embeddings()
    assert list(found.loaded) == ["aisfx"]
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("No Frechet distance over crepe: Invalid embedding: no package torchcrepe")


def test_bad_sounds(metrics: DrumMetrics) -> None:
    sounds = drums(0)
    with pytest.raises(ValueError, match="Invalid kinds: 2 for 18 sounds"):
        evaluate(sounds, sounds, ("tom", "tom"), metrics)
    broken = sounds.clone()
    broken[3, 5] = float("nan")
    with pytest.raises(ValueError, match="Invalid matches: NaN or infinite"):
        evaluate(sounds, broken, KINDS, metrics)
    with pytest.raises(ValueError, match="Invalid target and match"):
        evaluate(sounds, sounds[:4], KINDS, metrics)
