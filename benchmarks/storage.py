"""The study's name before it was finished; python -m benchmarks.studies.storage is the new one."""

from __future__ import annotations

import sys

from benchmarks.studies.storage.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
