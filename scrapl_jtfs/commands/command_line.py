"""What command lines have in common: errors of one sentence, threads, names that are safe to print."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

import torch

__all__ = [
    "Parser",
    "check_name",
    "guarded",
    "named_file",
    "one_line",
    "parse_device",
    "say",
    "set_threads",
    "shown",
]

_MAX_THREADS = max(256, os.cpu_count() or 1)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)} (--help lists the options)\n")


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path as it is, or quoted with escapes where it would break the line or drive the terminal.

    >>> shown("loop $5_%s {x}.wav")
    'loop $5_%s {x}.wav'
    >>> print(shown("two\nlines.wav"))
    'two\nlines.wav'
    """
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def one_line(message: object) -> str:
    r"""A message without line breaks and control characters, of at most 300 characters.

    >>> one_line(ValueError("expected a symbol,\n  found end of text"))
    'expected a symbol, found end of text'
    """
    text = " ".join(str(message).split())
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 300 else f"{text[:299]}…"


def say(text: str, stream: TextIO | None = None) -> None:
    """Print, with escapes for what the stream's encoding lacks: no finished fit ends in an encoding error."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def guarded(run: Callable[[], int]) -> int:
    """Run a command; what the user can mend is told in a sentence, with exit code 2, and ctrl-C with 130."""
    try:
        return run()
    except KeyboardInterrupt:
        say("\nInterrupted.", sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, ImportError, OSError) as error:
        say(f"error: {error}", sys.stderr)
        return 2


def named_file(text: str) -> Path:
    """An argument that names a file: an empty one would be the current folder's."""
    if not text:
        raise argparse.ArgumentTypeError("no recording is named; name a WAV or FLAC file")
    return Path(text)


def check_name(path: Path, what: str) -> None:
    """Raise ValueError for a path whose bytes are not UTF-8: result files could not hold it."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise ValueError(f"Invalid {what}: {shown(path)}; expected a name in UTF-8; rename it") from None


def set_threads(count: int | None) -> None:
    """Set torch's CPU threads; None leaves torch's choice. Raises ValueError for a number out of range."""
    if count is None:
        return
    if not 1 <= count <= _MAX_THREADS:
        raise ValueError(f"Invalid --threads: {count}; expected 1 to {_MAX_THREADS}; 1 is a good choice")
    torch.set_num_threads(count)


def parse_device(text: str) -> torch.device:
    """The device of a command line. Raises ValueError unless it is the CPU or a CUDA device that torch finds."""
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"Invalid --device: {shown(text)}; expected cpu or cuda; leave it out for cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Invalid --device: {text}; this torch finds no CUDA device; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise ValueError(f"Invalid --device: {text}; this torch finds {n} CUDA devices; use --device cuda:0")
    return device
