"""Unsupervised sound matching of a granular synthesizer: the main experiment of the SCRAPL paper."""

from __future__ import annotations

import os

# nnAudio2 prints a request for citation when imported; the report cites it instead
os.environ.setdefault("NNAUDIO_DISABLE_CITATION_REMINDER", "1")
