"""The tables of the study: the paper's Tables 4, 8 and 9 beside its numbers, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.records import format_table
from benchmarks.sound_matching.drum_matching.paper import LABELS, PUBLISHED, REFERENCE, TABLES, Published
from benchmarks.sound_matching.drum_matching.summary import agreement, mean_of, paper_metric
from benchmarks.sound_matching.drum_matching.winners import (
    metric_label,
    metrics_of,
    number,
    sentences,
    with_interval,
)
from benchmarks.sound_matching.metrics import ALL

Rows = list[list[str]]

DIFFERENCES = (
    "What differs from the paper: recordings of many drums and machines from free packages in place of those of "
    "one drum machine; shorter sounds at a lower rate and a narrower encoder where the preset is small; another "
    "split and fewer seeds; a synthesizer written from the paper; Frechet distances over other embeddings than "
    "EnCodec. The paper does not name the units of its numbers: compare ratios to scrapl, in parentheses, not "
    "values. As in its authors' program, matches are shifted in training alone, and tests are aligned."
)

LEVELS = (
    "Decay by level of the target: error of loudness in dB, and in parentheses by how much matches are too loud"
)
"""Title of the table of levels. Arms have their own seeds: compare those of equal numbers."""


def _of_table(summary: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """Return our metrics that stand in a table of the paper."""
    return [metric for metric in metrics_of(summary) if paper_metric(metric) in metrics]


def _ratio(value: float | None, reference: float | None) -> str:
    return "" if value is None or not reference else f" ({value / reference:.2f})"


def _ours(summary: Mapping[str, Any], arm: str, metric: str) -> str:
    """Format a mean with its interval, and its ratio to the reference."""
    found = summary[arm]["test"].get(metric, {}).get(ALL)
    ratio = _ratio(mean_of(summary, arm, metric), mean_of(summary, REFERENCE, metric))
    return with_interval(found) + (ratio if found else "")


def _theirs(setting: str, arm: str, metric: str) -> str:
    """Format a number of the paper in the same way."""
    published = PUBLISHED[paper_metric(metric)][setting]
    found: Published | None = published.get(arm)
    if found is None:
        return ""
    return f"{number(found.mean)} ± {number(found.reach)}{_ratio(found.mean, published[REFERENCE].mean)}"


def paper_table(summary: Mapping[str, Any], setting: str, metrics: Sequence[str]) -> Rows:
    """Return a table of the paper, with a column for it after each of ours; the header first."""
    ours = _of_table(summary, metrics)
    rows = [["arm", "seeds", *(cell for metric in ours for cell in (metric_label(metric), "paper"))]]
    for arm, found in summary.items():
        cells = [cell for m in ours for cell in (_ours(summary, arm, m), _theirs(setting, arm, m))]
        rows.append([arm, str(len(found["runs"])), *cells])
    return rows


def kinds_table(summary: Mapping[str, Any], metric: str) -> Rows:
    """Return a metric by kind of drum; the header first."""
    kinds = sorted({group for arm in summary.values() for group in arm["test"].get(metric, {})} - {ALL})
    rows = [[metric_label(metric), ALL, *kinds]]
    for arm, found in summary.items():
        groups = found["test"].get(metric, {})
        rows.append([arm, *(with_interval(groups.get(group)) for group in (ALL, *kinds))])
    return rows


def differences_table(summary: Mapping[str, Any], metrics: Sequence[str]) -> Rows:
    """Return paired differences from the reference with their 95% intervals and verdicts; the header first."""
    ours = _of_table(summary, metrics)
    rows = [[f"minus {REFERENCE}", "seeds", *map(metric_label, ours)]]
    for arm, found in summary.items():
        of = found.get("minus_reference", {})
        if not any(of.get(metric, {"n": 0})["n"] for metric in ours):
            continue
        n = max(of[metric]["n"] for metric in ours if metric in of)
        rows.append([arm, str(n), *(_difference(of.get(metric)) for metric in ours)])
    return rows


def _difference(found: Mapping[str, Any] | None) -> str:
    if not found or not found["n"]:
        return "-"
    return f"{with_interval(found)}, {found['verdict']}"


def costs_table(summary: Mapping[str, Any]) -> Rows:
    """Return what training took; the header first."""
    rows = [["arm", "steps", "ms/step", "minutes"]]
    for arm, found in summary.items():
        cells = (str(found["steps"]), f"{found['ms_per_step']:.0f}", f"{found['median_seconds'] / 60:.1f}")
        rows.append([arm, *cells])
    return rows


def levels_table(summary: Mapping[str, Any]) -> Rows:
    """Return errors of the decay's loudness by the target's level, biases in parentheses; the header first.

    Shares are those of the first arm: targets decide them, and arms of other seeds have other targets.
    """
    of_arms = {arm: found["decay_by_level"] for arm, found in summary.items() if found.get("decay_by_level")}
    bands = dict.fromkeys(band for levels in of_arms.values() for band in levels)
    shares = next(iter(of_arms.values()), {})
    rows = [["dB below the peak", "seeds", *(_with_share(band, shares.get(band)) for band in bands)]]
    for arm, levels in of_arms.items():
        n_seeds = max(of["error"]["n"] for of in levels.values())
        rows.append([arm, str(n_seeds), *(_of_band(levels.get(band)) for band in bands)])
    return rows


def _with_share(band: str, found: Mapping[str, Any] | None) -> str:
    return band if found is None else f"{band} ({found['share']:.0%} of frames)"


def _of_band(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    # Adding zero makes a zero of a negative one.
    return f"{with_interval(found['error'])} ({round(found['bias']['mean'], 1) + 0.0:+.1f})"


def order_lines(summary: Mapping[str, Any], setting: str) -> list[str]:
    """Tell for each metric how far the order of the arms is the paper's."""
    lines = []
    for metric in metrics_of(summary):
        found = agreement(summary, setting, metric)
        if not found["pairs"]:
            continue
        turned = [f"{a} before {b}" for a, b in found["contradicted"]]
        clear = f"; against it beyond both intervals: {', '.join(turned)}" if turned else ""
        lines.append(
            f"{metric_label(metric)}: {found['agree']} of {found['pairs']} pairs are as in the paper{clear}"
        )
    return lines


