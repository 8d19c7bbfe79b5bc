"""The committed pictures show what their result files say, in colours that can be told apart, and can be read."""

from __future__ import annotations

import functools
import itertools
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from benchmarks.harness.style import PALETTE, SOURCE, WIDTH, source_of, write_picture
from benchmarks.redraw import PICTURES, draw, main

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
COLUMN = 830  # pixels of README's column, as GitHub shows it
every_picture = pytest.mark.parametrize("name", PICTURES)


@functools.cache
def drawn(name: str) -> Figure:
    """The figure of a committed result file, laid out."""
    figure = draw(RESULTS / f"{name}.json")
    FigureCanvasAgg(figure).draw()
    return figure


def shade(color: object) -> np.ndarray:
    """(3,) in 0 to 255, as it is in a picture."""
    return np.rint(255 * np.array(to_rgb(color)))  # type: ignore[arg-type]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.findobj(Axes) if isinstance(axes, Axes)]


def looks(legend: Legend) -> dict[str, tuple[np.ndarray, str]]:
    """Colour and dashes of each entry by its label."""
    found = {}
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
        color, dashes = handle.get_color(), handle.get_linestyle()  # type: ignore[union-attr]
        found[text.get_text()] = (shade(color if isinstance(color, str) else np.ravel(color)[:3]), str(dashes))
    return found


def solid_lines(figure: Figure) -> Iterator[Line2D]:
    """Lines of one colour that is not blended with others, wide enough for pixels of exactly that colour."""
    for axes in panels(figure):
        for line in axes.lines:
            if len(line.get_xdata()) > 2 and line.get_alpha() in (None, 1) and line.get_linewidth() >= 1.2:  # type: ignore[arg-type]
                yield line


def missing_colors(figure: Figure, picture: Image.Image) -> set[str]:
    """Colours of lines that the picture has not, e.g. because a palette merged them with others."""
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    wanted = {line.get_color() for line in solid_lines(figure)}
    return {str(color) for color in wanted if (pixels == shade(color)).all(1).sum() < 20}


def test_every_picture_can_be_drawn_from_its_file() -> None:
    assert {path.stem for path in RESULTS.glob("*.png")} == set(PICTURES)


@every_picture
def test_no_palette(name: str) -> None:
    head = (RESULTS / f"{name}.png").read_bytes()[:26]
    assert struct.unpack(">BB", head[24:26]) in {(8, 2), (8, 6)}  # bit depth, and RGB with or without alpha


@every_picture
def test_small_files_of_the_column_s_width(name: str) -> None:
    path = RESULTS / f"{name}.png"
    assert path.stat().st_size < 400_000
    with Image.open(path) as picture:
        assert picture.width >= COLUMN


@every_picture
def test_drawn_from_the_committed_figures(name: str) -> None:
    with Image.open(RESULTS / f"{name}.png") as picture:
        assert picture.info[SOURCE] == source_of(RESULTS / f"{name}.json"), "python -m benchmarks.redraw"


@every_picture
def test_colors_of_lines_are_in_the_picture(name: str) -> None:
    with Image.open(RESULTS / f"{name}.png") as picture:
        assert missing_colors(drawn(name), picture) == set()


def test_a_palette_is_noticed() -> None:
    """As that of 128 colours, which once gave SCRAPL and P-loss the same teal."""
    with Image.open(RESULTS / "sound_matching_small.png") as picture:
        quantised = picture.convert("RGB").quantize(128, Image.Quantize.MEDIANCUT)
    assert missing_colors(drawn("sound_matching_small"), quantised)


@every_picture
def test_entries_of_a_legend_have_colors_of_their_own(name: str) -> None:
    """Greys may differ by their dashes alone: they tell what dashes mean; so may all if colours do not suffice."""
    for legend in drawn(name).findobj(Legend):
        assert isinstance(legend, Legend)
        entries = looks(legend)
        for (label, one), (other_label, other) in itertools.combinations(entries.items(), 2):
            apart = np.abs(one[0] - other[0]).max()
            may_share = len(entries) > len(PALETTE) or np.ptp(one[0]) == np.ptp(other[0]) == 0
            assert apart >= 30 or (may_share and one[1] != other[1]), (label, other_label)


