"""Recordings read as mono signals: resampled, cropped or padded, at a known level."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs.commands.command_line import check_name, one_line, shown
from scrapl_jtfs.commands.files import write_atomically

__all__ = [
    "LEVEL",
    "MAX_RATE",
    "MIN_SAMPLES",
    "Format",
    "Recording",
    "Sound",
    "check_excerpt",
    "read_format",
    "read_recording",
    "read_sound",
    "resample",
    "write_audio",
]

# RMS of signals during the work; it is also the level of the granular synthesizer.
LEVEL = 0.1
# Shorter signals have no wavelets that are slow enough to hear a texture.
MIN_SAMPLES = 1024
# The highest working sample rate in Hz.
MAX_RATE = 96000
# The longest excerpt in seconds.
_MAX_SECONDS = 60.0
# RMS below which a recording is silent, relative to full scale: -100 dB.
_SILENCE = 1e-5
# Rounding of 32-bit floats relative to an offset.
_FLOAT_NOISE = 1e-7
# Samples above this, relative to full scale, have squares outside the range of 32-bit floats.
_LOUDEST = 1e30
# Seconds that are read around the crop, so that the edges of resampling lie outside of it.
_MARGIN = 0.1
# Numbers that are decoded at a time, over all channels.
_BLOCK = 1 << 18
# Bytes that are hashed at a time.
_CHUNK = 1 << 20
# The most samples of a resampled signal: 1 GiB.
_MAX_RESAMPLED = 1 << 27
# Share of the energy that a sample rate keeps if it is recommended.
_ENERGY_KEPT = 0.999
# Share of lost energy above which what is left is the click at the edges of the crop.
_ENERGY_LOST = 0.9999
# Bits of a sample, for formats whose noise of rounding is louder than _SILENCE.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "DPCM_8": 8, "DWVW_12": 12, "ULAW": 13, "ALAW": 13}


class Recording(NamedTuple):
    """Recording that is matched.

    Attributes:
        samples: (N,) signal without mean, at the RMS ``LEVEL``.
        sample_rate: working sample rate in Hz.
        gain: factor that makes the samples as loud as recorded.
        sha256: hash of the file.
        notes: conversions and losses, as text.
        lost_energy: share of the recording's energy above half the working sample rate.
    """

    samples: Tensor
    sample_rate: int
    gain: float
    sha256: str
    notes: tuple[str, ...]
    lost_energy: float = 0.0


class Sound(NamedTuple):
    """Sound at its own level.

    Attributes:
        samples: (n,) mono, float64, without mean.
        sample_rate: in Hz.
        sha256: hash of the file.
        conversions: conversions of the file, as text.
        losses: losses beyond a trifle, as text.
        lost_energy: share of the energy above half the sample rate.
    """

    samples: Tensor
    sample_rate: int
    sha256: str
    conversions: tuple[str, ...]
    losses: tuple[str, ...]
    lost_energy: float


class Format(NamedTuple):
    """Format of a file.

    Attributes:
        rate: sample rate in Hz.
        frames: length in samples.
    """

    rate: int
    frames: int

    @property
    def seconds(self) -> float:
        """Length of the file."""
        return self.frames / self.rate


class _Segment(NamedTuple):
    """Decoded part of a file.

    Attributes:
        mono: (n,) float64; some samples lie before the start, and some after the crop.
        before: number of samples before the start.
        rate: sample rate of the file in Hz.
        channels: number of channels that were averaged.
        silence: RMS that the noise of rounding may have.
        sha256: hash of the file.
    """

    mono: Tensor
    before: int
    rate: int
    channels: int
    silence: float
    sha256: str


def resample(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Resample signals (..., n) to (..., ceil(n rate_out / rate_in)) by cropping or padding its spectrum.

    This is exact for frequencies below both Nyquist frequencies. Zeros at the end keep it from wrapping around to
    the start; their number makes both lengths whole.

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
            f"Invalid sample rate: {rate_in} Hz; expected one that {_MAX_RESAMPLED} samples resample to "
            f"{rate_out} Hz; resample the file beforehand"
        )
    resampled = torch.fft.irfft(torch.fft.rfft(x, n_in), n_out) * (n_out / n_in)
    return resampled[..., : math.ceil(x.shape[-1] * rate_out / rate_in)]


def pad_length(x: Tensor, n_samples: int) -> Tensor:
    """Pad with zeros at the end to ``n_samples``, or to the next power of two where that is less."""
    n = min(n_samples, 1 << (x.shape[-1] - 1).bit_length())
    return torch.nn.functional.pad(x, (0, n - x.shape[-1]))


def check_excerpt(seconds: float, start: float) -> None:
    """Raise ValueError if the length or the start of an excerpt is out of range."""
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"Invalid seconds: {seconds:g}; expected a length above 0 and up to {_MAX_SECONDS:g}")
    if not 0 <= start < math.inf:
        raise ValueError(f"Invalid start: {start:g}; expected seconds from the beginning, 0 or more")


def read_format(path: Path, start: float = 0.0) -> Format:
    """Read sample rate and length in the header of a file.

    Raises:
        ImportError: soundfile is not installed.
        ValueError: the file is missing, no audio, empty, or ends before the start.
    """
    with _opened(path) as file:
        _check_start(path, file, start)
        return Format(int(file.samplerate), int(file.frames))


def read_recording(path: Path, sample_rate: int, seconds: float, start: float = 0.0) -> Recording:
    """Read about ``seconds`` from ``start`` of a WAV, FLAC or other file that libsndfile knows.

    The length is the power of two of samples nearest to ``seconds``, on a logarithmic scale. The mean over it,
    which no wavelet hears, is removed. The memory in use depends on ``seconds`` and not on the length of the file.

    Raises:
        ImportError: soundfile is not installed.
        ValueError: the file is missing, no audio, empty, silent, too short, or has NaN, infinite or absurdly loud
            samples, or all of its sound lies above half the sample rate.
    """
    n_samples = 1 << round(math.log2(max(seconds * sample_rate, MIN_SAMPLES)))
    sound = read_sound(path, sample_rate, n_samples, start)
    samples = pad_length(sound.samples, n_samples)
    gain = _rms(samples) / LEVEL
    notes = (
        *sound.conversions,
        _length_note(sound.samples.shape[-1], samples.shape[-1], sample_rate, start),
        f"scaled to an RMS of {LEVEL:g} for matching and back afterwards",
        *sound.losses,
    )
    return Recording((samples / gain).float(), sample_rate, gain, sound.sha256, notes, sound.lost_energy)


def read_sound(path: Path, sample_rate: int, n_samples: int, start: float = 0.0) -> Sound:
    """Read up to ``n_samples`` at the sample rate from ``start`` of a file, at its own level, without its mean.

    Raises:
        ImportError, ValueError: as for :func:`read_recording`.
    """
    segment = _decode(path, sample_rate, start, n_samples / sample_rate)
    samples, loss = _prepare(path, segment, sample_rate, n_samples, start)
    channels = "mono" if segment.channels == 1 else f"{segment.channels} channels averaged to mono"
    rate = f"at {sample_rate} Hz"
    if segment.rate != sample_rate:
        rate = f"resampled from {segment.rate} Hz to {sample_rate} Hz"
    return Sound(samples, sample_rate, segment.sha256, (channels, rate), tuple(loss.notes()), loss.energy)


def _prepare(
    path: Path, segment: _Segment, sample_rate: int, n_samples: int, start: float
) -> tuple[Tensor, _Loss]:
    """Return up to ``n_samples`` at the working rate, without mean, and what they lost."""
    _check_samples(path, segment, sample_rate, start)
    body = segment.mono[segment.before :][: math.ceil(n_samples * segment.rate / sample_rate)]
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
    sound = _resample_segment(segment, offset, sample_rate)[:n_samples]
    sound = sound - sound.mean()
    if _rms(sound) < silence or loss.energy > _ENERGY_LOST:
        raise ValueError(f"{shown(path)}: nothing left to match {where}: {loss.describe()}")
    return sound, loss


class _Loss(NamedTuple):
    """Loss of a recording at the working rate: its mean, and its energy above half that rate.

    Attributes:
        offset: the mean.
        level: RMS without the mean.
        energy: share of the energy that is lost.
        working_rate: working sample rate in Hz.
        rate: recommended sample rate in Hz.
        kept: share of the energy at the recommended rate.
    """

    offset: float
    level: float
    energy: float
    working_rate: int
    rate: int
    kept: float

    @classmethod
    def of(cls, x: Tensor, rate: int, working_rate: int) -> _Loss:
        """Return the loss of a recording (n,) at ``rate`` Hz that is not silent."""
        offset = x.mean()
        x = x - offset
        energy = torch.fft.rfft(x / x.abs().max()).abs().square()
        energy_below = (energy.cumsum(0) / energy.sum()).tolist()

        def kept(working: int) -> float:
            n_bins = min(math.ceil(working / 2 * x.shape[-1] / rate), len(energy_below))
            return 1.0 if working >= rate else energy_below[n_bins - 1]

        rates = range(1024 * math.ceil(working_rate / 1024), min(rate, MAX_RATE), 1024)
        enough = next((r for r in rates if kept(r) >= _ENERGY_KEPT), min(rate, MAX_RATE))
        return cls(float(offset), _rms(x), 1 - kept(working_rate), working_rate, enough, kept(enough))

    def describe(self) -> str:
        """Return the lost energy and a remedy as text."""
        remedy = f"--rate {self.rate} keeps {'all of it' if self.kept > 0.9995 else f'{self.kept:.1%} of it'}"
        if self.rate <= self.working_rate:
            remedy = f"no --rate above {MAX_RATE} is taken"
        return (
            f"{self.energy:.1%} of its energy lies above {self.working_rate / 2:g} Hz, half the working sample "
            f"rate, and is lost; {remedy}"
        )

    def notes(self) -> list[str]:
        """List the losses that are more than a trifle."""
        offset = [f"an offset of {self.offset:.2g} of full scale removed"]
        return [
            *(offset if abs(self.offset) > 0.05 * self.level else []),
            *([self.describe()] if self.energy > 1 - _ENERGY_KEPT else []),
        ]


def write_audio(path: Path, samples: Tensor, sample_rate: int) -> None:
    """Write 32-bit floats as a WAV file, which keep a level above full scale."""
    data = samples.detach().cpu().numpy()
    write_atomically(
        path, lambda beside: _soundfile().write(os.fsencode(beside), data, sample_rate, subtype="FLOAT")
    )


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _check_samples(path: Path, segment: _Segment, sample_rate: int, start: float) -> None:
    """Raise ValueError if samples are no numbers, or too few."""
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
    """Return the number of samples before the start with which resampled ones begin at the start, too."""
    unit = rate_in // math.gcd(rate_in, rate_out)
    return 0 if rate_in == rate_out else unit * math.ceil(_MARGIN * rate_in / unit)


def _resample_segment(segment: _Segment, offset: float, sample_rate: int) -> Tensor:
    """Return the segment from its start on, without the offset; zeros precede the beginning of the file."""
    x = segment.mono - offset
    x = torch.where(x.abs() <= _LOUDEST, x, 0.0)  # a start may be chosen to leave out damage before it
    lead = _lead(segment.rate, sample_rate)
    x = torch.nn.functional.pad(x, (lead - segment.before, 0))
    return resample(x, segment.rate, sample_rate)[lead * sample_rate // segment.rate :]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file with soundfile; errors of libsndfile and of the system become ValueErrors."""
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
    """Read ``seconds`` from ``start`` and margins around them; nothing else of the file is kept in memory."""
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
    """Return the mean over channels (n,) of up to ``n_frames`` frames, float64, decoded in blocks."""
    blocks, per_block = [torch.zeros(0, dtype=torch.float64)], max(1, _BLOCK // file.channels)
    while n_frames > 0:
        block = file.read(min(n_frames, per_block), dtype="float64", always_2d=True)
        if not len(block):
            break
        blocks.append(torch.from_numpy(block).mean(1))
        n_frames -= len(block)
    return torch.cat(blocks)


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _length_note(n_read: int, n: int, rate: int, start: float) -> str:
    """Return how a signal was cropped or padded as text."""
    length = f"{n} samples = {n / rate:g} s from {start:g} s on"
    if n > n_read:
        return f"{length}, the last {(n - n_read) / rate:.3f} s of them zeros"
    return f"cropped to {length}"


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("Audio files need the package soundfile: pip install 'scrapl-jtfs[audio]'") from error
    return soundfile
