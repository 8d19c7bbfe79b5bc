"""python -m scrapl_jtfs: the command scrapl-jtfs."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
