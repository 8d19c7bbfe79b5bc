"""Recordings of the user's, made ready for work: mono, resampled, cropped or padded, at a known level."""

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .command_line import check_name, one_line, shown
from .files import write_atomically

__all__ = [
    "LEVEL",
    "MAX_RATE",
    "MIN_SAMPLES",
    "Format",
    "Recording",
    "Sound",
    "read_format",
    "read_recording",
    "read_sound",
    "resample",
    "write_audio",
]

LEVEL = 0.1  # RMS that everything works at: that of the synthesizer, too
MIN_SAMPLES = 1024  # below this no wavelet is slow enough to hear a texture with
MAX_RATE = 96000  # Hz, of the working sample rate
_SILENCE = 1e-5  # RMS of full scale, -100 dB
_FLOAT_NOISE = 1e-7  # of an offset: what 32-bit floats leave of a constant
_LOUDEST = 1e30  # of full scale: squares of more leave the range of 32-bit floats
_MARGIN = 0.1  # seconds read around the crop, so that the resampler's edges fall outside of it
_BLOCK = 1 << 18  # numbers decoded at a time, over all channels
_CHUNK = 1 << 20  # bytes hashed at a time
_MAX_RESAMPLED = 1 << 27  # samples, 1 GiB
_KEPT = 0.999  # share of the energy that a rate has to keep to be recommended
_LOST = 0.9999  # share above which what is left is the click of the crop's edges

# Bits of a sample, where they are few enough for the noise of rounding to be louder than _SILENCE.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "DPCM_8": 8, "DWVW_12": 12, "ULAW": 13, "ALAW": 13}


@dataclass(frozen=True)
class Recording:
    """What is matched. `samples` (N,) have the RMS `LEVEL` and no mean; times `gain` they are as loud as recorded.

    `lost_energy` is the share of the recording's energy above half the working sample rate.
    """

    samples: Tensor
    sample_rate: int
    gain: float
    sha256: str
    notes: tuple[str, ...]
    lost_energy: float = 0.0


@dataclass(frozen=True)
class Sound:
    """Mono samples (n,) in float64 at their own level, without mean; what was done to them, and what was lost."""

    samples: Tensor
    sample_rate: int
    sha256: str
    conversions: tuple[str, ...]
    losses: tuple[str, ...]
    lost_energy: float


class Format(NamedTuple):
    """Of a file: sample rate in Hz, and length in samples."""

    rate: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@dataclass(frozen=True)
class _Segment:
    """Mono samples (n,) in float64: `before` of them lie before the start, and some after the crop."""

    mono: Tensor
    before: int
    rate: int
    channels: int
    silence: float  # RMS that noise of rounding may have
    sha256: str


