"""Parts that command lines share: errors of one sentence, threads, names that are safe to print."""

from __future__ import annotations

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
    """Argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print an error and exit with code 2."""
        self.exit(2, f"error: {one_line(message)} (--help lists the options)\n")


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as it is, or quoted with escapes if it would break the line or control the terminal.

    >>> shown("loop $5_%s {x}.wav")
    'loop $5_%s {x}.wav'
    >>> print(shown("two\nlines.wav"))
    'two\nlines.wav'
    """
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def one_line(message: object) -> str:
    r"""Return a message without line breaks and control characters, of at most 300 characters.

    >>> one_line(ValueError("expected a symbol,\n  found end of text"))
    'expected a symbol, found end of text'
    """
    text = " ".join(str(message).split())
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 300 else f"{text[:299]}…"


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a text, with escapes for characters that the stream's encoding lacks."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def guarded(run: Callable[[], int]) -> int:
    """Run a command and return its exit code; errors that the user can mend print a sentence and return 2."""
    try:
        return run()
    except KeyboardInterrupt:
        say("\nInterrupted.", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, ImportError, OSError) as error:
        say(f"error: {error}", sys.stderr)
        return 2


def named_file(text: str) -> Path:
    """Return an argument as a file; an empty one would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a WAV or FLAC file, got none")
    return Path(text)


def check_name(path: Path, what: str) -> None:
    """Raise ValueError if the bytes of a path are not UTF-8, as result files could not hold it."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise ValueError(f"Invalid {what}: {shown(path)}; expected a name in UTF-8; rename it") from None


def set_threads(count: int | None) -> None:
    """Set torch's CPU threads; None leaves torch's choice.

    Raises:
        ValueError: the number is out of range.
    """
    if count is None:
        return
    if not 1 <= count <= _MAX_THREADS:
        raise ValueError(f"Invalid --threads: {count}; expected 1 to {_MAX_THREADS}; 1 is a good choice")
    torch.set_num_threads(count)


def parse_device(text: str) -> torch.device:
    """Return the device of a command line.

    Raises:
        ValueError: it is neither the CPU nor a CUDA device that torch finds.
    """
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"Invalid --device: {shown(text)}; expected cpu or cuda; leave it out for cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Invalid --device: {text}; expected cpu, as torch finds no CUDA device; leave it out")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise ValueError(f"Invalid --device: {text}; expected one of {n} CUDA devices; use --device cuda:0")
    return device
