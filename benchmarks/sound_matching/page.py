"""report.html: a page that needs no network, on screens from 400 pixels on."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.sound_matching.examples import Sound
from benchmarks.sound_matching.verdict import control_label, controls_of, verdict

UNIT = "thousandths of the controls' range"


@dataclass(frozen=True)
class Pictures:
    """SVG files: of errors while training, of guesses of each loss, of each sound in each row of textures."""

    curves: list[bytes]
    guesses: list[bytes]
    spectrograms: list[list[bytes]]


Table = list[tuple[str, ...]]


def table_rows(results: dict[str, Any]) -> tuple[Table, Table]:
    """Errors, with what chance gives in the last row; costs. Each with a header."""
    controls = controls_of(results)
    errors: Table = [("loss", "both controls", *map(control_label, controls))]
    costs: Table = [("loss", "steps", "seconds", "ms/step")]
    for loss in results["losses"].values():
        test = loss["test"]
        errors.append((loss["label"], *(f"{test[key]:.1f}" for key in ("mean", *controls))))
        costs.append((loss["label"], str(loss["steps"]), f"{loss['seconds']:.0f}", f"{loss['ms_per_step']:.1f}"))
    errors.append(("chance (always 0.5)", *[f"{results['chance']:.1f}"] * (1 + len(controls))))
    return errors, costs


def html_page(
    results: dict[str, Any],
    rows: Sequence[Sequence[Sound]],
    players: Sequence[Sequence[str]],
    pictures: Pictures | None,
) -> str:
    """`players` are addresses of the sounds in `rows`, relative to the page; pictures (None: failed) embedded."""
    errors, costs = table_rows(results)
    settings = {k: results[k] for k in ("date", "machine", "versions", "configuration") if k in results}
    return _PAGE.format(
        style=STYLE,
        preset=html.escape(str(results["configuration"].get("name", "unnamed preset"))),
        verdict=html.escape(verdict(results)),
        controls=_controls(results),
        **(_CHIRPLETS if "am" in controls_of(results) else _TEXTURES),
        errors=table_html(errors, f"Error on unseen textures, in {UNIT}"),
        costs=table_html(costs, "What training took"),
        draws=html.escape(_draws(results)),
        failed="" if pictures else "<p>report.png could not be drawn; the same command draws it again.</p>",
        guesses=_guesses(results, pictures),
        curves=_cards([_image(svg, "Validation error while training") for svg in pictures.curves])
        if pictures
        else "",
        textures=_textures(rows, players, pictures),
        settings=html.escape(json.dumps(settings, indent=2)),
    )


def _controls(results: dict[str, Any]) -> str:
    return " and ".join(map(control_label, controls_of(results)))


def table_html(rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table whose first row is its header."""
    header, *body = ([html.escape(cell) for cell in row] for row in rows)
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in body
    )
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{lines}</table>"


def _draws(results: dict[str, Any]) -> str:
    counts = results["losses"].get("scrapl", {}).get("path_counts")
    if not counts:
        return ""
    return f"SCRAPL drew each of its {len(counts)} paths {min(counts)} to {max(counts)} times."


def _guesses(results: dict[str, Any], pictures: Pictures | None) -> str:
    if pictures is None:
        return ""
    if not pictures.guesses:
        return "<p>This run kept no guesses of single textures; a new run does.</p>"
    n = len(results["evaluation"]["theta"]["target"])
    images = [
        _image(svg, f"{loss['label']}: guessed against true {_controls(results)}")
        for svg, loss in zip(pictures.guesses, results["losses"].values(), strict=True)
    ]
    return (
        f"<p>Each point is one of {n} unseen textures: on the slanted line where the guess is right, on the "
        f"dotted line where the encoder answers 0.5.</p>{_cards(images, 'wide')}"
    )


def _textures(rows: Sequence[Sequence[Sound]], players: Sequence[Sequence[str]], pictures: Pictures | None) -> str:
    titles = [f"Texture {k + 1}" for k in range(len(rows))]
    parts = rows_of_sounds(titles, rows, players, pictures.spectrograms if pictures else None)
    return parts or "<p>The sounds of this run cannot be rendered anew by this program.</p>"


