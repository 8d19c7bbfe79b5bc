"""A page on matched drums: tables beside the paper's, which loss is closest where, and eight drums to hear.

python -m benchmarks.sound_matching.drum_matching.report FOLDER: the page of a run anew, without training.
"""

from __future__ import annotations

import html
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness.files import read_json
from benchmarks.harness.program import guarded
from benchmarks.sound_matching.data import build_front_end
from benchmarks.sound_matching.drum_matching.levels import levels_of, summarize_levels
from benchmarks.sound_matching.drum_matching.paper import LABELS, REFERENCE, SETTINGS, TABLES
from benchmarks.sound_matching.drum_matching.summary import summarize
from benchmarks.sound_matching.drum_matching.tables import (
    DIFFERENCES,
    LEVELS,
    costs_table,
    differences_table,
    kinds_table,
    levels_table,
    order_lines,
    paper_table,
)
from benchmarks.sound_matching.drum_matching.task import DrumTask, Recordings
from benchmarks.sound_matching.drum_matching.winners import metric_label, metrics_of, number, sentences
from benchmarks.sound_matching.drum_sounds.fetch import DEFAULT_FOLDER
from benchmarks.sound_matching.drum_sounds.sounds import DrumSounds, load_sounds
from benchmarks.sound_matching.examples import Sound, preset_of
from benchmarks.sound_matching.figures import spectrogram_figure
from benchmarks.sound_matching.page import STYLE, rows_of_sounds, table_html
from benchmarks.sound_matching.presets import Preset
from benchmarks.sound_matching.report import svg, write_sounds
from scrapl_jtfs.commands.command_line import Parser, say, shown
from scrapl_jtfs.commands.files import write_text

PAGE = "report.html"
"""Name of the page in its folder."""

# Drums of each kind that are shown, and how many kinds; these come first.
_EACH, _MOST_KINDS = 2, 4
_KINDS = ("bass drum", "snare", "tom", "hi-hat")
# Gain of the pictures' constant-Q transforms, which shows decays that the encoder's own gain leaves black.
_GAIN = 100.0
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


def rows_of_drums(
    task: DrumTask, test: Recordings, methods: Sequence[Method], matches: Mapping[str, Tensor]
) -> dict[str, list[Sound]]:
    """Return the drums shown: by title, the target and what each method makes of it, as in the evaluation.

    Args:
        task: of the sounds.
        test: its test set.
        methods: whose matches are shown.
        matches: (n, n_samples) of the test set, by the names of methods.
    """
    index = choose_drums(test.names, test.kinds)
    rows: dict[str, list[Sound]] = {}
    front_end = build_front_end(replace(task.preset, gain=_GAIN))
    for k in index:
        row = [_sound("target", "", test.audio[k], front_end)]
        for method in methods:
            told = ", ".join(f"{metric_label(metric)} {number(method.distances[metric][k])}" for metric in _TOLD)
            row.append(_sound(method.name, told, matches[method.name][k], front_end))
        rows[f"{test.kinds[k]}: {test.names[k]}"] = row
    return rows


@torch.no_grad()
def _sound(name: str, told: str, audio: Tensor, front_end: nn.Module) -> Sound:
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
    # The noise of a match depends on its place among the test sounds, so all are rendered.
    matches = {method.name: task.render(method.theta) for method in methods}
    rows = rows_of_drums(task, test, methods, matches)
    preset = task.preset
    frequencies, duration = build_front_end(preset).frequencies, preset.n_samples / preset.sample_rate
    pictures, players = [], []
    for k, row in enumerate(rows.values()):
        top = max(float(sound.spectrogram.max()) for sound in row)
        pictures.append([svg(spectrogram_figure(s.spectrogram, frequencies, duration, top)) for s in row])
        paths = write_sounds(folder / "wav", k, row, preset.sample_rate, "drum")
        players.append([path.relative_to(folder).as_posix() for path in paths])
    page = folder / PAGE
    levels = {name: {"decay_by_level": summarize_levels([levels_of(task, x)])} for name, x in matches.items()}
    tables = _tables(summary, setting) + _wide(table_html(levels_table(levels), f"{LEVELS}; seed {task.seed}"))
    parts = {"tables": tables, "closest": _items(sentences(summary).values())}
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


def write_run_report(folder: Path, task: DrumTask, results: Mapping[str, Any]) -> Path:
    """Write the page of a run folder, which has one seed.

    Args:
        folder: of the run.
        task: of its sounds and its seed.
        results: of the run, with "judged".
    """
    test = task.splits(nn.Identity(), build_front_end(task.preset))[2]
    methods = [
        Method(name, torch.tensor(of["sounds"]["theta"]), of["sounds"]["distances"])
        for name, of in results["judged"].items()
    ]
    runs = [
        {
            "arm": name,
            "seed": task.seed,
            "hash": "",
            "date": results["date"],
            "test": of["test"],
            **{key: results["losses"].get(name, {}).get(key, 0) for key in ("steps", "seconds")},
        }
        for name, of in results["judged"].items()
    ]
    setting = SETTINGS[bool(task.preset.max_shift)]
    return write_drum_report(folder, task, test, methods, summarize(runs, REFERENCE), setting, results["left_out"])


def _load(data: Path, preset: Preset) -> DrumSounds:
    return load_sounds(data, preset.n_samples, preset.sample_rate)


def task_of(
    configuration: Mapping[str, Any], data: Path, load: Callable[[Path, Preset], DrumSounds] = _load
) -> DrumTask:
    """Return the task of a recorded configuration.

    Args:
        configuration: of the run.
        data: folder of its sounds.
        load: returns the sounds in a folder that a preset asks for.

    Raises:
        OSError: the folder cannot be listed.
        ValueError: this program has other settings, or the folder other sounds.
    """
    preset, seed = preset_of({"configuration": dict(configuration)})
    task = DrumTask(load(data, preset), preset, seed)
    if dict(task.identity) != configuration["data"]:
        raise ValueError(
            f"Invalid --data: {shown(data)}, whose sounds are not those of the run; expected the folder that was "
            "trained on"
        )
    return task


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
shift. log(1 + 100 |constant-Q transform|), one colour scale and one level for each drum.</p>
{drums}
</html>
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for something the user can mend."""
    parser = Parser(
        prog="python -m benchmarks.sound_matching.drum_matching.report",
        description="Write the page of a run on drums anew from its results.json, without training.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the run")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="of its sounds (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)

    def run() -> None:
        results = read_json(options.folder / "results.json")
        if not isinstance(results, dict) or "judged" not in results:
            raise ValueError(
                f"Invalid FOLDER: {shown(options.folder)}; expected one with results of a run on drums that was "
                "judged; repeat the command that trained it"
            )
        page = write_run_report(options.folder, task_of(results["configuration"], options.data), results)
        say(f"Look at    {shown(page)}")

    return guarded(run, "The same command writes the page anew.")


if __name__ == "__main__":
    sys.exit(main())
