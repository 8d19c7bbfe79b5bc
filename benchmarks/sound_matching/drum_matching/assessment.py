"""An encoder judged on unseen drums by every metric of the paper, with what renders its matches anew."""

from __future__ import annotations

from typing import Any

from benchmarks.sound_matching.drum_matching.task import Recordings, match_sounds
from benchmarks.sound_matching.metrics import DrumMetrics, JTFSDistance, evaluate, load_embeddings
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.task import predict
from benchmarks.sound_matching.train import Trainer

# Of controls and of distances of single sounds, as they are kept.
_DIGITS = 6


def drum_metrics(preset: Preset) -> DrumMetrics:
    """Build the metrics of a preset: the full tree of its transform, and spectrograms of its sizes."""
    jtfs = JTFSDistance(preset.transform(), log1p_eps=preset.log1p_eps)
    return DrumMetrics(jtfs, preset.sample_rate, preset.fft_sizes)


def assess(trainer: Trainer) -> dict[str, Any]:
    """Compare unseen drums with their matches, which have no shift.

    The full tree takes most of the time, a second for each drum of the small preset.

    Returns:
        "test": means by metric and group of sounds; "sounds": names, kinds, guesses of the controls, and distances
        by metric; "left_out": a sentence for each Frechet distance whose package is not installed.

    Raises:
        TypeError: the trainer is not one of drums.
    """
    test, embeddings = trainer.experiment.test, load_embeddings()
    matches = match_sounds(trainer, test)  # type: ignore[arg-type]
    assert isinstance(test, Recordings)
    found = evaluate(test.audio, matches, test.kinds, drum_metrics(trainer.experiment.preset), embeddings.loaded)
    theta = predict(trainer.encoder, test.spectrograms)
    return {
        "test": found.table(),
        "sounds": {
            "names": list(test.names),
            "kinds": list(test.kinds),
            "theta": [_rounded(row) for row in theta.tolist()],
            "distances": {name: _rounded(values) for name, values in found.values.items()},
        },
        "left_out": list(embeddings.left_out),
    }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