@every_picture
def test_a_color_has_one_meaning_in_a_panel(name: str) -> None:
    """Lines of one colour and dashes in a panel bear the same label, or none."""
    for axes in panels(drawn(name)):
        labels: dict[tuple[object, ...], set[str]] = {}
        for line in axes.lines:
            if not str(line.get_label()).startswith("_"):
                look = (*shade(line.get_color()), line.get_linestyle(), line.get_marker())
                labels.setdefault(look, set()).add(str(line.get_label()))
        assert all(len(found) == 1 for found in labels.values()), labels


@every_picture
def test_no_panel_is_empty(name: str) -> None:
    for axes in panels(drawn(name)):
        assert axes.has_data(), axes.get_title()
        assert not [text for text in axes.texts if text.get_text() == "not measured"]


@every_picture
def test_text_is_legible(name: str) -> None:
    figure = drawn(name)
    assert figure.get_figwidth() <= WIDTH
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and text.get_visible():
            assert float(text.get_fontsize()) / 72 * COLUMN / WIDTH >= 9.5, text.get_text()


def boxes(figure: Figure, artists: list[Text]) -> list[tuple[str, Bbox]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in artists if text.get_text()]


@every_picture
def test_labels_lie_inside_and_apart(name: str) -> None:
    figure = drawn(name)
    artists = [text for axes in panels(figure) for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    found = boxes(figure, artists)
    for text, box in found:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height, text
    for (text, box), (other, other_box) in itertools.combinations(found, 2):
        assert not box.overlaps(other_box), (text, other)


@every_picture
def test_legends_hide_nothing(name: str) -> None:
    figure = drawn(name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for legend in figure.findobj(Legend):
        for axes in panels(figure):
            area = axes.get_window_extent(renderer)
            assert not legend.get_window_extent(renderer).overlaps(area), axes.get_title()


@every_picture
def test_ticks_are_plain_between_a_thousandth_and_a_million(name: str) -> None:
    """1, not 10^0 and 200, not 2 x 10^2; powers are left to axes that span more than that."""
    for axes in panels(drawn(name)):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            if low >= 1e-3 and high <= 1e6:
                assert not [text for text in axis.get_ticklabels(which="both") if "10^" in text.get_text()]


@pytest.mark.parametrize(("name", "number"), [("importance", 16), ("importance_mass", 16)])
def test_pictures_of_importance_tell_their_examples(name: str, number: int) -> None:
    results = json.loads((RESULTS / f"{name}.json").read_text())
    assert {scale["batch"] for scale in results["configuration"]["mass"]} == {number}
    assert f"{number} examples" in drawn(name).get_suptitle()


def test_the_textures_are_those_of_the_run() -> None:
    """Their controls are the first of the test set, and matches are as far off as the run's errors."""
    results = json.loads((RESULTS / "sound_matching_small.json").read_text())
    sizes = [results["configuration"][key] for key in ("n_train", "n_val", "n_test")]
    stream = np.random.Philox(np.random.SeedSequence((results["configuration"]["seed"], 0)))
    words = stream.random_raw(2 * sum(sizes))
    theta = ((words >> np.uint64(11)).reshape(-1, 2) * 2.0**-53)[sum(sizes[:2]) :]
    columns = {name: np.array(values) for name, values in results["examples"]["theta"].items()}
    assert list(columns) == ["target", *results["losses"]]
    np.testing.assert_allclose(columns["target"], theta[: len(columns["target"])], atol=1e-6)
    errors = {name: np.abs(columns[name] - columns["target"]).mean() for name in results["losses"]}
    assert sorted(errors, key=errors.__getitem__) == ["p_loss", "scrapl", "mss"]


def test_redraw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adaptive.json").write_bytes((RESULTS / "adaptive.json").read_bytes())
    assert main(["adaptive", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "adaptive.png")
    with Image.open(tmp_path / "adaptive.png") as new, Image.open(RESULTS / "adaptive.png") as old:
        assert (new.mode, new.size, new.info[SOURCE]) == ("RGB", old.size, old.info[SOURCE])


def test_redraw_refuses_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["wheel"])
    assert "Invalid NAME: wheel; expected some of accuracy" in capsys.readouterr().err


def test_write_picture_keeps_colors(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    figure = Figure(figsize=(2, 1), facecolor="#0072B2")
    with Image.open(write_picture(tmp_path / "a.json", figure)) as picture:
        assert picture.getpixel((3, 3)) == (0x00, 0x72, 0xB2)
        assert picture.info[SOURCE].startswith("a.json sha256:44136fa355b3678a")
