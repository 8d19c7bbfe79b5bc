"""A recording of the user's, made ready for matching: mono, resampled, cropped or padded, at a known level."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import write_atomically

__all__ = ["LEVEL", "MIN_SAMPLES", "Recording", "read_recording", "resample", "write_audio"]

LEVEL = 0.1  # RMS that everything works at: the synthesizer's, and what LogCQT's gain is made for
MIN_SAMPLES = 1024  # below this no wavelet is slow enough to hear a texture with
_SILENCE = 1e-5  # RMS of full scale, -100 dB: the dither of 16 bits has about this
_MARGIN = 0.1  # seconds read beyond the crop, so that the resampler's edge falls outside of it


@dataclass(frozen=True)
class Recording:
    """What is matched. `samples` (N,) have the RMS `LEVEL`; times `gain` they have the recording's own."""

    samples: Tensor
    sample_rate: int
    gain: float
    sha256: str
    notes: tuple[str, ...]


def resample(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """(n,) at `rate_in` Hz -> (ceil(n rate_out / rate_in),) at `rate_out`, by cropping or padding the spectrum.

    Exact for what lies below both Nyquist frequencies. Zeros keep the end from wrapping around to the start; their
    number makes both lengths whole.
    """
    if rate_in == rate_out:
        return x
    unit = rate_in // math.gcd(rate_in, rate_out)
    n_in = unit * math.ceil((x.shape[-1] + _MARGIN * rate_in) / unit)
    n_out = n_in * rate_out // rate_in
    resampled = torch.fft.irfft(torch.fft.rfft(x, n_in), n_out) * (n_out / n_in)
    return resampled[: math.ceil(x.shape[-1] * rate_out / rate_in)]


def fit_length(x: Tensor, wanted: int) -> Tensor:
    """Crop to `wanted` samples, or pad with zeros at the end to the next power of two where x is shorter."""
    n = min(wanted, 1 << (x.shape[-1] - 1).bit_length())
    return torch.nn.functional.pad(x[:n], (0, max(0, n - x.shape[-1])))


def read_recording(path: Path, sample_rate: int, seconds: float, start: float = 0.0) -> Recording:
    """Read about `seconds` from `start` of a WAV, FLAC or other file that libsndfile knows.

    The length is the power of two of samples nearest to `seconds`, on a logarithmic scale.

    Raises:
        ImportError: soundfile is not installed.
        ValueError: the file is missing, no audio, empty, silent, too short, or has NaN or infinite samples.
    """
    wanted = 1 << round(math.log2(max(seconds * sample_rate, MIN_SAMPLES)))
    audio, rate, sha256 = _decode(path, start, wanted / sample_rate + _MARGIN)
    bad = (~audio.isfinite()).any(1).nonzero()
    if len(bad):
        at = start + int(bad[0]) / rate
        raise ValueError(
            f"{path}: {len(bad)} samples are NaN or infinite, the first at {at:.3f} s; repair the file"
        )
    mono = resample(audio.mean(1), rate, sample_rate)
    if mono.shape[-1] < MIN_SAMPLES:
        raise ValueError(
            f"{path}: too short, {mono.shape[-1] / sample_rate:.3f} s from {start:g} s on; at {sample_rate} Hz "
            f"at least {MIN_SAMPLES / sample_rate:.3f} s are needed ({MIN_SAMPLES} samples)"
        )
    samples = fit_length(mono, wanted)
    gain = float(samples.square().mean().sqrt()) / LEVEL
    if gain * LEVEL < _SILENCE:
        raise ValueError(
            f"{path}: silence, RMS {gain * LEVEL:.1g} of full scale over {samples.shape[-1] / sample_rate:g} s "
            f"from {start:g} s on (after the mix to mono); choose another --start"
        )
    notes = _notes(audio.shape[1], rate, sample_rate, mono.shape[-1], samples.shape[-1], start)
    return Recording((samples / gain).float(), sample_rate, gain, sha256, notes)


def write_audio(path: Path, samples: Tensor, sample_rate: int) -> None:
    """32-bit float WAV: the recording's own level is kept even where a peak is above full scale."""
    data = samples.detach().cpu().numpy()
    write_atomically(path, lambda beside: _soundfile().write(beside, data, sample_rate, subtype="FLOAT"))


def _decode(path: Path, start: float, seconds: float) -> tuple[Tensor, int, str]:
    """(samples, channels) in float64, the rate in Hz and the hash of the file."""
    soundfile = _soundfile()
    if not path.is_file():
        raise ValueError(f"{path}: {'not a file' if path.exists() else 'no such file'}; name an audio file")
    try:
        content = path.read_bytes()
        with soundfile.SoundFile(path) as file:
            rate, length = int(file.samplerate), file.frames
            file.seek(min(round(start * rate), length))
            audio = torch.from_numpy(file.read(math.ceil(seconds * rate), dtype="float64", always_2d=True))
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as audio: {error}") from error
    if audio.shape[0] == 0:
        why = "it holds no samples" if length == 0 else f"--start {start:g} s is past its end, {length / rate:g} s"
        raise ValueError(f"{path}: empty audio, {why}")
    return audio, rate, hashlib.sha256(content).hexdigest()


def _notes(channels: int, rate_in: int, rate_out: int, n_read: int, n: int, start: float) -> tuple[str, ...]:
    """What was done to the recording, for the reader of the result."""
    length = f"{n} samples = {n / rate_out:g} s from {start:g} s on"
    return (
        "mono" if channels == 1 else f"{channels} channels averaged to mono",
        f"at {rate_out} Hz" if rate_in == rate_out else f"resampled from {rate_in} Hz to {rate_out} Hz",
        f"{length}, the last {(n - n_read) / rate_out:.3f} s of them zeros"
        if n > n_read
        else f"cropped to {length}",
        f"scaled to an RMS of {LEVEL:g} for matching and back afterwards",
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("audio files need the package soundfile: pip install 'scrapl-jtfs[audio]'") from error
    return soundfile
