"""python -m scrapl_jtfs: the command scrapl-jtfs."""

from __future__ import annotations

import sys

from scrapl_jtfs.commands import main

if __name__ == "__main__":
    sys.exit(main())
