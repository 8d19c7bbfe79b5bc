"""Sounds of a run from its results alone: controls and seeds are enough to render them anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.files import tuples
from benchmarks.sound_matching.data import build_front_end, build_synth, synth_seeds
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.sound_matching.verdict import control_label


@dataclass(frozen=True)
class Sound:
    """One texture, target or match: values of its controls, audio (n_samples,), spectrogram (bins, frames)."""

    name: str
    label: str
    values: str
    audio: Tensor
    spectrogram: np.ndarray


@torch.no_grad()
def render_examples(results: dict[str, Any]) -> list[list[Sound]]:
    """For each texture under "examples": the target, then what each encoder makes of it, with other grains.

    Raises:
        ValueError: the results hold no such controls, or another version of this program wrote them.
    """
    if "examples" not in results:
        raise ValueError("Invalid results: no examples; expected controls of the textures shown; repeat the run")
    preset, seed = preset_of(results)
    synth, front_end = build_synth(preset), build_front_end(preset)
    columns = results["examples"]["theta"]
    rows: list[list[Sound]] = [[] for _ in columns["target"]]
    for name, theta in columns.items():
        label = "target" if name == "target" else results["losses"][name]["label"]
        audio = synth(torch.tensor(theta), _seeds(preset, seed, len(theta), is_target=name == "target"))
        spectrograms = front_end(audio)[:, 0].numpy()
        for row, values, samples, spectrogram in zip(rows, theta, audio, spectrograms, strict=True):
            told = [
                f"{control_label(key)} {value:.2f}" for key, value in zip(preset.controls, values, strict=True)
            ]
            row.append(Sound(name, label, ", ".join(told), samples, spectrogram))
    return rows


def preset_of(results: dict[str, Any]) -> tuple[Preset, int]:
    """Return the preset and the seed of the recorded configuration.

    Raises:
        ValueError: this program has settings of other names or meaning.
    """
    recorded = results["configuration"]
    fields = tuples(recorded)
    seed, version, data = (fields.pop(name, None) for name in ("seed", "version", "data"))
    try:
        preset = Preset(**fields)
    except TypeError:
        preset = None
    if preset is None or configuration(preset, seed, data) != recorded:
        raise ValueError(
            f"Invalid results: settings of version {version}; expected this program's; repeat the run"
        )
    return preset, seed


def _seeds(preset: Preset, seed: int, count: int, *, is_target: bool) -> list[int]:
    """Targets are the first test textures."""
    if is_target:
        return synth_seeds(seed, "target", preset.n_train + preset.n_val, count)
    return synth_seeds(seed, "report", 0, count)
