"""The study's name before it was finished; python -m benchmarks.studies.accuracy is the new one."""

from __future__ import annotations

import sys

from benchmarks.studies.accuracy.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
