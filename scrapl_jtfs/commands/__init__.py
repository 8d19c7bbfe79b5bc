"""scrapl-jtfs: describe a transform, compare two sounds, resynthesize a texture, match grains to a recording."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from .command_line import Parser, guarded
from .provenance import versions

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """Where a command is; modules are imported when they are asked for, since some need more than torch."""

    module: str
    function: str
    purpose: str


COMMANDS = {
    "describe": Command("describe", "main", "say what a transform hears, and what training on it takes"),
    "compare": Command("compare", "main", "measure how far two sounds are apart, and at which rates and scales"),
    "resynthesize": Command("match", "resynthesize", "make a texture like a recording from noise"),
    "match": Command("match", "match_grains", "fit density and slope of a granular synthesizer to a recording"),
}
EXTRAS = ("matplotlib", "soundfile", "tqdm")
"""Packages of the extra "commands"."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 for a picture that failed, 2 for something the user can mend, 130 after ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        parse_command(arguments[:1])
    name, rest = arguments[0], arguments[1:]
    return guarded(lambda: call(name, rest))


def parse_command(arguments: Sequence[str]) -> None:
    """--help, --version, or an error."""
    width = max(map(len, COMMANDS))
    parser = Parser(
        prog="scrapl-jtfs",
        description="Joint time-frequency scattering of sounds.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {command.purpose}" for name, command in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = versions(["scrapl-jtfs"])["scrapl-jtfs"]
    parser.add_argument("--version", action="version", version=f"scrapl-jtfs {own}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="COMMAND --help says more")
    parser.parse_args(arguments)


def call(name: str, rest: Sequence[str]) -> int:
    """Import and run a command.

    Raises:
        ImportError: a package that the command needs is not installed.
    """
    command = COMMANDS[name]
    try:
        module = import_module(f".{command.module}", __package__)
        return getattr(module, command.function)(rest)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise ImportError(
            f"scrapl-jtfs {name} needs the package {package}: pip install 'scrapl-jtfs[commands]'"
        ) from error
