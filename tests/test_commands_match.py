"""Matching one recording: reading it, both modes, and everything that can be wrong with a file."""

from __future__ import annotations

import builtins
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from scrapl_jtfs._resynthesis import by_paths
from scrapl_jtfs.commands import audio, main
from scrapl_jtfs.commands import match as command
from scrapl_jtfs.commands._match import fit
from scrapl_jtfs.commands._match.fit import GRANULAR, Target, descend, eval_seeds
from scrapl_jtfs.commands._match.models import Grains
from scrapl_jtfs.commands._match.texture import TEXTURE, fit_waveform
from scrapl_jtfs.commands.audio import LEVEL, Recording, read_recording, resample
from scrapl_jtfs.commands.match import match
from scrapl_jtfs.commands.transforms import make_jtfs

RATE = 4096
FILES = {"config.json", "match.wav", "target.wav", "report.png", "result.json"}


def as_recording(samples: Tensor) -> Recording:
    return Recording(samples, RATE, 1.0, "", ())


def bursts(n: int) -> np.ndarray:
    """Clicks of noise that ring: far from stationary noise of the same spectrum."""
    rng = np.random.default_rng(0)
    envelope = np.exp(-(np.arange(n) % (n // 8)) / 100.0)
    return 0.3 * envelope * rng.standard_normal(n)


def write_wav(path: Path, seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> Path:
    samples = bursts(round(seconds * rate))
    soundfile.write(path, np.stack([samples] * channels, -1), rate)
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "sound.wav")


def run(file: Path, out: Path, *extra: str, mode: str = "texture") -> int:
    name = {"texture": "resynthesize", "granular": "match"}[mode]
    return main([name, str(file), "--out", str(out), "--rate", str(RATE), "--seconds", "0.5", *extra])


# --- the descents ---


@pytest.mark.parametrize(("method", "steps", "factor"), [("paths", 300, 5), ("lbfgs", 30, 20)])
def test_a_texture_comes_many_times_nearer_to_its_recording(method: Any, steps: int, factor: float) -> None:
    y = torch.from_numpy(bursts(4096)).float()
    y *= LEVEL / y.square().mean().sqrt()
    settings = TEXTURE._replace(steps=steps, sample_rate=RATE, method=method)
    target = Target(make_jtfs(4096, RATE, False), y)
    start, sound, history = fit_waveform(target, y, settings, seed=0)
    assert [step for step, _ in history.curve] == list(range(0, steps + 1, 30 if method == "paths" else 1))
    assert history.curve[-1][1][0] < history.curve[0][1][0] / factor
    for x, errors in ((start, history.curve[0][1]), (sound, history.curve[-1][1])):
        assert errors == pytest.approx(target.relative_error(x[None, None]).tolist(), rel=1e-4)
    before, after = (target.median_path_error(x[None, None]) for x in (start, sound))
    assert after < before / 2


@pytest.mark.parametrize(("slope", "pairs"), [(0.2, False), (0.8, False), (0.2, True)])
def test_grains_recover_the_direction_of_a_synthetic_texture(slope: float, pairs: bool) -> None:
    n = 8192
    rendered = Grains(as_recording(torch.randn(n, generator=torch.Generator().manual_seed(0)) * LEVEL))
    with torch.no_grad():
        y = rendered.synth(torch.tensor([[0.8, slope]]), [7])[0]
    settings = GRANULAR._replace(steps=60, seeds=2, eval_seeds=4, evaluations=1, sample_rate=RATE, pairs=pairs)
    target, model = Target(make_jtfs(n, RATE, True), y), Grains(as_recording(y))
    history = descend(target, model, settings, seed=0)
    theta = model.theta[history.best].detach()
    assert (theta[1] - 0.5) * (slope - 0.5) > 0.02
    assert history.curve[-1][1][history.best] < 0.7 * min(history.curve[0][1])
    physical = model.physical(theta)
    assert physical["octaves_per_second"] == pytest.approx(8 * (2 * float(theta[1]) - 1), rel=1e-6)
    assert physical["grains_per_second"] == pytest.approx(64 ** float(theta[0]) / 2, rel=1e-6)


def test_the_error_is_that_of_the_definition() -> None:
    x, y = torch.randn(2, 3, 2048), torch.randn(2048)
    target = Target(make_jtfs(2048, RATE, True), y)
    ours = target.relative_error(x)
    for k in range(2):
        pairs = [(a.mean(0), b) for a, b in zip(target.jtfs.full(x[k]), target.jtfs.full(y), strict=True)]
        expected = sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs)
        torch.testing.assert_close(ours[k], torch.as_tensor(expected).sqrt())
    assert float(target.relative_error(y[None, None])) == 0.0


def test_pairs_of_seeds_have_the_distance_to_the_mean_over_all_seeds_as_their_mean() -> None:
    """Where three are equally likely; the distance of the mean of two seeds has half of the variance on top."""
    y = torch.randn(2048).double()
    target = Target(make_jtfs(2048, RATE, True).double(), y)
    phi = target.jtfs(torch.randn(1, 3, 2048).double(), 5)
    draws = [phi[:, list(pair)] for pair in itertools.product(range(3), repeat=2)]
    pairs, means = (
        torch.stack([target.distance(draw, 5, pairs=pairs) for draw in draws]).mean() for pairs in (True, False)
    )
    exact = target.distance(phi, 5)[0]
    torch.testing.assert_close(pairs, exact, rtol=1e-10, atol=0)
    variance = phi.var(1, correction=0).sum() / target.energy.sum()
    torch.testing.assert_close(means, exact + variance / 2, rtol=1e-10, atol=0)


def test_evaluations_hear_grains_that_no_step_hears() -> None:
    settings = GRANULAR
    steps = {s for step in range(1000) for s in fit.step_seeds(3, step, settings.seeds)}
    assert len(steps) == 1000 * settings.seeds
    assert not steps & set(eval_seeds(3, settings))


def test_doubts_are_told() -> None:
    grains = Grains(as_recording(torch.randn(4096) * LEVEL))
    with torch.no_grad():
        grains.logit.copy_(torch.logit(torch.tensor([[0.5, 0.01], [0.5, 0.9]])))
    slope, signs = grains.doubts(0)
    assert "slope is at the end" in slope
    assert "opposite signs" in signs
    assert len(grains.doubts(1)) == 1
    assert "does not determine theta" in fit.fall_doubts(0.01, 0.02)[0]
    assert fit.fall_doubts(0.05, 0.02) == []


def test_the_fall_of_the_error_is_judged_by_groups_of_seeds() -> None:
    x, y = torch.randn(2, 8, 2048), torch.randn(2048)
    target = Target(make_jtfs(2048, RATE, True), y)
    assert target.fall(x[0], x[0]) == (0.0, 0.0)
    falls = [
        float(target.relative_error(x[0, k : k + 2][None]) - target.relative_error(x[1, k : k + 2][None]))
        for k in range(0, 8, 2)
    ]
    assert target.fall(x[0], x[1]) == pytest.approx((np.mean(falls), np.std(falls, ddof=1) / 2), abs=1e-6)


# --- reading ---


@pytest.mark.parametrize(("rate_in", "rate_out"), [(11025, 4096), (4096, 11025), (44100, 8192), (4096, 4096)])
def test_resampling_keeps_a_tone(rate_in: int, rate_out: int) -> None:
    def tone(rate: int) -> Tensor:
        t = torch.arange(rate, dtype=torch.float64) / rate
        return torch.sin(2 * torch.pi * 300 * t) * torch.exp(-(((t - 0.5) / 0.08) ** 2))

    ours = resample(tone(rate_in), rate_in, rate_out)
    torch.testing.assert_close(ours, tone(rate_out), atol=1e-9, rtol=0)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_stereo_of_another_rate_is_mixed_and_resampled(tmp_path: Path, suffix: str) -> None:
    t = np.arange(22050) / 22050
    left, right = 0.5 * np.sin(2 * np.pi * 440 * t), 0.25 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / f"a.{suffix}", np.stack([left, right], -1), 22050)
    ours = read_recording(tmp_path / f"a.{suffix}", RATE, 0.5)
    assert ours.samples.shape == (2048,)
    assert float(ours.samples.square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-5)
    expected = 0.375 * np.sin(2 * np.pi * 440 * np.arange(2048) / RATE)
    # the middle: a sine that begins at once rings at the edge of the file
    np.testing.assert_allclose((ours.samples * ours.gain)[200:].numpy(), expected[200:], atol=2e-3)
    assert ours.notes[:2] == ("2 channels averaged to mono", "resampled from 22050 Hz to 4096 Hz")
    assert "cropped to 2048 samples = 0.5 s" in ours.notes[2]


def test_a_short_recording_is_padded_and_says_so(tmp_path: Path) -> None:
    ours = read_recording(write_wav(tmp_path / "a.wav", seconds=0.4), RATE, 4.0)
    assert ours.samples.shape == (2048,)
    assert not ours.samples[1639:].any()
    assert "the last 0.100 s of them zeros" in ours.notes[2]


def test_start_skips(wav: Path) -> None:
    whole, late = read_recording(wav, RATE, 0.5), read_recording(wav, RATE, 0.25, start=0.25)
    expected = whole.samples[1024:] * whole.gain
    torch.testing.assert_close(late.samples * late.gain, expected - expected.mean())


# --- what is written ---


@pytest.mark.parametrize(("mode", "options"), [("texture", []), ("texture", ["--method=lbfgs"]), ("granular", [])])
def test_a_match_writes_everything(
    tmp_path: Path, wav: Path, mode: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(wav, out, "--steps", "4", "--seed", "1", *options, mode=mode) == 0
    assert {path.name for path in out.iterdir()} == FILES
    result = json.loads((out / "result.json").read_text())
    assert result["configuration"]["mode"] == mode
    assert (result["steps_done"], result["interrupted"]) == (4, False)
    assert result["versions"]["torch"] == torch.__version__
    assert ("theta" in result) == (mode == "granular")
    original, _ = soundfile.read(wav)
    target, rate = soundfile.read(out / "target.wav")
    sound, _ = soundfile.read(out / "match.wav")
    assert rate == RATE
    np.testing.assert_allclose(target, original - original.mean(), atol=1e-6)  # its own level again
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(np.sqrt(np.mean(target**2)), rel=0.2)
    printed = capsys.readouterr().out
    assert "Relative JTFS error" in printed
    assert ("octaves per second" in printed) == (mode == "granular")
    # The same settings: written anew.
    assert run(wav, out, "--steps", "4", "--seed", "1", *options, mode=mode) == 0
    np.testing.assert_array_equal(soundfile.read(out / "match.wav")[0], sound)


def test_ctrl_c_keeps_what_there_is(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, steps = by_paths.gradient, itertools.count()

    def interrupted(*arguments: Any) -> Tensor:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(by_paths, "gradient", interrupted)
    assert run(wav, tmp_path / "out") == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["steps_done"], result["interrupted"]) == (3, True)
    assert result["error_curve"][-1]["step"] == 3
    assert "Interrupted after 3 steps" in capsys.readouterr().err


def test_ctrl_c_before_the_first_step_writes_nothing(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "make_target", interrupted)
    assert run(wav, tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_configuration_is_refused(
    tmp_path: Path, wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(wav, out, "--steps", "2") == 0
    before = (out / "result.json").read_text()
    assert run(wav, out, "--steps", "3") == 2
    message = capsys.readouterr().err
    assert "steps: 2 there, 3 now" in message
    assert "choose another --out" in message
    assert (out / "result.json").read_text() == before
    assert run(wav, wav, "--steps", "2") == 2
    assert "expected a folder, not a file" in capsys.readouterr().err


# --- what can be wrong ---


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    samples = {
        "empty": np.zeros(0),
        "silent": np.zeros(4096),
        "nan": np.where(np.arange(4096) == 2048, np.nan, 0.1),
        "short": np.full(500, 0.1),
        "cancelled": np.stack([bursts(4096), -bursts(4096)], -1),
    }.get(kind)
    if samples is not None:
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    elif kind == "text":
        path.write_text("no audio at all")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("text", "cannot be read as audio"),
        ("empty", "empty audio, it holds no samples"),
        ("silent", "silence"),
        ("cancelled", "after the mix to mono"),
        ("nan", "1 samples are NaN or infinite, the first at 0.500 s"),
        ("short", "too short, 0.122 s"),
    ],
)
def test_unusable_files(tmp_path: Path, kind: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = bad_file(tmp_path, kind), tmp_path / "out"
    assert run(path, out) == 2
    message = capsys.readouterr().err
    assert said in message
    assert path.name in message
    assert not out.exists()
    with pytest.raises(ValueError, match=kind):  # the file's name
        match(path, "texture", out, rate=RATE, seconds=1.0)


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"seconds": 0.0}, {"start": -1.0}, {"rate": 100}, {"seed": -1}, {"start": 9.0}]
)
def test_settings_out_of_range(tmp_path: Path, wav: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        match(wav, "texture", tmp_path / "out", **settings)
    with pytest.raises(ValueError, match="expected one of texture, granular"):
        match(wav, "other", tmp_path / "out")
    method: Any
    for mode, method in (("texture", "adam"), ("granular", "lbfgs")):
        with pytest.raises(ValueError, match="Invalid method"):
            match(wav, mode, tmp_path / "out", method=method)


def test_without_soundfile(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "soundfile":
            raise ImportError("No module named 'soundfile'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'scrapl-jtfs\[audio\]'"):
        audio.read_recording(wav, RATE, 0.5)
    assert run(wav, tmp_path / "out") == 2
    assert "soundfile" in capsys.readouterr().err
