"""Tables of the results, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.records import format_table

Rows = Sequence[dict[str, Any]]

_SMOOTHING_GRIDS = (
    ("float64", "gradient", "float32 gradient against float64 at the same eps"),
    ("float64", "value", "float32 value of the loss against float64 at the same eps"),
    ("eps = 0", "coefficients", "float64 coefficients against eps = 0"),
    ("eps = 0", "gradient", "float64 gradient against eps = 0"),
)


def _cell(errors: dict[str, float]) -> str:
    return f"{errors['median']:.0e} {errors['largest']:.0e} {errors['together']:.0e}"


def _grid(rows: Rows, across: str, what: str) -> str:
    """Sounds down, one key across, median, largest and joint errors in the cells."""
    heads = list(dict.fromkeys(row[across] for row in rows))
    sounds = list(dict.fromkeys(row["sound"] for row in rows))
    cells = {(row["sound"], row[across]): _cell(row[what]) for row in rows}
    lines = [[sound, *(cells.get((sound, head), "") for head in heads)] for sound in sounds]
    return format_table([["", *(f"{head:g}" if isinstance(head, float) else str(head) for head in heads)], *lines])


def compact_table(rows: Rows) -> str:
    parts = ["COMPACT: distance from the exact float64 transform: median over paths, largest, all paths together"]
    parts += [
        f"\n{what}; columns: samples per bandwidth, or what else was changed\n{_grid(rows, 'variant', what)}"
        for what in ("coefficients", "gradient", "value")
    ]
    return "\n".join(parts)


def smoothing_table(rows: Rows) -> str:
    """Rounding of gradients and values, and what eps does to coefficients and to gradients."""
    parts = ["SMOOTHING: columns: eps in units of the signal's RMS; cells as above"]
    for against, what, title in _SMOOTHING_GRIDS:
        chosen = [row for row in rows if row["against"] == against]
        if chosen:
            parts.append(f"\n{title}\n{_grid(chosen, 'smoothing', what)}")
    return "\n".join(parts)


def layers_table(rows: Rows) -> str:
    """The same with the ratio of the two layers' eps across, one set of grids for each eps."""
    parts = ["LAYERS: columns: eps of the second layer over that of the first; cells as above"]
    for eps in dict.fromkeys(row["smoothing"] for row in rows):
        for against, what, title in _SMOOTHING_GRIDS:
            chosen = [row for row in rows if row["against"] == against and row["smoothing"] == eps]
            if chosen:
                parts.append(f"\neps {eps:g}: {title}\n{_grid(chosen, 'second', what)}")
    return "\n".join(parts)


def gradient_table(rows: Rows) -> str:
    head = ["", "reference", "median", "90th percentile", "largest", "all together"]
    lines = [
        [
            row["arm"],
            row["against"],
            *(f"{row[key]:.1e}" for key in ("median", "percentile_90", "largest", "together")),
        ]
        for row in rows
    ]
    title = "PARAMETERS: distance of path losses' gradients with respect to (AM, FM) of clean chirplets"
    return f"{title}\n{format_table([head, *lines])}"


def training_table(rows: Rows) -> str:
    title = (
        "TRAINING: errors of AM and FM of clean chirplets after SCRAPL, in thousandths of their range "
        f"({len(rows[0]['final'])} starts, {rows[0]['steps']} steps)"
    )
    head = ["", "mean", "std", "median", "converged", "minus reference: mean", "std", "largest |.|"]
    lines = [
        [
            row["arm"],
            *(f"{1000 * row[key]:.1f}" for key in ("mean", "std", "median")),
            f"{row['converged']:.0%}",
            *(f"{1000 * row[key]:.2f}" for key in ("paired_mean", "paired_std", "paired_largest")),
        ]
        for row in rows
    ]
    return f"{title}\n{format_table([head, *lines])}"


def boundary_table(rows: Rows) -> str:
    """Distances of every variant for each T, then those of the even boundary by frame."""
    parts = ["BOUNDARY: distance in float64: median over paths, largest, all paths together"]
    for T, against in dict.fromkeys((row["T"], row["against"]) for row in rows):
        chosen = [row for row in rows if (row["T"], row["against"]) == (T, against)]
        parts += [
            f"\nT={T}, {what}, from the sound as in: {against}\n{_grid(chosen, 'variant', what)}"
            for what in ("coefficients", "gradient", "value")
        ]
    return "\n".join([*parts, "", _frame_table(rows)])


def _frame_table(rows: Rows) -> str:
    even = [row for row in rows if row["variant"] == "even" and len(row["frames"]) > 1]
    chosen = [row for row in even if row["against"] == "kymatio"]
    frames = range(len(chosen[0]["frames"]))
    lines = [
        [row["sound"], *(f"{d:.0e}" for d in row["frames"]), *map(_percent, row["at_the_ends"].values())]
        for row in chosen
    ]
    head = ["", *(f"frame {i}" for i in frames), "at the ends", "of the gradient"]
    return (
        f"Even from kymatio by frame, in units of a path's RMS frame: median path\n{format_table([head, *lines])}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
