"""python -m benchmarks.sound_matching.recording FILE --mode MODE: the commands resynthesize and match."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scrapl_jtfs import commands
from scrapl_jtfs.commands.command_line import Parser
from scrapl_jtfs.commands.match import match

__all__ = ["main", "match"]

_COMMANDS = {"texture": "resynthesize", "granular": "match"}


def main(argv: Sequence[str] | None = None) -> int:
    """Pass everything but --mode on to the command; exit codes are the command's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = Parser(prog="python -m benchmarks.sound_matching.recording", add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", choices=_COMMANDS, required=True)
    own, rest = parser.parse_known_args(arguments[:end])
    return commands.main([_COMMANDS[own.mode], *rest, *arguments[end:]])


if __name__ == "__main__":
    sys.exit(main())
