"""The granular synthesizer, under the name that it had before it became part of the package."""

from __future__ import annotations

from scrapl_jtfs.commands.granular import GranularSynth, draw_grains

__all__ = ["GranularSynth", "draw_grains"]
