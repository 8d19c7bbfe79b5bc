"""Numbers as text, for messages and descriptions."""

from __future__ import annotations


def bytes_text(n_bytes: int) -> str:
    """Return a number of bytes with its decimal unit, as in "22.7 GB"."""
    value, units = float(n_bytes), iter(("bytes", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 999.5 and unit != "PB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"
