"""Pictures of sounds, of paths and of losses; each needs matplotlib, which is imported when one is drawn."""

from __future__ import annotations

from scrapl_jtfs._figures.alignment import draw_alignment
from scrapl_jtfs._figures.curves import draw_curves, draw_sweep
from scrapl_jtfs._figures.distribution import Placed, draw_distribution
from scrapl_jtfs._figures.numbers import Values
from scrapl_jtfs._figures.rate_scale import draw_rate_scale
from scrapl_jtfs._figures.sounds import draw_coefficients, draw_scalogram

__all__ = [
    "Placed",
    "Values",
    "draw_alignment",
    "draw_coefficients",
    "draw_curves",
    "draw_distribution",
    "draw_rate_scale",
    "draw_scalogram",
    "draw_sweep",
]