def resample(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """(n,) at `rate_in` Hz -> (ceil(n rate_out / rate_in),) at `rate_out`, by cropping or padding the spectrum.

    Exact for what lies below both Nyquist frequencies. Zeros keep the end from wrapping around to the start; their
    number makes both lengths whole.

    Raises:
        ValueError: the rates have so small a common divisor that the spectrum would not fit the memory.
    """
    if rate_in == rate_out:
        return x
    unit = rate_in // math.gcd(rate_in, rate_out)
    n_in = unit * math.ceil((x.shape[-1] + _MARGIN * rate_in) / unit)
    n_out = n_in * rate_out // rate_in
    if max(n_in, n_out) > _MAX_RESAMPLED:
        raise ValueError(
            f"{rate_in} Hz cannot be resampled to {rate_out} Hz within {_MAX_RESAMPLED} samples; "
            f"resample the file beforehand"
        )
    resampled = torch.fft.irfft(torch.fft.rfft(x, n_in), n_out) * (n_out / n_in)
    return resampled[: math.ceil(x.shape[-1] * rate_out / rate_in)]


def pad_length(x: Tensor, wanted: int) -> Tensor:
    """Pad with zeros at the end to `wanted` samples, or to the next power of two where that is less."""
    n = min(wanted, 1 << (x.shape[-1] - 1).bit_length())
    return torch.nn.functional.pad(x, (0, n - x.shape[-1]))


def read_format(path: Path, start: float = 0.0) -> Format:
    """What the header of a file says.

    Raises:
        ImportError: soundfile is not installed.
        ValueError: the file is missing, no audio, empty, or ends before the start.
    """
    with _opened(path) as file:
        _check_start(path, file, start)
        return Format(int(file.samplerate), int(file.frames))


def read_recording(path: Path, sample_rate: int, seconds: float, start: float = 0.0) -> Recording:
    """Read about `seconds` from `start` of a WAV, FLAC or other file that libsndfile knows.

    The length is the power of two of samples nearest to `seconds`, on a logarithmic scale. The mean over it is
    removed: no wavelet hears it. Memory depends on `seconds`, not on the length of the file.

    Raises:
        ImportError: soundfile is not installed.
        ValueError: the file is missing, no audio, empty, silent, too short, or has NaN, infinite or absurdly loud
            samples, or all of its sound lies above half the sample rate.
    """
    wanted = 1 << round(math.log2(max(seconds * sample_rate, MIN_SAMPLES)))
    sound = read_sound(path, sample_rate, wanted, start)
    samples = pad_length(sound.samples, wanted)
    gain = _rms(samples) / LEVEL
    notes = (
        *sound.conversions,
        _length_note(sound.samples.shape[-1], samples.shape[-1], sample_rate, start),
        f"scaled to an RMS of {LEVEL:g} for matching and back afterwards",
        *sound.losses,
    )
    return Recording((samples / gain).float(), sample_rate, gain, sound.sha256, notes, sound.lost_energy)


def read_sound(path: Path, sample_rate: int, n_samples: int, start: float = 0.0) -> Sound:
    """Read up to `n_samples` at the sample rate from `start` of a file, at its own level, without its mean.

    Raises:
        ImportError, ValueError: as for `read_recording`.
    """
    segment = _decode(path, sample_rate, start, n_samples / sample_rate)
    samples, loss = _prepare(path, segment, sample_rate, n_samples, start)
    channels = "mono" if segment.channels == 1 else f"{segment.channels} channels averaged to mono"
    rate = f"at {sample_rate} Hz"
    if segment.rate != sample_rate:
        rate = f"resampled from {segment.rate} Hz to {sample_rate} Hz"
    return Sound(samples, sample_rate, segment.sha256, (channels, rate), tuple(loss.notes()), loss.energy)


def _prepare(path: Path, segment: _Segment, sample_rate: int, wanted: int, start: float) -> tuple[Tensor, "_Loss"]:
    """Up to `wanted` samples at the working rate, without mean, and what was taken from them."""
    _check_samples(path, segment, sample_rate, start)
    body = segment.mono[segment.before :][: math.ceil(wanted * segment.rate / sample_rate)]
    where = f"over {body.shape[-1] / segment.rate:g} s from {start:g} s on"
    offset = float(body.mean())
    silence = max(segment.silence, _FLOAT_NOISE * abs(offset))
    level = _rms(body - offset)
    if level < silence:
        raise ValueError(
            f"{shown(path)}: silence, RMS {level:.1g} of full scale {where} (after the mix to mono, and without "
            f"its mean, {offset:.2g}); choose another --start"
        )
    loss = _Loss.of(body, segment.rate, sample_rate)
    sound = _resample_segment(segment, offset, sample_rate)[:wanted]
    sound = sound - sound.mean()
    if _rms(sound) < silence or loss.energy > _LOST:
        raise ValueError(f"{shown(path)}: nothing left to match {where}: {loss.describe()}")
    return sound, loss


@dataclass(frozen=True)
class _Loss:
    """What the working rate takes from a recording: its mean, and a share of its energy above half that rate.

    A working sample rate of `rate` Hz keeps the share `kept` of all energy.
    """

    offset: float
    level: float
    energy: float
    working_rate: int
    rate: int
    kept: float

    @classmethod
    def of(cls, x: Tensor, rate: int, working_rate: int) -> "_Loss":
        """Of a recording (n,) at `rate` Hz that is not silent."""
        offset = x.mean()
        x = x - offset
        energy = torch.fft.rfft(x / x.abs().max()).abs().square()
        energy_below = (energy.cumsum(0) / energy.sum()).tolist()

        def kept(working: int) -> float:
            n_bins = min(math.ceil(working / 2 * x.shape[-1] / rate), len(energy_below))
            return 1.0 if working >= rate else energy_below[n_bins - 1]

        rates = range(1024 * math.ceil(working_rate / 1024), min(rate, MAX_RATE), 1024)
        enough = next((r for r in rates if kept(r) >= _KEPT), min(rate, MAX_RATE))
        return cls(float(offset), _rms(x), 1 - kept(working_rate), working_rate, enough, kept(enough))

    def describe(self) -> str:
        remedy = f"--rate {self.rate} keeps {'all of it' if self.kept > 0.9995 else f'{self.kept:.1%} of it'}"
        if self.rate <= self.working_rate:
            remedy = f"no --rate above {MAX_RATE} is taken"
        return (
            f"{self.energy:.1%} of its energy lies above {self.working_rate / 2:g} Hz, half the working sample "
            f"rate, and is lost; {remedy}"
        )

    def notes(self) -> list[str]:
        """Of what is more than a trifle."""
        offset = [f"an offset of {self.offset:.2g} of full scale removed"]
        return [
            *(offset if abs(self.offset) > 0.05 * self.level else []),
            *([self.describe()] if self.energy > 1 - _KEPT else []),
        ]


def write_audio(path: Path, samples: Tensor, sample_rate: int) -> None:
    """32-bit float WAV: the recording's own level is kept even where a peak is above full scale."""
    data = samples.detach().cpu().numpy()
    write_atomically(
        path, lambda beside: _soundfile().write(os.fsencode(beside), data, sample_rate, subtype="FLOAT")
    )


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _check_samples(path: Path, segment: _Segment, sample_rate: int, start: float) -> None:
    """Raise ValueError for samples that are no numbers, or too few."""
    x = segment.mono[segment.before :]
    for bad, what in (
        (~x.isfinite(), "NaN or infinite"),
        (x.abs() > _LOUDEST, f"above {_LOUDEST:g} of full scale"),
    ):
        if bad.any():
            at = start + int(bad.nonzero()[0]) / segment.rate
            n = int(bad.sum())
            raise ValueError(f"{shown(path)}: {n} samples are {what}, the first at {at:.3f} s; repair the file")
    if math.ceil(x.shape[-1] * sample_rate / segment.rate) < MIN_SAMPLES:
        raise ValueError(
            f"{shown(path)}: too short, {x.shape[-1] / segment.rate:.3f} s from {start:g} s on; at {sample_rate} "
            f"Hz at least {MIN_SAMPLES / sample_rate:.3f} s are needed ({MIN_SAMPLES} samples)"
        )


def _lead(rate_in: int, rate_out: int) -> int:
    """Samples to put before the start such that the resampled ones begin at the start, too."""
    unit = rate_in // math.gcd(rate_in, rate_out)
    return 0 if rate_in == rate_out else unit * math.ceil(_MARGIN * rate_in / unit)


def _resample_segment(segment: _Segment, offset: float, sample_rate: int) -> Tensor:
    """The segment from its start on, without the offset. Zeros stand for what lies before the file's beginning."""
    x = segment.mono - offset
    x = torch.where(x.abs() <= _LOUDEST, x, 0.0)  # a start may be chosen to leave out damage before it
    lead = _lead(segment.rate, sample_rate)
    x = torch.nn.functional.pad(x, (lead - segment.before, 0))
    return resample(x, segment.rate, sample_rate)[lead * sample_rate // segment.rate :]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as soundfile has it; whatever libsndfile or the system refuses inside is told as a ValueError."""
    soundfile = _soundfile()
    check_name(path, "file name")
    try:
        if not path.is_file():
            kind = "not a file" if path.exists() else "no such file"
            raise ValueError(f"{shown(path)}: {kind}; name an audio file")
        with soundfile.SoundFile(os.fsencode(path)) as file:
            yield file
    except (RuntimeError, TypeError, OSError) as error:  # soundfile's own are RuntimeErrors; raw files a TypeError
        reason = getattr(error, "error_string", error)
        raise ValueError(f"{shown(path)}: cannot be read as audio: {one_line(reason)}") from error


def _check_start(path: Path, file: Any, start: float) -> None:
    rate, length = int(file.samplerate), int(file.frames)
    if length == 0 or start >= length / rate:
        past = f"--start {start:g} s is past its end, {length / rate:g} s"
        raise ValueError(f"{shown(path)}: empty audio, {past if length else 'it holds no samples'}")


def _decode(path: Path, sample_rate: int, start: float, seconds: float) -> _Segment:
    """`seconds` from `start`, and up to the margins around; nothing else of the file is kept in memory."""
    with _opened(path) as file:
        _check_start(path, file, start)
        rate = int(file.samplerate)
        first = round(start * rate)
        before = min(first, _lead(rate, sample_rate))
        file.seek(first - before)
        mono = _read_mono(file, before + math.ceil((seconds + _MARGIN) * rate))
        bits, channels = _BITS.get(file.subtype, 16), file.channels
        sha256 = _hash(path)
    if mono.shape[-1] <= before:
        raise ValueError(f"{shown(path)}: empty audio, --start {start:g} s is past its end")
    return _Segment(mono, before, rate, channels, max(_SILENCE, 0.5 * 2.0 ** (1 - bits)), sha256)


def _read_mono(file: Any, n_frames: int) -> Tensor:
    """(n,) in float64: the mean over channels of up to `n_frames` frames, decoded in blocks."""
    blocks, per_block = [torch.zeros(0, dtype=torch.float64)], max(1, _BLOCK // file.channels)
    while n_frames > 0:
        block = file.read(min(n_frames, per_block), dtype="float64", always_2d=True)
        if not len(block):
            break
        blocks.append(torch.from_numpy(block).mean(1))
        n_frames -= len(block)
    return torch.cat(blocks)


def _hash(path: Path) -> str:
    """SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _length_note(n_read: int, n: int, rate: int, start: float) -> str:
    length = f"{n} samples = {n / rate:g} s from {start:g} s on"
    if n > n_read:
        return f"{length}, the last {(n - n_read) / rate:.3f} s of them zeros"
    return f"cropped to {length}"


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("audio files need the package soundfile: pip install 'scrapl-jtfs[audio]'") from error
    return soundfile