def rows_of_sounds(
    titles: Sequence[str],
    rows: Sequence[Sequence[Sound]],
    players: Sequence[Sequence[str]],
    spectrograms: Sequence[Sequence[bytes]] | None,
) -> str:
    """Return a player under each spectrogram, if there are any, and a heading over each row."""
    parts = []
    for k, (title, row, addresses) in enumerate(zip(titles, rows, players, strict=True)):
        cards = []
        for i, (sound, address) in enumerate(zip(row, addresses, strict=True)):
            values = html.escape(sound.values)
            what = html.escape(f"{sound.label}, {sound.values}" if sound.values else sound.label)
            image = _image(spectrograms[k][i], f"Spectrogram of {what}") if spectrograms else ""
            player = f'<audio controls preload="none" aria-label="{what}" src="{html.escape(address)}"></audio>'
            caption = f"<figcaption><b>{html.escape(sound.label)}</b><br>{values}</figcaption>"
            cards.append(f"<figure>{caption}{image}{player}</figure>")
        parts.append(f"<h3>{html.escape(title)}</h3>{_cards(cards)}")
    return "".join(parts)


def _cards(cards: Sequence[str], kind: str = "") -> str:
    return f'<div class="{f"cards {kind}".strip()}">' + "".join(cards) + "</div>"


def _image(svg: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'


STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 1rem auto; padding: 0 1rem; color: #222;
  background: #fff; overflow-wrap: break-word }
h1 { line-height: 1.2 } h3 { margin-bottom: .2rem }
.verdict { font-size: 1.15rem; font-weight: 600; border-left: .3rem solid #0072b2; padding-left: .8rem }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start }
table { border-collapse: collapse; margin: .5rem 0 1rem }
caption { text-align: left; font-size: .9rem; color: #555; padding-bottom: .3rem }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
td { font-variant-numeric: tabular-nums }
th:first-child { text-align: left; padding-left: 0 } th[scope=row] { font-weight: normal }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem }
.cards.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)) }
.cards img { display: block; width: 100%; max-width: 27rem; height: auto }
figure { margin: 0; min-width: 0; max-width: 27rem } figcaption { font-size: .9rem }
audio { display: block; width: 100%; height: 2.5rem }
pre { background: #f6f6f6; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
summary { cursor: pointer }
@media (max-width: 40rem) { h1 { font-size: 1.5rem } th, td { padding: .3rem .4rem; font-size: .9rem } }"""
"""The style of pages."""

_TEXTURES = {
    "synth": "a granular synthesizer",
    "others": "other grains",
    "listen": "Grains differ in time and pitch by design; listen to how many there are and whether they rise or\n"
    "fall.",
}
_CHIRPLETS = {
    "synth": "chirplets",
    "others": "another shift",
    "listen": "Chirplets are shifted by design; listen to how fast they flutter and rise.",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sound matching: {preset}</title>
<style>
{style}
</style>
<h1>Unsupervised sound matching of {synth}</h1>
<p class="verdict">{verdict}</p>
<p>An encoder sees the constant-Q spectrogram of a sound and guesses its {controls}. The synthesizer renders the
guess with {others}, and a loss on the two sounds trains the encoder. The error is the mean absolute one of the
controls, whose range is 0 to 1.</p>
<div class="tables">{errors}{costs}</div>
<p>{draws}</p>
{failed}
<h2>Guessed against true controls</h2>
{guesses}
<h2>While training</h2>
<p>Error on the validation textures, in thousandths of the controls' range.</p>
{curves}
<h2>Look and listen</h2>
<p>Unseen textures and their matches: log(1 + gain |constant-Q transform|), one colour scale for each texture.
{listen}</p>
{textures}
<h2>Settings</h2><details><summary>Everything that is needed to repeat this run</summary>
<pre>{settings}</pre></details>
</html>
"""
