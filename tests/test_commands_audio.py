"""Reading recordings: what is no sound is not measured, what is lost is told, and files may be of any size."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from scrapl_jtfs.commands.audio import LEVEL, MAX_RATE, read_recording

RATE = 16384
ROOT = Path(__file__).parents[1]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n) * 0.05


def save(path: Path, samples: np.ndarray, rate: int = 48000, subtype: str = "DOUBLE") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


# --- offsets ---


@pytest.mark.parametrize("rate", [48000, 44101, RATE, 8000])
@pytest.mark.parametrize("start", [0.0, 0.31])
@pytest.mark.parametrize("offset", [1e-4, 0.1, -0.4, 30.0])
def test_an_offset_changes_nothing(tmp_path: Path, rate: int, start: float, offset: float) -> None:
    sound = noise(rate)
    plain = read_recording(save(tmp_path / "a.wav", sound, rate), RATE, 0.5, start)
    moved = read_recording(save(tmp_path / "b.wav", sound + offset, rate), RATE, 0.5, start)
    torch.testing.assert_close(moved.samples, plain.samples, rtol=0, atol=1e-6)
    assert moved.gain == pytest.approx(plain.gain, rel=1e-9)
    assert moved.lost_energy == pytest.approx(plain.lost_energy, abs=1e-9)
    assert float(moved.samples.square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-5)
    assert float(moved.samples.mean()) == pytest.approx(0.0, abs=1e-8)
    told = any("offset" in note for note in moved.notes)
    assert told == (abs(offset) > 1e-2)


def test_offsets_of_channels_change_nothing(tmp_path: Path) -> None:
    sound = np.stack([noise(24000), noise(24000, 1)], -1)
    plain = read_recording(save(tmp_path / "a.wav", sound), RATE, 0.25)
    moved = read_recording(save(tmp_path / "b.wav", sound + np.array([0.5, -0.1])), RATE, 0.25)
    torch.testing.assert_close(moved.samples, plain.samples, rtol=0, atol=1e-6)


def test_zeros_behind_a_short_recording_hold_no_offset(tmp_path: Path) -> None:
    recording = read_recording(save(tmp_path / "a.wav", noise(round(0.4 * RATE)) + 0.3, RATE), RATE, 4.0)
    assert recording.samples.shape == (8192,)
    assert not recording.samples[round(0.4 * RATE) :].any()
    assert float(recording.samples.mean()) == pytest.approx(0.0, abs=1e-8)
    assert float(recording.samples.square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-5)


def test_an_offset_that_begins_behind_the_crop_is_none(tmp_path: Path) -> None:
    sound = noise(2 * RATE)
    later = sound + 0.4 * (np.arange(2 * RATE) >= RATE)
    plain = read_recording(save(tmp_path / "a.wav", sound, RATE), RATE, 1.0)
    recording = read_recording(save(tmp_path / "b.wav", later, RATE), RATE, 1.0)
    torch.testing.assert_close(recording.samples, plain.samples, rtol=0, atol=1e-6)


# --- silence ---


def out_of_phase(bits: int, n: int = 24000) -> np.ndarray:
    """What a file of whole steps makes of a sound and its negative: they cancel to half a step, or nearly."""
    steps = 2.0 ** (bits - 1)
    sound = noise(n) * steps * 4
    return np.stack([np.floor(sound), np.floor(-sound)], -1) / steps


SILENT = {
    "constant": (np.full(24000, 0.5), "DOUBLE"),
    "tiny constant": (np.full(24000, 0.5**15), "PCM_16"),
    "negative constant, 8 bits": (np.full(24000, -(0.5**7)), "PCM_U8"),
    "constant, 24 bits": (np.full(24000, 0.3), "PCM_24"),
    "constant, 32 bits": (np.full(24000, 0.3), "PCM_32"),
    "huge constant": (np.full(24000, 12345.678), "FLOAT"),
    "largest constant": (np.full(24000, 0.9e30), "FLOAT"),
    "different constants": (np.stack([np.full(24000, 0.1), np.full(24000, -0.7)], -1), "FLOAT"),
    "one constant channel, one silent": (np.stack([np.full(24000, 0.1), np.zeros(24000)], -1), "PCM_16"),
    "half a step, 8 bits": (np.stack([np.zeros(24000), np.full(24000, -(0.5**7))], -1), "PCM_U8"),
    "half a step, 16 bits": (np.stack([np.zeros(24000), np.full(24000, -(0.5**15))], -1), "PCM_16"),
    "half a step, 24 bits": (np.stack([np.zeros(24000), np.full(24000, -(0.5**23))], -1), "PCM_24"),
    "out of phase, 8 bits": (out_of_phase(8), "PCM_U8"),
    "out of phase, 16 bits": (out_of_phase(16), "PCM_16"),
    "out of phase, 24 bits": (out_of_phase(24), "PCM_24"),
    "out of phase, A-law": (np.stack([noise(24000), -noise(24000)], -1), "ALAW"),
}


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("rate", [RATE, 44100, 8000])
def test_silence(tmp_path: Path, kind: str, rate: int) -> None:
    samples, subtype = SILENT[kind]
    path = save(tmp_path / "a.wav", samples, rate, subtype)
    with pytest.raises(ValueError, match=r"a\.wav: silence, RMS .*choose another --start"):
        read_recording(path, RATE, 0.5)
    with pytest.raises(ValueError, match="silence"):
        read_recording(path, RATE, 0.5, start=0.3)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_silence_in_flac(tmp_path: Path, subtype: str) -> None:
    path = save(tmp_path / "a.flac", np.full(24000, 0.25), 44100, subtype)
    with pytest.raises(ValueError, match="silence"):
        read_recording(path, RATE, 0.5)


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_constant_before_a_sound_is_silence(tmp_path: Path, rate: int) -> None:
    samples = np.concatenate([np.full(rate, 0.5), noise(rate)])
    path = save(tmp_path / "a.wav", samples, rate)
    with pytest.raises(ValueError, match="silence"):
        read_recording(path, RATE, 1.0)
    recording = read_recording(path, RATE, 1.0, start=1.0)
    assert float(recording.samples.square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-5)


@pytest.mark.parametrize(
    ("level", "subtype"), [(4e-5, "PCM_16"), (2e-5, "PCM_24"), (2e-5, "FLOAT"), (0.01, "PCM_U8"), (0.01, "ALAW")]
)
def test_quiet_sounds_are_sounds(tmp_path: Path, level: float, subtype: str) -> None:
    sound = noise(RATE) / 0.05 * level
    recording = read_recording(save(tmp_path / "a.wav", sound + 0.25, RATE, subtype), RATE, 1.0)
    assert recording.gain == pytest.approx(level / LEVEL, rel=0.1)


def test_a_sound_as_loud_as_floats_allow(tmp_path: Path) -> None:
    sound = noise(RATE)
    plain = read_recording(save(tmp_path / "a.wav", sound, RATE), RATE, 1.0)
    loud = read_recording(save(tmp_path / "b.wav", sound * 1e30, RATE), RATE, 1.0)
    torch.testing.assert_close(loud.samples, plain.samples, rtol=0, atol=1e-6)
    with pytest.raises(
        ValueError, match=rf"c\.wav: {RATE} samples are above 1e\+30 of full scale, the first at 0\.000"
    ):
        read_recording(save(tmp_path / "c.wav", sound * 1e300, RATE), RATE, 1.0)


# --- resampling ---


@pytest.mark.parametrize("rate", [44100, 44101, 48000, 8000])
def test_a_start_within_the_file_has_no_edge(tmp_path: Path, rate: int) -> None:
    """What is read from a start on is what the whole file has there: its edge lies in what came before."""
    t = np.arange(2 * rate) / rate
    path = save(tmp_path / "a.wav", 0.3 * np.cos(2 * np.pi * 440 * t), rate)
    recording = read_recording(path, RATE, 0.25, start=1.0)
    expected = 0.3 * np.cos(2 * np.pi * 440 * (1 + np.arange(4096) / RATE))
    np.testing.assert_allclose((recording.samples * recording.gain).numpy(), expected - expected.mean(), atol=2e-3)


def test_damage_before_the_start_is_left_out(tmp_path: Path) -> None:
    sound = noise(96000)
    path = save(tmp_path / "a.wav", np.where(np.arange(96000) == 47990, np.nan, sound))
    recording = read_recording(path, RATE, 0.5, start=1.0)
    assert recording.samples.isfinite().all()
    with pytest.raises(ValueError, match=r"1 samples are NaN or infinite, the first at 1\.000 s"):
        read_recording(path, RATE, 0.5, start=0.9)


# --- above the working Nyquist frequency ---


def hat(n: int = 44101) -> np.ndarray:
    """Like a hi-hat: nearly all of its energy is high."""
    return np.diff(np.random.default_rng(0).standard_normal(n)) * np.exp(-np.arange(n - 1) / 4000) * 0.2


def test_the_share_that_is_lost_is_told(tmp_path: Path) -> None:
    sound = hat()
    path = save(tmp_path / "hat.wav", sound, 44100, "FLOAT")
    recording = read_recording(path, 8192, 1.0)
    kept = float((recording.samples * recording.gain).square().sum()) / 8192 / (np.square(sound).sum() / 44100)
    assert recording.lost_energy == pytest.approx(1 - kept, abs=2e-3)
    (note,) = [note for note in recording.notes if "lost" in note]
    assert note.startswith(f"{recording.lost_energy:.1%} of its energy lies above 4096 Hz")
    again = read_recording(path, int(re.findall(r"--rate (\d+)", note)[0]), 1.0)
    assert again.lost_energy < 1e-3
    assert not any("lost" in note for note in again.notes)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.002, 0.0])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_share_of_a_tone(tmp_path: Path, share: float, offset: float) -> None:
    t = np.arange(48000) / 48000
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 10000 * t)
    sound = 0.3 * (math.sqrt(1 - share) * low + math.sqrt(share) * high) + offset
    recording = read_recording(save(tmp_path / "a.wav", sound), RATE, 1.0)
    assert recording.lost_energy == pytest.approx(share, abs=1e-5)
    notes = [note for note in recording.notes if "lost" in note]
    assert len(notes) == (share > 0)
    for note in notes:
        assert f"{share:.1%} of its energy lies above 8192 Hz" in note
        assert note.endswith("; --rate 20480 keeps all of it")  # the next multiple of 1024 above 20000


def test_a_sound_that_is_all_above_is_refused(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 20000 * np.arange(96000) / 96000)
    path = save(tmp_path / "bat.wav", tone, 96000)
    with pytest.raises(ValueError, match=r"nothing left to match .*above 8192 Hz.*--rate \d+ keeps") as caught:
        read_recording(path, RATE, 0.5)
    rate = int(re.findall(r"--rate (\d+)", str(caught.value))[0])
    assert 40000 < rate <= 41984
    assert read_recording(path, rate, 0.5).lost_energy < 1e-3


def test_no_rate_is_named_that_is_not_taken(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 60000 * np.arange(192000) / 192000) + noise(192000)
    recording = read_recording(save(tmp_path / "a.wav", tone, 192000), MAX_RATE, 0.25)
    (note,) = [note for note in recording.notes if "lost" in note]
    assert note.endswith(f"no --rate above {MAX_RATE} is taken")
    recording = read_recording(tmp_path / "a.wav", RATE, 0.25)
    (note,) = [note for note in recording.notes if "lost" in note]
    assert f"--rate {MAX_RATE} keeps" in note
    assert "all of it" not in note


# --- large and odd files ---


def write_header(path: Path, n_bytes: int, rate: int, channels: int, samples: np.ndarray) -> None:
    """A 16-bit WAV file of `n_bytes` of sound, of which only `samples` are on the disk."""
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", n_bytes + 36) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels, 2 * channels, 16))
        file.write(b"data" + struct.pack("<I", n_bytes) + samples.astype("<i2").tobytes())
        file.truncate(n_bytes + 44)


GROWTH = """
import resource, sys
from pathlib import Path
from scrapl_jtfs.commands.audio import read_recording
small, large, rate = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
read_recording(small, rate, 2.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_recording(large, rate, 2.0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="memory is asked of the system")
@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (RATE, 1), (44100, 32)])
def test_a_large_file_takes_the_memory_of_a_small_one(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.random.default_rng(0).standard_normal(3 * rate * channels) * 3000
    write_header(tmp_path / "small.wav", 2 * samples.size, rate, channels, samples)
    write_header(tmp_path / "large.wav", 400_000_000 // (2 * channels) * 2 * channels, rate, channels, samples)
    command = [sys.executable, "-c", GROWTH, str(tmp_path / "small.wav"), str(tmp_path / "large.wav"), str(RATE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 16  # MiB
    (tmp_path / "large.wav").unlink()


def test_the_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", noise(600000))
    assert path.stat().st_size > 4 * (1 << 20)
    assert read_recording(path, RATE, 0.5).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("rate", "said"), [(1, "silence"), (1_000_003, "too short"), (2**31 - 1, "too short")])
def test_headers_of_absurd_rates(tmp_path: Path, rate: int, said: str) -> None:
    path = tmp_path / "a.wav"
    write_header(path, 4000, rate, 1, noise(2000) * 20000)
    with pytest.raises(ValueError, match=said):
        read_recording(path, RATE, 1.0)


@pytest.mark.parametrize("start", [1.0, 1.00001, 1e300])
def test_a_start_beyond_the_end(tmp_path: Path, start: float) -> None:
    path = save(tmp_path / "a.wav", noise(48000))
    with pytest.raises(ValueError, match=re.escape(f"empty audio, --start {start:g} s is past its end, 1 s")):
        read_recording(path, RATE, 1.0, start)


@pytest.mark.parametrize("name", ["headless.raw", "cut.flac", "cut.wav", "empty.ogg"])
def test_what_libsndfile_refuses_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "cut.flac":
        whole = save(tmp_path / "whole.flac", noise(48000), subtype="PCM_16").read_bytes()
        path.write_bytes(whole[:30])
    else:
        path.write_bytes(b"RIFF\x00\x00\x00\x00WAVE" if name == "cut.wav" else b"")
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as audio: \S") as caught:
        read_recording(path, RATE, 1.0)
    assert "\n" not in str(caught.value)


def test_the_names_before_it_became_part_of_the_package() -> None:
    from benchmarks.sound_matching import recording_audio, synth
    from scrapl_jtfs.commands import audio, granular

    assert recording_audio.read_recording is audio.read_recording
    assert synth.GranularSynth is granular.GranularSynth
