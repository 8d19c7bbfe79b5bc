"""What the encoder sees, and its shape."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.sound_matching.data import build_front_end, build_synth
from benchmarks.sound_matching.encoder import Encoder, PaperEncoder
from benchmarks.sound_matching.front_end import LogCQT
from benchmarks.sound_matching.presets import PRESETS


@pytest.mark.parametrize("name", ["small", "paper"])
def test_cqt_peaks_at_the_bin_of_a_sine(name: str) -> None:
    preset = PRESETS[name]
    front_end = build_front_end(preset)
    assert len(front_end.frequencies) == 60
    assert front_end.frequencies[-1] < preset.sample_rate / 2
    time = torch.arange(preset.n_samples) / preset.sample_rate
    for k in (3, 24, 41, 58):
        spectrogram = front_end(0.1 * torch.sin(2 * np.pi * front_end.frequencies[k] * time)[None])
        assert spectrogram.shape == (1, 1, 60, preset.n_samples // preset.hop + 1)
        assert spectrogram[0, 0, :, spectrogram.shape[-1] // 2].argmax() == k


def test_cqt_follows_the_slope_of_a_grain() -> None:
    preset = PRESETS["paper"]
    synth, front_end = build_synth(preset), build_front_end(preset)
    for slope, sign in ((0.9, 1), (0.1, -1)):
        seen = front_end(synth(torch.tensor([[0.0, slope]]), [5]))[0, 0]
        energy, bins = seen.square(), torch.arange(60.0)[:, None]
        # the covariance of time and log-frequency around the loudest grain's frame
        loudest = int(energy.sum(0).argmax())
        frames = slice(max(loudest - 4, 0), loudest + 5)
        centroid = (energy * bins).sum(0)[frames] / energy.sum(0)[frames]
        assert sign * (centroid[-1] - centroid[0]) > 0


def test_front_end_gives_no_gradient_and_loads_quietly() -> None:
    audio = torch.randn(2, 4096, requires_grad=True)
    assert not LogCQT(8192, hop=128)(audio).requires_grad
    code = "import benchmarks.sound_matching.front_end as f; f.LogCQT(8192)"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""


def test_both_encoders_have_604_thousand_parameters() -> None:
    assert sum(p.numel() for p in Encoder().parameters()) == 604_169
    assert sum(p.numel() for p in PaperEncoder().parameters()) == 604_106  # that of the authors' program


def test_encoder_starts_at_chance_and_does_not_couple_examples() -> None:
    torch.manual_seed(0)
    encoder, seen = Encoder(8), torch.rand(4, 1, 60, 65)
    theta_hat = encoder(seen)
    assert theta_hat.shape == (4, 2)
    assert (theta_hat - 0.5).abs().max() < 0.05
    encoder.eval()
    torch.testing.assert_close(encoder(seen)[1:2], encoder(seen[1:2]))
    assert torch.equal(encoder(seen), encoder(seen))


def test_paper_encoder_sees_neither_the_level_nor_other_examples() -> None:
    torch.manual_seed(0)
    encoder, seen = PaperEncoder(8, dropout=0.0), torch.rand(4, 1, 60, 65)
    theta_hat = encoder(seen)
    assert theta_hat.shape == (4, 2)
    torch.testing.assert_close(encoder(3 * seen + 2), theta_hat, atol=1e-4, rtol=0)
    torch.testing.assert_close(encoder(seen)[1:2], encoder(seen[1:2]))


@pytest.mark.parametrize("kind", [Encoder, PaperEncoder])
def test_encoders_refuse_clips_that_pooling_would_use_up(kind: type[Encoder] | type[PaperEncoder]) -> None:
    with pytest.raises(ValueError, match="at least 32 bins and frames"):
        kind(8)(torch.rand(1, 1, 60, 17))
