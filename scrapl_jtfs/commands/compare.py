"""Command compare: the distance of two sounds, and the rates and scales at which they differ."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs.commands._compare.distances import Comparison, compare
from scrapl_jtfs.commands.audio import LEVEL, MAX_RATE, MIN_SAMPLES, Sound, check_excerpt, read_format, read_sound
from scrapl_jtfs.commands.command_line import Parser, check_name, named_file, say, set_threads, shown
from scrapl_jtfs.commands.files import claimed_folder, write_atomically
from scrapl_jtfs.commands.transforms import make_jtfs
from scrapl_jtfs.paths import Path as ScatteringPath
from scrapl_jtfs.transform import JTFSPath

__all__ = ["main"]

# Highest sample rate in Hz at which files are compared, unless another one is asked for.
_USUAL_RATE = 16384
_MIN_RATE = 2 * MIN_SAMPLES


class Pair(NamedTuple):
    """Two sounds of one sample rate and length.

    Attributes:
        names: names of both files.
        samples: (2, N) float32; the louder sound has the RMS ``LEVEL``.
        sample_rate: in Hz.
        notes: conversions of both files, as text.
        decibels: level of the second sound above that of the first.
    """

    names: tuple[str, str]
    samples: Tensor
    sample_rate: int
    notes: tuple[str, ...]
    decibels: float


def main(argv: Sequence[str]) -> int:
    """Print the distance and its largest parts; draw them with --picture. Return the exit code."""
    a = parse_arguments(argv)
    set_threads(a.threads)
    check_options(a)
    draw = None if a.picture is None else prepared_picture(a.picture, (a.a, a.b))
    pair = read_pair(a)
    seconds = pair.samples.shape[-1] / pair.sample_rate
    say(f"{pair.names[0]} and {pair.names[1]}, {seconds:.4g} s from {a.start:g} s on, at {pair.sample_rate} Hz")
    for note in pair.notes:
        say(f"  {note}")
    jtfs = make_jtfs(pair.samples.shape[-1], pair.sample_rate, invariant=True)
    comparison = compare(jtfs, *pair.samples)
    say(summary(comparison, pair))
    return 0 if draw is None else draw(jtfs, pair, comparison)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(
        prog="scrapl-jtfs compare",
        description=(
            "Measure how far two sounds are apart, in all paths of a JTFS that averages over their length: 0 the "
            "same, 1 as far as silence, never above 1.41. Both are mixed to mono and resampled to one rate, the "
            "lower of the files', but not under 2048 and not over 16384 Hz. The longer sound is cropped at its "
            "end to the length of the shorter, and both to --seconds."
        ),
    )
    parser.add_argument("a", type=named_file, metavar="A", help="WAV, FLAC or another file that libsndfile knows")
    parser.add_argument("b", type=named_file, metavar="B", help="the same; of any length and sample rate")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw both and their differences, as out.png")
    parser.add_argument(
        "--length", choices=("shorter", "longer"), default="shorter",
        help="longer: zeros after the shorter one, in place of a crop",
    )  # fmt: skip
    parser.add_argument("--same-level", action="store_true", help="scale both to one level before")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each, at most (default: 10)")
    parser.add_argument("--start", type=float, default=0.0, help="where in both, in seconds (default: 0)")
    parser.add_argument("--rate", type=int, help="sample rate in Hz to compare at")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args(argv)


def check_options(a: argparse.Namespace) -> None:
    """Raise ValueError if an option is out of range."""
    check_excerpt(a.seconds, a.start)
    if a.rate is not None and not _MIN_RATE <= a.rate <= MAX_RATE:
        raise ValueError(f"Invalid rate: {a.rate}; expected {_MIN_RATE} to {MAX_RATE} Hz; or leave it out")


def names_of(a: Path, b: Path) -> tuple[str, str]:
    """Return the names of two files, with their folders where the names alone are equal."""
    return (shown(a), shown(b)) if a.name == b.name else (shown(a.name), shown(b.name))


def read_pair(a: argparse.Namespace) -> Pair:
    """Read both files at one sample rate and of one length."""
    files = (a.a, a.b)
    formats = [read_format(file, a.start) for file in files]
    rate = a.rate or max(_MIN_RATE, min(_USUAL_RATE, *(each.rate for each in formats)))
    left = [recording.seconds - a.start for recording in formats]
    seconds = min(a.seconds, (min if a.length == "shorter" else max)(left))
    n_samples = max(MIN_SAMPLES, round(seconds * rate))
    sounds = [read_sound(file, rate, n_samples, a.start) for file in files]
    lengths = [len(sound.samples) for sound in sounds]
    n = min(lengths) if a.length == "shorter" else max(lengths)
    samples = torch.stack([fitted(sound.samples, n) for sound in sounds])
    rms = samples.square().mean(-1).sqrt()
    samples = samples * (LEVEL / (rms[:, None] if a.same_level else rms.max()))
    notes = [
        f"{name}: {', '.join(notes_of(sound, duration, n))}"
        for name, sound, duration in zip(names_of(*files), sounds, left, strict=True)
    ]
    if a.same_level:
        notes.append("both scaled to one level")
    decibels = 20 * math.log10(float(rms[1] / rms[0]))
    return Pair(names_of(*files), samples.float(), rate, tuple(notes), decibels)


def fitted(x: Tensor, n: int) -> Tensor:
    """Return n samples, cropped or with zeros at the end."""
    return torch.nn.functional.pad(x[:n], (0, max(0, n - len(x))))


def notes_of(sound: Sound, left: float, n: int) -> list[str]:
    """List the conversions that gave a sound, of which ``left`` seconds follow the start, n samples."""
    seconds = n / sound.sample_rate
    cropped = [f"its last {left - seconds:.3g} s left out"] if left - seconds > 1e-3 else []
    padded = [f"{seconds - left:.3g} s of zeros after it"] if seconds - left > 1e-3 else []
    return [*sound.conversions, *cropped, *padded, *sound.losses]


def summary(comparison: Comparison, pair: Pair) -> str:
    """Return the distance and its largest parts as text."""
    lines = [f"Relative distance {comparison.distance:.3f} (0 the same, 1 as far as silence)"]
    if abs(pair.decibels) >= 0.05:
        louder = pair.names[pair.decibels > 0]
        lines.append(f"{louder} is {abs(pair.decibels):.1f} dB louder")
    if comparison.is_rounding:
        return "\n".join(lines)
    largest = comparison.most(3)
    return "\n".join([
        *lines,
        "Where they differ, in shares of the squared distance:",
        f"  by rate   {listed(comparison.by(rate_name))}",
        f"  by scale  {listed(comparison.by(scale_name))}",
        *(f"  {share:4.0%}  {path}, stronger in {pair.names[second]}" for path, share, second in largest),
    ])  # fmt: skip


def rate_name(path: ScatteringPath) -> str:
    """Return the rate of a path as text."""
    return "order 1 (no rate)" if path.order == 1 else str(path).partition(": ")[2].partition(",")[0]


def scale_name(path: ScatteringPath) -> str:
    """Return the scale and the spin of a path as text."""
    return str(path).partition(", ")[2]


def listed(shares: dict[str, float]) -> str:
    """Return the largest four shares as text."""
    most = sorted(shares.items(), key=lambda item: -item[1])[:4]
    return "; ".join(f"{name} {share:.0%}" for name, share in most)


def prepared_picture(path: Path, files: Sequence[Path]) -> Callable[[JTFSPath, Pair, Comparison], int]:
    """Return the function that draws the picture, after a check of the picture's name.

    Raises:
        ValueError: the name is not that of a picture, or it is that of a recording.
        ImportError: matplotlib is not installed.
        OSError: the folder cannot be written to.
    """
    from scrapl_jtfs.commands._compare.picture import FORMATS, draw_comparison
    from scrapl_jtfs.commands.drawing import PictureError, drawing

    check_name(path, "--picture")
    if path.suffix[1:].lower() not in FORMATS:
        raise ValueError(
            f"Invalid --picture: {shown(path)}; expected a name such as out.png, with one of {', '.join(FORMATS)}"
        )
    if path.is_dir() or any(path.exists() and file.exists() and path.samefile(file) for file in files):
        raise ValueError(
            f"Invalid --picture: {shown(path)}; expected no folder and no recording; name another file"
        )
    with claimed_folder(path.parent):
        pass

    def draw(jtfs: JTFSPath, pair: Pair, comparison: Comparison) -> int:
        try:
            with claimed_folder(path.parent), drawing(path):
                figure = draw_comparison(jtfs, pair.samples, pair.names, comparison)
                write_atomically(path, lambda beside: figure.savefig(beside, format=path.suffix[1:].lower()))
        except PictureError as error:
            say(f"error: {error}; all figures are above", sys.stderr)
            return 1
        say(f"Look at    {shown(path)}")
        return 0

    return draw
