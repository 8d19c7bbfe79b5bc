"""The command line and what a run leaves behind."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from matplotlib.text import Text

from benchmarks.sound_matching import __main__ as command
from benchmarks.sound_matching import presets, report
from benchmarks.sound_matching.figures import curve_figure, curves_of, guesses_figure, spectrogram_figure
from benchmarks.sound_matching.presets import PRESETS, USUAL
from benchmarks.sound_matching.report import format_table, verdict
from benchmarks.sound_matching.train import Experiment, Trainer
from tests.support.tiny_preset import TINY

LOSSES = ["scrapl", "mss", "p_loss"]


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(TINY, epochs=2))


def run(folder: Path, *extra: str) -> int:
    return command.main(["--preset", "tiny", "--out", str(folder), *extra])


def test_a_run_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--losses", *LOSSES) == 0
    printed = capsys.readouterr().out
    assert "in thousandths of the controls' range" in printed
    assert str(tmp_path / "report.html") in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["losses"]) == LOSSES
    for entry in results["losses"].values():
        assert entry["steps"] == 6
        assert entry["ms_per_step"] == pytest.approx(1000 * entry["seconds"] / 6)
        assert set(entry["test"]) == {"mean", "density", "slope"}
        assert len(entry["history"]) == 2
    assert sum(results["losses"]["scrapl"]["path_counts"]) == 6
    assert list(results["examples"]["theta"]) == ["target", *LOSSES]
    assert np.shape(list(results["examples"]["theta"].values())) == (4, 4, 2)
    check_guesses(results)
    assert verdict(results) in printed
    assert re.search(r"chance \(always 0\.5\) +250\.0 +250\.0 +250\.0", printed)
    assert results["configuration"]["n_samples"] == TINY.n_samples
    assert results["versions"]["torch"] == torch.__version__
    check_sounds(tmp_path)
    check_page(tmp_path)

    assert run(tmp_path, "--losses", "mss") == 0  # finished losses are skipped, and stay in the report
    assert "finished before, skipped" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == results["losses"]


def test_a_report_on_chirplets_names_their_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {"n_train": 4, "n_val": 4, "n_test": 4, "batch_size": 4, "epochs": 1, "channels": 4}
    preset = replace(PRESETS["scaled-chirplet-hi-med"], name="tiny", **sizes)
    monkeypatch.setitem(presets.PRESETS, "tiny", preset)
    assert run(tmp_path, "--losses", "p_loss") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["losses"]["p_loss"]["test"]) == {"mean", "am", "fm"}
    assert format_table(results).splitlines()[2].split()[:5] == ["loss", "both", "controls", "AM", "FM"]
    page = (tmp_path / "report.html").read_text()
    assert "sound matching of chirplets" in page
    assert "guessed against true AM and FM" in page
    assert re.search(r"<b>target</b><br>AM 0\.\d\d, FM 0\.\d\d<", page)
    assert "density" not in page
    assert "grain" not in page


def check_sounds(folder: Path) -> None:
    for k in range(1, 5):
        peaks = []
        for name in ["target", *LOSSES]:
            samples, rate = soundfile.read(folder / "wav" / f"texture{k}_{name}.wav")
            assert (len(samples), rate) == (TINY.n_samples, TINY.sample_rate)
            peaks.append(np.abs(samples).max())
        assert max(peaks) == pytest.approx(0.9, abs=1e-3)


def check_guesses(results: dict[str, Any]) -> None:
    """Truths are the test textures; errors are those of the guesses."""
    theta = {name: np.array(values) for name, values in results["evaluation"]["theta"].items()}
    assert list(theta) == ["target", *LOSSES]
    np.testing.assert_array_equal(theta["target"], Experiment(TINY, 0).test.theta.numpy())
    for name in LOSSES:
        errors = 1000 * np.abs(theta[name] - theta["target"]).mean(0)
        found = results["losses"][name]["test"]
        np.testing.assert_allclose([found["density"], found["slope"]], errors, rtol=1e-5)
        assert found["mean"] == pytest.approx(errors.mean(), rel=1e-5)
        assert results["examples"]["theta"][name] == results["evaluation"]["theta"][name][:4]


def check_page(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    players = re.findall(r'<audio[^>]*src="([^"]+)"', page)
    assert len(players) == 16
    assert all((folder / player).exists() for player in players)
    cards = re.findall("<figure>.*?</figure>", page, re.DOTALL)
    assert len(cards) == 16
    for card in cards:  # a player lies under the spectrogram of the same sound
        image, player = re.findall(r'<(?:img alt="Spectrogram of|audio[^>]*aria-label=")([^"]+)"', card)
        assert image.strip() == player
        assert card.index("<img") < card.index("<audio")
    assert page.count("data:image/svg+xml;base64,") == 16 + len(LOSSES) + 4
    assert page.count("guessed against true density and slope") == len(LOSSES)
    assert "http" not in page
    results = json.loads((folder / "results.json").read_text())
    assert f'<p class="verdict">{html.escape(verdict(results))}</p>' in page
    assert "in thousandths of the controls&#x27; range</caption>" in page
    assert '<th scope="row">chance (always 0.5)</th><td>250.0</td>' in page
    assert page.count("<details>") == 1
    assert matplotlib.image.imread(folder / "report.png").shape[0] > 1000
    assert not [path for path in folder.rglob(".*")]


def test_interruption_tells_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Trainer, folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupted)
        assert run(tmp_path, "--losses", "p_loss") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert run(tmp_path, "--losses", "p_loss") == 0


def test_a_folder_of_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--losses", "p_loss") == 0
    assert run(tmp_path, "--losses", "p_loss", "--seed", "1") == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err


LABELS = {"scrapl": "SCRAPL", "mss": "MSS log + linear", "p_loss": "P-loss (supervised)"}


def results_of(visits: int | None = 30, **errors: tuple[float, float]) -> dict[str, Any]:
    """Of a run with these errors of density and slope; 10 paths, 256 textures, no guesses."""
    losses: dict[str, Any] = {}
    for name, (density, slope) in errors.items():
        test = {"mean": (density + slope) / 2, "density": density, "slope": slope}
        losses[name] = {"label": LABELS[name], "test": test, "steps": 10, "seconds": 2.0, "ms_per_step": 200.0}
    if visits is not None and "scrapl" in losses:
        losses["scrapl"]["path_counts"] = [visits] * 10
    return {"losses": losses, "chance": 250.0, "configuration": {"n_test": 256}}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (
            results_of(scrapl=(70, 50), mss=(184, 255), p_loss=(33, 18)),
            "SCRAPL does better than MSS log + linear: an error of 60 against 220 thousandths of the controls' "
            "range, where chance gives 250; P-loss (supervised) reaches 26.",
        ),
        (
            results_of(scrapl=(150, 130), mss=(60, 70)),
            "SCRAPL loses to MSS log + linear: an error of 140 against 65 thousandths of the controls' range, "
            "where chance gives 250.",
        ),
        (
            results_of(scrapl=(150, 130), mss=(140, 130)),
            "SCRAPL and MSS log + linear cannot be told apart by 256 textures: an error of 140 against 135 "
            "thousandths of the controls' range, where chance gives 250.",
        ),
        (
            results_of(scrapl=(251, 245), mss=(240, 262)),
            "Neither SCRAPL nor MSS log + linear does better than chance: errors of 248 and 251 thousandths of "
            "the controls' range, where chance gives 250.",
        ),
        (
            results_of(visits=13, scrapl=(249, 86), mss=(143, 268)),
            "Too short a run to judge by (13 visits of each path, 25 are usual): SCRAPL does better than MSS log "
            "+ linear: an error of 168 against 206 thousandths of the controls' range, where chance gives 250; "
            "SCRAPL finds the slope (86) and not the density (249).",
        ),
        (
            results_of(scrapl=(260, 260)),
            "SCRAPL does no better than chance: an error of 260 thousandths of the controls' range, where chance "
            "gives 250.",
        ),
        (
            results_of(mss=(40, 240)),
            "MSS log + linear has an error of 140 thousandths of the controls' range, where chance gives 250; MSS "
            "log + linear finds the density (40) and not the slope (240).",
        ),
        (
            results_of(p_loss=(20, 30)),
            "P-loss (supervised) has an error of 25 thousandths of the controls' range, where chance gives 250.",
        ),
        (
            results_of(scrapl=(150, 130), p_loss=(140, 150)),
            "SCRAPL has an error of 140 thousandths of the controls' range, where chance gives 250; P-loss "
            "(supervised) reaches 145; where even that fails, no loss can be judged.",
        ),
        (results_of(), "No loss was trained to the end."),
    ],
)
def test_a_verdict(results: dict[str, Any], said: str) -> None:
    assert verdict(results) == said


@pytest.mark.parametrize(("spread", "apart"), [(0.001, True), (0.3, False)])
def test_guesses_tell_whether_a_small_difference_is_one(spread: float, apart: bool) -> None:
    """Five thousandths are much for two encoders that err alike on every texture, and nothing for others."""
    results = results_of(scrapl=(100, 100), mss=(105, 105))
    alternating = spread * np.array([[1, 1], [-1, -1]] * 128)
    theta = {"target": np.full((256, 2), 0.3), "scrapl": np.full((256, 2), 0.4)}
    theta["mss"] = theta["scrapl"] + 0.005 + alternating.clip(-0.1, 0.1)
    results["evaluation"] = {"theta": {name: values.tolist() for name, values in theta.items()}}
    assert ("does better than" in verdict(results)) == apart
    assert ("cannot be told apart" in verdict(results)) != apart


def test_a_table_for_the_terminal() -> None:
    title, _, header, *rows, chance = format_table(
        results_of(scrapl=(60, 60), mss=(220, 220), p_loss=(25, 25))
    ).splitlines()
    assert title == "Error on unseen textures, in thousandths of the controls' range:"
    assert header.split() == ["loss", "both", "controls", "density", "slope", "steps", "seconds", "ms/step"]
    assert [row.split()[-6] for row in rows] == ["60.0", "220.0", "25.0"]
    assert chance.split()[-3:] == ["250.0"] * 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with all losses."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", replace(TINY, epochs=2))
        assert run(folder) == 0
    return folder


def again(finished: Path, folder: Path, **changes: Any) -> str:
    """The page from changed results alone; entries that become None are left out."""
    results = json.loads((finished / "results.json").read_text()) | changes
    kept = {key: value for key, value in results.items() if value is not None}
    (folder / "results.json").write_text(json.dumps(kept))
    assert report.main([str(folder)]) == 0
    assert (folder / "report.png").exists()
    return (folder / "report.html").read_text()


def test_the_same_report_from_results_alone(finished: Path, tmp_path: Path) -> None:
    page = (finished / "report.html").read_text()
    assert again(finished, tmp_path) == page
    assert (tmp_path / "report.png").read_bytes() == (finished / "report.png").read_bytes()
    for wav in (finished / "wav").iterdir():
        assert (tmp_path / "wav" / wav.name).read_bytes() == wav.read_bytes()


def test_results_of_older_runs(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = again(finished, tmp_path, evaluation=None)
    assert "This run kept no guesses" in page
    assert len(re.findall("<audio", page)) == 16
    assert page.count("data:image/svg+xml;base64,") == 16 + 4
    capsys.readouterr()
    configuration = json.loads((finished / "config.json").read_text())
    for changes in (
        {"examples": None},
        {"configuration": configuration | {"version": 1}},
        {"configuration": configuration | {"n_parrots": 3}},
    ):
        page = again(finished, tmp_path, **changes)
        assert "The sounds of this run cannot be rendered" in page
        assert not re.findall("<audio", page)
        assert "guessed against true density and slope" in page
        assert "No sounds: Invalid results: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"losses": {}}'])
def test_a_folder_without_results(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert report.main([str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert str(tmp_path) in message
    assert not (tmp_path / "report.html").exists()


def test_texts_of_the_page_s_figures_are_legible(finished: Path) -> None:
    """As large as 10 pixels where a page shows the figure smallest: 290 px, or 368 px for guesses."""
    results = json.loads((finished / "results.json").read_text())
    curves = curves_of(results)
    figures = [(curve_figure(curves, "mean", "seconds"), 290), (guesses_figure(results, "mss"), 368)]
    figures.append((spectrogram_figure(np.ones((60, 9)), [64 * 2 ** (k / 12) for k in range(60)], 1.0, 1.0), 290))
    for figure, width in figures:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            if text.get_text():
                assert float(text.get_fontsize()) / 72 * width / figure.get_figwidth() >= 10, text.get_text()


def test_a_scatter_shows_the_guesses(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    theta = {name: np.array(values) for name, values in results["evaluation"]["theta"].items()}
    figure = guesses_figure(results, "p_loss")
    for k, axes in enumerate(figure.axes):
        points = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_allclose(points, np.stack([theta["target"][:, k], theta["p_loss"][:, k]], 1))


_PROBE = """<iframe id="page" src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre id="out"></pre><script>
page.onload = () => {{
  const inner = page.contentDocument, root = inner.documentElement;
  inner.querySelector("details").open = true;
  const outside = [...inner.body.querySelectorAll("*")].filter(e => {{
    const box = e.getBoundingClientRect();
    return box.right > root.clientWidth + 0.5 || box.left < -0.5;
  }});
  const under = [...inner.querySelectorAll("figure")].filter(e =>
    e.querySelector("audio").getBoundingClientRect().top >= e.querySelector("img").getBoundingClientRect().bottom);
  out.textContent = "found " + JSON.stringify([root.scrollWidth, outside.map(e => e.tagName), under.length]);
}};</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_outside_the_page(width: int, finished: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(_PROBE.format(page=(finished / "report.html").as_uri(), width=width))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
    ]
    options += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(["chromium", *options, probe.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"found (\[[^<]*\])</pre>", done.stdout)
    assert found, done.stderr
    assert json.loads(found[1]) == [width, [], 16]


def test_a_failing_picture_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def no_figure(*_: object) -> None:
        seen.append({path.name for path in tmp_path.iterdir()})
        raise RuntimeError("no fonts,\nno figure")

    assert run(tmp_path, "--losses", "p_loss") == 0
    results = (tmp_path / "results.json").read_text()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(report, "draw_results", no_figure)
        assert run(tmp_path, "--losses", "p_loss") == 1
    assert seen[0] >= {"results.json", "wav"}
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == json.loads(results)["losses"]
    assert not (tmp_path / "report.png").exists()  # the earlier one would pass for this run's
    page = (tmp_path / "report.html").read_text()
    assert "report.png could not be drawn" in page
    assert len(re.findall("<audio", page)) == 8
    printed = capsys.readouterr()
    assert "in thousandths of the controls' range" in printed.out
    assert (
        "report.png could not be drawn (RuntimeError: no fonts, no figure); everything else is in" in printed.err
    )
    assert run(tmp_path, "--losses", "p_loss") == 0  # trained before: draws alone
    check_page_is_whole(tmp_path)


def check_page_is_whole(folder: Path) -> None:
    assert (folder / "report.png").exists()
    page = (folder / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "could not be drawn" not in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threads=-2"], "Invalid --threads: -2; expected 1 to"),
        (["--threads=0"], "Invalid --threads: 0; expected 1 to"),
        (["--threads=99999999"], "Invalid --threads: 99999999; expected 1 to"),
        (["--device=tpu"], "Invalid --device: tpu; expected cpu or cuda"),
        (["--device=meta"], "Invalid --device: meta; expected cpu or cuda"),
        (["--seed=-1"], "got -1: choose another seed"),
        ([f"--seed={10**12}"], "choose another seed"),
    ],
)
def test_options_out_of_range(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", *options) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_wrong_choices_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--losses", "mse")
    message = capsys.readouterr().err
    assert message.startswith("error: argument --losses: invalid choice: 'mse'")
    assert message.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "run") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_loss_that_diverges_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, batch: torch.tensor(float("inf")))
    assert run(tmp_path, "--losses", "p_loss") == 1
    message = capsys.readouterr().err
    assert "error: the p_loss loss became inf in epoch 1" in message


def test_steps_of_small_presets_take_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other on a busy machine cost a factor of ten, and gain nothing on a quiet one."""
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setitem(presets.USUAL, "tiny", USUAL["quick"])
    monkeypatch.setattr(command, "run", lambda *_: None)
    assert run(tmp_path) == run(tmp_path, "--threads", "2") == 0
    assert asked == [1, 2]
    assert set(USUAL) - {"tiny"} == set(PRESETS) - {"tiny"}


def test_the_quick_preset_asks_the_same_question() -> None:
    quick, small = PRESETS["quick"], PRESETS["small"]
    for name in ("sample_rate", "octaves", "bins_per_octave", "n_blocks", "dropout", "weight_decay"):
        assert getattr(quick, name) == getattr(small, name)
    cost = [preset.n_steps * preset.batch_size * preset.n_samples for preset in (quick, small)]
    assert cost[0] < cost[1] / 3
