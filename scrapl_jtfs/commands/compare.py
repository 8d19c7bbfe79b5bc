"""scrapl-jtfs compare: how far two sounds are apart, and at which rates and scales."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..paths import Path as ScatteringPath
from ..transform import JTFSPath
from .audio import LEVEL, MAX_RATE, MIN_SAMPLES, Sound, read_format, read_sound
from .command_line import Parser, check_name, named_file, say, set_threads, shown
from .comparison import Comparison, compare
from .files import claimed_folder, write_atomically
from .fit import make_jtfs

__all__ = ["main"]

_USUAL_RATE = 16384  # Hz, unless both files have less
_MIN_RATE = 2 * MIN_SAMPLES
_MAX_SECONDS = 60.0


@dataclass(frozen=True)
class Pair:
    """Two sounds of one rate and length; `samples` (2, N) float32 with the louder one at the RMS `LEVEL`."""

    names: tuple[str, str]
    samples: Tensor
    sample_rate: int
    notes: tuple[str, ...]
    decibels: float  # how much louder the second is than the first


def main(argv: Sequence[str]) -> int:
    """Print the distance and where it comes from; then draw it with --picture."""
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
    found = compare(jtfs, *pair.samples)
    say(summary(found, pair))
    return 0 if draw is None else draw(jtfs, pair, found)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
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
    if not 0 < a.seconds <= _MAX_SECONDS:
        raise ValueError(f"Invalid seconds: {a.seconds:g}; expected a length above 0 and up to {_MAX_SECONDS:g}")
    if not 0 <= a.start < math.inf:
        raise ValueError(f"Invalid start: {a.start:g}; expected seconds from the beginning, 0 or more")
    if a.rate is not None and not _MIN_RATE <= a.rate <= MAX_RATE:
        raise ValueError(f"Invalid rate: {a.rate}; expected {_MIN_RATE} to {MAX_RATE} Hz; or leave it out")


def names_of(a: Path, b: Path) -> tuple[str, str]:
    """Names of two files without their folders, unless these tell them apart."""
    return (shown(a), shown(b)) if a.name == b.name else (shown(a.name), shown(b.name))


def read_pair(a: argparse.Namespace) -> Pair:
    """Both files at one rate and of one length."""
    files = (a.a, a.b)
    formats = [read_format(file, a.start) for file in files]
    rate = a.rate or max(_MIN_RATE, min(_USUAL_RATE, *(found.rate for found in formats)))
    left = [found.seconds - a.start for found in formats]
    seconds = min(a.seconds, (min if a.length == "shorter" else max)(left))
    wanted = max(MIN_SAMPLES, round(seconds * rate))
    sounds = [read_sound(file, rate, wanted, a.start) for file in files]
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
    """n samples: cropped, or with zeros at the end."""
    return torch.nn.functional.pad(x[:n], (0, max(0, n - len(x))))


def notes_of(sound: Sound, left: float, n: int) -> list[str]:
    """What was done to a sound, of which `left` seconds follow the start, to have n samples."""
    seconds = n / sound.sample_rate
    cropped = [f"its last {left - seconds:.3g} s left out"] if left - seconds > 1e-3 else []
    padded = [f"{seconds - left:.3g} s of zeros after it"] if seconds - left > 1e-3 else []
    return [*sound.conversions, *cropped, *padded, *sound.losses]


def summary(found: Comparison, pair: Pair) -> str:
    """The distance, and where it comes from."""
    lines = [f"Relative distance {found.distance:.3f} (0 the same, 1 as far as silence)"]
    if abs(pair.decibels) >= 0.05:
        louder = pair.names[pair.decibels > 0]
        lines.append(f"{louder} is {abs(pair.decibels):.1f} dB louder")
    if found.is_rounding:
        return "\n".join(lines)
    return "\n".join([
        *lines,
        "Where they differ, in shares of the squared distance:",
        f"  by rate   {listed(found.by(rate_name))}",
        f"  by scale  {listed(found.by(scale_name))}",
        *(f"  {share:4.0%}  {path}, stronger in {pair.names[second]}" for path, share, second in found.most(3)),
    ])  # fmt: skip


def rate_name(path: ScatteringPath) -> str:
    return "order 1 (no rate)" if path.order == 1 else str(path).partition(": ")[2].partition(",")[0]


def scale_name(path: ScatteringPath) -> str:
    return str(path).partition(", ")[2]


def listed(shares: dict[str, float]) -> str:
    """The largest four."""
    most = sorted(shares.items(), key=lambda item: -item[1])[:4]
    return "; ".join(f"{name} {share:.0%}" for name, share in most)


def prepared_picture(path: Path, files: Sequence[Path]) -> Callable[[JTFSPath, Pair, Comparison], int]:
    """What draws, after all that can be wrong with the picture's name is checked.

    Raises:
        ValueError: the name is none of a picture's, or that of a recording.
        ImportError: matplotlib is not installed.
        OSError: the folder cannot be written to.
    """
    from .comparison_picture import FORMATS, draw_comparison
    from .drawing import PictureError, drawing

    check_name(path, "--picture")
    if path.suffix[1:].lower() not in FORMATS:
        raise ValueError(
            f"Invalid --picture: {shown(path)}; expected a name such as out.png, with one of {', '.join(FORMATS)}"
        )
    if path.is_dir() or any(path.exists() and file.exists() and path.samefile(file) for file in files):
        raise ValueError(f"Invalid --picture: {shown(path)} is a folder or a recording; name another file")
    with claimed_folder(path.parent):
        pass

    def draw(jtfs: JTFSPath, pair: Pair, found: Comparison) -> int:
        try:
            with claimed_folder(path.parent), drawing(path):
                figure = draw_comparison(jtfs, pair.samples, pair.names, found)
                write_atomically(path, lambda beside: figure.savefig(beside, format=path.suffix[1:].lower()))
        except PictureError as error:
            say(f"error: {error}; all figures are above", sys.stderr)
            return 1
        say(f"Look at    {shown(path)}")
        return 0

    return draw
