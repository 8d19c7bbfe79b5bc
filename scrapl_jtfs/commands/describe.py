"""Command describe: description of a transform with settings of the user, or chosen for sounds."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scrapl_jtfs._describe.settings_for_sounds import settings_for_sounds
from scrapl_jtfs.commands.audio import read_format
from scrapl_jtfs.commands.command_line import Parser, say, shown
from scrapl_jtfs.transform import JTFSPath

__all__ = ["main"]

_RATES, _N_PATHS = (2.0, 20.0), 100
# Options of settings that are chosen for sounds.
_CHOICE = ("rates", "paths")
# Options of settings of the user, which include J.
_SETTINGS = ("Q", "J_fr", "Q_fr", "T", "F")
_DEFAULTS = {"Q": (8, 1), "J_fr": 3, "Q_fr": 1, "T": None, "F": None}


class Outline(JTFSPath):
    """Transform with paths and geometry but without constants, which take long for long signals."""

    def _build_filters(self) -> None:
        pass


class Length(NamedTuple):
    """Length of the signals.

    Attributes:
        n_samples: the number N of samples.
        sample_rate: in Hz; 1 stands for an unknown one.
    """

    n_samples: int
    sample_rate: float


def main(argv: Sequence[str]) -> int:
    """Print the settings as Python, the description, and with --table the paths."""
    a = parse_arguments(argv)
    length, orders = find_length(a), as_orders(a.orders)
    settings = choose(a, length, orders) if a.J is None else settings_of_user(a, length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the description tells of long averages, too
        kind = JTFSPath if a.measure else Outline
        jtfs = kind(**settings, sample_rate=length.sample_rate, orders=orders)
    described = jtfs.describe(steps=a.steps, n_parameters=a.parameters, measure=a.measure)
    say(as_python({**settings, "sample_rate": length.sample_rate, "orders": orders}))
    say(str(described))
    if a.table:
        say(f"\n{jtfs.paths}")
    return 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(
        prog="scrapl-jtfs describe",
        description=(
            "Say what a transform hears and what training on it takes. Settings are chosen for sounds, named by "
            "files or by --seconds and --rate, to hear --rates with about --paths paths; or give --J and others."
        ),
    )
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="sounds; the longest gives the length")
    parser.add_argument("--seconds", type=float, help="length of the sounds")
    parser.add_argument("--samples", type=int, help="length in samples, in place of --seconds")
    parser.add_argument("--rate", type=float, help="sample rate in Hz")
    sounds = parser.add_argument_group("settings chosen for sounds")
    sounds.add_argument(
        "--rates", type=float, nargs=2, metavar=("LOW", "HIGH"), help="modulations to hear, in Hz (default: 2 20)"
    )
    sounds.add_argument("--paths", type=int, help=f"about how many paths (default: {_N_PATHS})")
    own = parser.add_argument_group("settings of your own")
    own.add_argument("--J", type=int, help="octaves in time")
    own.add_argument("--Q", type=int, nargs="+", metavar="Q", help="wavelets per octave, Q1 [Q2] (default: 8 1)")
    own.add_argument("--J-fr", type=int, help="octaves along log-frequency (default: 3)")
    own.add_argument("--Q-fr", type=int, help="wavelets per octave along log-frequency (default: 1)")
    own.add_argument("--T", type=support, help="average in samples, 0 or global (default: 2**J)")
    own.add_argument("--F", type=support, help="average in first-order filters, 0 or global (default: 2**J_fr)")
    parser.add_argument(
        "--orders", type=int, nargs="+", default=[2], metavar="ORDER", help="1, 2 or both (default: 2)"
    )
    parser.add_argument("--steps", type=int, help="of training, to be told how often they visit each path")
    parser.add_argument("--parameters", type=int, help="of a model, to be told the memory of PathAdamSAGA")
    parser.add_argument(
        "--measure", action="store_true", help="time a step, and one of a spectrogram loss, on this machine"
    )
    parser.add_argument("--table", action="store_true", help="print the table of paths, too")
    return parser.parse_args(argv)


def support(text: str) -> int | str:
    """Return an average of the command line."""
    if text == "global":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or global, got {shown(text)!r}") from None


def find_length(a: argparse.Namespace) -> Length:
    """Return the length of the sounds.

    Raises:
        ValueError: the options do not name one length.
    """
    if a.files:
        for name in ("seconds", "samples", "rate"):
            if getattr(a, name) is not None:
                raise ValueError(
                    f"Invalid --{name}: files have a length and a rate; expected no others; leave it out"
                )
        return length_of_files(a.files)
    if (a.seconds is None) == (a.samples is None):
        raise ValueError(
            "Invalid length: none or several; expected sound files, --seconds and --rate, or --samples; name one"
        )
    if a.seconds is not None and a.rate is None:
        raise ValueError("Invalid --rate: none; expected a sample rate in Hz with --seconds; add --rate")
    rate = 1.0 if a.rate is None else a.rate
    if not 0 < rate < float("inf"):
        raise ValueError(f"Invalid --rate: {rate:g}; expected a positive number of Hz")
    if a.seconds is None:
        return Length(a.samples, rate)
    if not 0 < a.seconds * rate < 2.0**53:
        raise ValueError(f"Invalid --seconds: {a.seconds:g}; expected a positive length")
    return Length(max(1, round(a.seconds * rate)), rate)


def length_of_files(files: Sequence[Path]) -> Length:
    """Return the length of the longest file; all have one sample rate."""
    formats = [read_format(file) for file in files]
    for file, own in zip(files, formats, strict=True):
        if own.rate != formats[0].rate:
            raise ValueError(
                f"{shown(file)}: {own.rate} Hz, and {shown(files[0])} {formats[0].rate} Hz; expected one sample "
                "rate; resample the files beforehand, or name one"
            )
    return Length(max(own.frames for own in formats), float(formats[0].rate))


def choose(a: argparse.Namespace, length: Length, orders: Sequence[int]) -> dict[str, Any]:
    """Return settings that are chosen for sounds of this length."""
    for name in _SETTINGS:
        if getattr(a, name) is not None:
            raise ValueError(f"Invalid {option(name)}: settings are chosen; expected it with --J alone; add --J")
    if length.sample_rate == 1.0:
        raise ValueError("Invalid --rate: none; expected a sample rate in Hz, to choose by; add --rate, or --J")
    if length.n_samples < 1:
        raise ValueError(f"Invalid --samples: {length.n_samples}; expected at least 1")
    rates = _RATES if a.rates is None else tuple(a.rates)
    n_paths = _N_PATHS if a.paths is None else a.paths
    return settings_for_sounds(length.n_samples / length.sample_rate, length.sample_rate, rates, n_paths, orders)


def settings_of_user(a: argparse.Namespace, length: Length) -> dict[str, Any]:
    """Return the settings of the command line."""
    for name in _CHOICE:
        if getattr(a, name) is not None:
            raise ValueError(
                f"Invalid {option(name)}: with --J no settings are chosen; expected one of both; leave one out"
            )
    if a.Q is not None and len(a.Q) > 2:
        raise ValueError(f"Invalid --Q: {' '.join(map(str, a.Q))}; expected Q1 or Q1 Q2")
    named = {name: _DEFAULTS[name] if getattr(a, name) is None else getattr(a, name) for name in _SETTINGS}
    return {"n_samples": length.n_samples, "J": a.J, **named, "Q": (*named["Q"], 1)[:2]}


def as_orders(orders: Sequence[int]) -> tuple[int, ...]:
    """Return the orders, each once, or raise ValueError."""
    if not set(orders) <= {1, 2}:
        raise ValueError(f"Invalid --orders: {' '.join(map(str, orders))}; expected 2, 1, or both")
    return tuple(sorted(set(orders)))


def option(name: str) -> str:
    """Return a setting as an option of the command line."""
    return f"--{name.replace('_', '-')}"


def as_python(settings: dict[str, Any]) -> str:
    """Return the Python call that builds the transform.

    >>> as_python({"n_samples": 16000, "J": 12, "Q": (8, 2), "T": "global", "F": None, "orders": (2,)})
    "JTFSPath(16000, J=12, Q=(8, 2), T='global')"
    """
    left_out: dict[str, Any] = {"T": None, "F": None, "sample_rate": 1.0, "orders": (2,)}
    told = {name: value for name, value in settings.items() if name not in left_out or value != left_out[name]}
    told |= {name: int(value) for name, value in told.items() if isinstance(value, float) and value.is_integer()}
    named = [f"{name}={value!r}" for name, value in told.items()]
    return f"JTFSPath({', '.join(named).replace('n_samples=', '', 1)})"