def table(results: Mapping[str, Any]) -> str:
    """Format everything for the terminal."""
    parts = [
        "Distances on unseen drums, lower is better: mean over seeds ± half of the 95% interval (ratio to "
        f"{REFERENCE}).",
        DIFFERENCES,
        *results["left_out"],
    ]
    for setting, found in results["settings"].items():
        summary = found["arms"]
        if not summary:
            continue
        parts.append(f"{setting.upper()}")
        for title, metrics in TABLES.items():
            parts.append(f"{title}\n{format_table(paper_table(summary, setting, metrics))}")
            differences = differences_table(summary, metrics)
            if len(differences) > 1:
                parts.append(format_table(differences))
        levels = levels_table(summary)
        if len(levels) > 1:
            parts.append(f"{LEVELS}\n{format_table(levels)}")
        parts.append(f"What training took\n{format_table(costs_table(summary))}")
        parts.append("\n".join(sentences(summary).values()))
        parts.append("\n".join(order_lines(summary, setting)))
    return "\n\n".join(part for part in parts if part)


def page_rows(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the rows of the documentation's tables, in Markdown, by the setting and the title of the table.

    The first two rows of each are its header.
    """
    found = {}
    for setting, of in results["settings"].items():
        if of["arms"]:
            for title, metrics in TABLES.items():
                found[f"{setting}, {title}"] = markdown(_named(paper_table(of["arms"], setting, metrics)))
            if len(levels := levels_table(of["arms"])) > 1:
                found[f"{setting}, {LEVELS}"] = markdown(_named(levels))
    return found


def _named(rows: Rows) -> Rows:
    """Add the paper's names of the arms to the first column."""
    header, *body = rows
    return [header, *([f"{row[0]} ({LABELS[row[0]]})" if row[0] in LABELS else row[0], *row[1:]] for row in body)]


def markdown(rows: Rows) -> list[str]:
    """Return the lines of a table in Markdown."""
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, "|" + "---|" * len(rows[0]), *body]
