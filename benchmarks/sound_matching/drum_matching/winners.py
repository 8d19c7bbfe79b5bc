"""Which arm is closest in each metric, in one sentence made from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.sound_matching.drum_matching.paper import REFERENCE, UNTRAINED
from benchmarks.sound_matching.drum_matching.summary import mean_of, paired_between, ranking
from benchmarks.sound_matching.metrics import ALL

_LABELS = {
    "mss": "MSS log + linear",
    "jtfs": "JTFS",
    "frechet_aisfx": "Frechet distance (aiSFX)",
    "frechet_crepe": "Frechet distance (CREPE)",
    "transient_loudness": "loudness of the transient (dB)",
    "transient_centroid": "spectral centroid of the transient",
    "transient_flatness": "spectral flatness of the transient",
    "decay_loudness": "loudness of the decay (dB)",
    "decay_centroid": "spectral centroid of the decay",
    "decay_flatness": "spectral flatness of the decay",
}


def metric_label(metric: str) -> str:
    """Return the name of a metric as a text has it."""
    return _LABELS.get(metric, metric.replace("_", " "))


def number(value: float) -> str:
    """Format a distance with three significant digits, and all digits before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_interval(summary: Mapping[str, Any] | None) -> str:
    """Format a mean with the half width of its 95% interval, where it has one."""
    if not summary or not summary["n"]:
        return "-"
    interval = summary["interval95"]
    return number(summary["mean"]) + ("" if interval is None else f" ± {number((interval[1] - interval[0]) / 2)}")


def metrics_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics that any arm has, in their order."""
    return list(dict.fromkeys(metric for arm in summary.values() for metric in arm["test"]))


def sentence(summary: Mapping[str, Any], metric: str) -> str:
    """Tell which arm is closest in a metric, if it can be told from the next, how SCRAPL fares, and by kind."""
    arms = [arm for arm in ranking(summary, metric) if arm != UNTRAINED]
    if not arms:
        return f"{_capital(metric_label(metric))}: no arm is finished."
    best, values = arms[0], summary[arms[0]]["test"][metric]
    text = f"{_capital(metric_label(metric))}: {best} is closest, {with_interval(values[ALL])}"
    if len(arms) > 1:
        text += f"; {_against(summary, best, arms[1], metric)}"
    if REFERENCE in arms[2:]:
        text += f"; {REFERENCE} is {arms.index(REFERENCE) + 1} of {len(arms)}, {_times(summary, best, metric)}"
    return f"{text}{_by_kind(summary, metric, best)}."


def sentences(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the sentence of each metric of a setting."""
    return {metric: sentence(summary, metric) for metric in metrics_of(summary)}


def _against(summary: Mapping[str, Any], best: str, other: str, metric: str) -> str:
    """Compare the best arm with the next."""
    value = number(mean_of(summary, other, metric) or 0.0)
    match paired_between(summary, best, other, metric):
        case "better":
            return f"next is {other} with {value}, further off by paired 95% intervals"
        case "too few seeds":
            return f"next is {other} with {value}, on too few seeds to tell them apart"
        case _:
            return f"{other} with {value} cannot be told from it"


def _times(summary: Mapping[str, Any], best: str, metric: str) -> str:
    lowest, ours = mean_of(summary, best, metric), mean_of(summary, REFERENCE, metric) or 0.0
    return f"{ours / lowest:.2g} times as far off" if lowest else f"with {number(ours)}"


def _by_kind(summary: Mapping[str, Any], metric: str, best: str) -> str:
    """Name the kinds of drums in which another arm is closest."""
    kinds = dict.fromkeys(group for arm in summary.values() for group in arm["test"].get(metric, {}))
    others: dict[str, list[str]] = {}
    for kind in kinds:
        first = next((arm for arm in ranking(summary, metric, kind) if arm != UNTRAINED), best)
        if kind != ALL and first != best:
            others.setdefault(first, []).append(kind)
    if not others:
        return ""
    return "; by kind, " + ", ".join(f"{arm} for {' and '.join(some)}" for arm, some in others.items())


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
