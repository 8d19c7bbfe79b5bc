"""Recordings of single drum strokes: those in Debian packages, or those in a folder of one's own."""

from __future__ import annotations
