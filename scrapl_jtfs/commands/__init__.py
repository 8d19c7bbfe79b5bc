"""Command scrapl-jtfs: describe a transform, compare sounds, resynthesize a texture, match grains.

Each command is a module of its name (resynthesize is in ``match``), its parts lie in a folder with an underscore,
and the other modules are shared by the commands and by the benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from scrapl_jtfs.commands.command_line import Parser, guarded
from scrapl_jtfs.commands.provenance import versions

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """Command, whose module is imported when it is asked for, since some need more than torch.

    Attributes:
        module: name of the module in this package.
        function: name of the function, which takes arguments and returns an exit code.
        purpose: text for --help.
    """

    module: str
    function: str
    purpose: str


COMMANDS = {
    "describe": Command("describe", "main", "say what a transform hears, and what training on it takes"),
    "compare": Command("compare", "main", "measure how far two sounds are apart, and at which rates and scales"),
    "resynthesize": Command("match", "resynthesize", "make a texture like a recording from noise"),
    "match": Command("match", "match_grains", "fit density and slope of a granular synthesizer to a recording"),
}
# The packages of the extra "commands".
EXTRAS = ("matplotlib", "soundfile", "tqdm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if a picture failed, 2 for an error that the user can mend, 130 after ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        parse_command(arguments[:1])
    name, rest = arguments[0], arguments[1:]
    return guarded(lambda: call(name, rest))


def parse_command(arguments: Sequence[str]) -> None:
    """Answer --help and --version, or exit with an error."""
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
