"""A page on matched drums: tables beside the paper's, which loss is closest where, and eight drums to hear."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.sound_matching.data import build_front_end
from benchmarks.sound_matching.drum_matching.paper import LABELS, TABLES
from benchmarks.sound_matching.drum_matching.tables import (
    DIFFERENCES,
    costs_table,
    differences_table,
    kinds_table,
    order_lines,
    paper_table,
)
from benchmarks.sound_matching.drum_matching.task import DrumTask, Recordings
from benchmarks.sound_matching.drum_matching.winners import metric_label, metrics_of, number, sentences
from benchmarks.sound_matching.examples import Sound
from benchmarks.sound_matching.figures import spectrogram_figure
from benchmarks.sound_matching.page import STYLE, rows_of_sounds, table_html
from benchmarks.sound_matching.report import svg, write_sounds
from scrapl_jtfs.commands.files import write_text

PAGE = "report.html"
"""Name of the page in its folder."""

# Drums of each kind that are shown, and how many kinds; these come first.
_EACH, _MOST_KINDS = 2, 4
_KINDS = ("bass drum", "snare", "tom", "hi-hat")
# Metrics of single sounds in captions.
_TOLD = ("mss", "transient_loudness", "decay_loudness")


class Method(NamedTuple):
    """An encoder's guesses of all test sounds.

    Attributes:
        name: of the loss or arm, for files and tables.
        theta: (n, U) controls.
        distances: of the n sounds, by metric.
    """

    name: str
    theta: Tensor
    distances: Mapping[str, Sequence[float]]


def choose_drums(names: Sequence[str], kinds: Sequence[str]) -> list[int]:
    """Choose two sounds of each kind, the first by name, of the paper's kinds or those with most sounds.

    Returns:
        Indices, kind by kind.
    """
    counts = Counter(kinds)
    chosen = sorted(counts, key=lambda kind: (kind not in _KINDS, -counts[kind], kind))[:_MOST_KINDS]
    by_kind = {kind: sorted((names[k], k) for k in range(len(names)) if kinds[k] == kind) for kind in chosen}
    return [k for kind in sorted(by_kind) for _, k in by_kind[kind][:_EACH]]


def rows_of_drums(task: DrumTask, test: Recordings, methods: Sequence[Method]) -> dict[str, list[Sound]]:
    """Render the drums shown: by title, the target and what each method makes of it, as in the evaluation."""
    index = choose_drums(test.names, test.kinds)
    rows: dict[str, list[Sound]] = {}
    # The noise of a match depends on its place among the test sounds, so all are rendered.
    matches = {method.name: task.render(method.theta)[index] for method in methods}
    front_end = build_front_end(task.preset)
    for place, k in enumerate(index):
        row = [_sound("target", "", test.audio[k], front_end)]
        for method in methods:
            told = ", ".join(f"{metric_label(metric)} {number(method.distances[metric][k])}" for metric in _TOLD)
            row.append(_sound(method.name, told, matches[method.name][place], front_end))
        rows[f"{test.kinds[k]}: {test.names[k]}"] = row
    return rows


@torch.no_grad()
def _sound(name: str, told: str, audio: Tensor, front_end: torch.nn.Module) -> Sound:
    label = f"{name} ({LABELS[name]})" if name in LABELS else name
    return Sound(name, label, told, audio, front_end(audio[None])[0, 0].numpy())


def write_drum_report(
    folder: Path,
    task: DrumTask,
    test: Recordings,
    methods: Sequence[Method],
    summary: Mapping[str, Any],
    setting: str,
    left_out: Sequence[str] = (),
) -> Path:
    """Write the page and its sounds into a folder, and return the page.

    Args:
        folder: of the page; sounds go into its folder wav.
        task: that the methods were trained on.
        test: its test set.
        methods: whose matches are shown.
        summary: of all methods over all seeds, as `summarize` makes it.
        setting: micro or meso, for the paper's numbers.
        left_out: sentences on what is missing.
    """
    rows = rows_of_drums(task, test, methods)
    preset = task.preset
    frequencies, duration = build_front_end(preset).frequencies, preset.n_samples / preset.sample_rate
    pictures, players = [], []
    for k, row in enumerate(rows.values()):
        top = max(float(sound.spectrogram.max()) for sound in row)
        pictures.append([svg(spectrogram_figure(s.spectrogram, frequencies, duration, top)) for s in row])
        paths = write_sounds(folder / "wav", k, row, preset.sample_rate, "drum")
        players.append([path.relative_to(folder).as_posix() for path in paths])
    page = folder / PAGE
    parts = {"tables": _tables(summary, setting), "closest": _items(sentences(summary).values())}
    text = _PAGE.format(
        style=STYLE,
        setting=html.escape(setting),
        preset=html.escape(preset.name),
        differences=html.escape(DIFFERENCES),
        left_out=_items(left_out),
        order=_items(order_lines(summary, setting)),
        n_test=len(test),
        seed=task.seed,
        drums=rows_of_sounds(list(rows), list(rows.values()), players, pictures),
        **parts,
    )
    write_text(page, text)
    return page


def _items(sentences: Any) -> str:
    """Return sentences as a list."""
    return "<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _tables(summary: Mapping[str, Any], setting: str) -> str:
    """Return the paper's tables, each with paired differences, then costs; by kind what is asked for."""
    parts = []
    for title, metrics in TABLES.items():
        parts.append(_wide(table_html(paper_table(summary, setting, metrics), title)))
        differences = differences_table(summary, metrics)
        if len(differences) > 1:
            parts.append(_details("Differences, seed by seed", [table_html(differences, title)]))
    kinds = [table_html(kinds_table(summary, metric), metric_label(metric)) for metric in metrics_of(summary)]
    parts.append(_details("By kind of drum", kinds))
    parts.append(_wide(table_html(costs_table(summary), "What training took")))
    return "".join(parts)


def _wide(table: str) -> str:
    """Return a table that scrolls where the screen is narrower than it."""
    return f'<div style="overflow-x: auto">{table}</div>'


def _details(summary: str, tables: Sequence[str]) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(map(_wide, tables))}</details>"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Matched drums: {preset}, {setting}</title>
<style>
{style}
</style>
<h1>Recorded drums, matched by a synthesizer of 14 controls: {setting}</h1>
<p>An encoder hears a drum and guesses the controls of the synthesizer. A loss on the recording and on what the
synthesizer makes of the guess trains it. Distances are over unseen drums, lower is better: mean over seeds, half
of the 95% interval, and the ratio to scrapl in parentheses.</p>
<h2>Which loss is closest</h2>
{closest}
<h2>Beside the paper</h2>
<p>{differences}</p>
{left_out}
{tables}
<h3>Order of the losses</h3>
{order}
<h2>Look and listen</h2>
<p>Drums of the {n_test} in the test set of seed {seed}: two of each kind, the first by name. Matches have no
shift. log(1 + gain |constant-Q transform|), one colour scale and one level for each drum.</p>
{drums}
</html>
"""
