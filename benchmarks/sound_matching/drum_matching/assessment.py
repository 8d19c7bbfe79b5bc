"""Encoders judged on unseen drums by every metric of the paper, with what renders their matches anew."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks.sound_matching.drum_matching.task import DrumTask, Recordings
from benchmarks.sound_matching.metrics import DrumMetrics, Embeddings, JTFSDistance, evaluate, load_embeddings
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.task import predict
from benchmarks.sound_matching.train import Experiment

# Of controls and of distances of single sounds, as they are kept.
_DIGITS = 6


def drum_metrics(preset: Preset) -> DrumMetrics:
    """Build the metrics of a preset: the full tree of its transform, and spectrograms of its sizes."""
    jtfs = JTFSDistance(preset.transform(), log1p_eps=preset.log1p_eps)
    return DrumMetrics(jtfs, preset.sample_rate, preset.fft_sizes)


class Judge:
    """Metrics, embeddings and test set of an experiment with drums, for any number of encoders.

    Args:
        experiment: of drums.

    Raises:
        TypeError: its task is another.
    """

    def __init__(self, experiment: Experiment) -> None:
        task, test = experiment.task, experiment.test
        if not isinstance(task, DrumTask) or not isinstance(test, Recordings):
            raise TypeError(f"Invalid experiment: of {type(task).__name__}; expected one of drums")
        self.task, self.test = task, test
        self.metrics: DrumMetrics = drum_metrics(experiment.preset)
        self.embeddings: Embeddings = load_embeddings()

    def __call__(self, encoder: nn.Module) -> dict[str, Any]:
        """Compare unseen drums with an encoder's matches, which have no shift.

        The full tree takes most of the time, a quarter of a second for each drum of the small preset.

        Returns:
            "test": means by metric and group of sounds; "sounds": names, kinds, guesses of the controls, and
            distances by metric; "left_out": a sentence for each Frechet distance whose package is not installed.
        """
        test = self.test
        theta = predict(encoder, test.spectrograms)
        matches = self.task.render(theta)
        found = evaluate(test.audio, matches, test.kinds, self.metrics, self.embeddings.loaded)
        return {
            "test": found.table(),
            "sounds": {
                "names": list(test.names),
                "kinds": list(test.kinds),
                "theta": [_rounded(row) for row in theta.tolist()],
                "distances": {name: _rounded(values) for name, values in found.values.items()},
            },
            "left_out": list(self.embeddings.left_out),
        }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
