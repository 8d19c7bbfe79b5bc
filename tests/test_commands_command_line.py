"""The commands that match a recording: names that are no formula, options out of range, pictures that fail."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

from benchmarks.sound_matching import recording
from scrapl_jtfs.commands import command_line, main
from scrapl_jtfs.commands import match as command
from scrapl_jtfs.commands._match import report
from scrapl_jtfs.commands._match.fit import History
from scrapl_jtfs.commands._match.report import Match, draw_match, draw_report
from scrapl_jtfs.commands.audio import Recording
from scrapl_jtfs.commands.command_line import one_line, say, shown
from scrapl_jtfs.commands.drawing import PictureError, plain_title
from scrapl_jtfs.commands.files import claimed_folder
from scrapl_jtfs.commands.match import default_folder, match

RATE = 4096
ROOT = Path(__file__).parents[1]
FILES = {"config.json", "match.wav", "target.wav", "report.png", "result.json"}

NAMES = [
    "loop $5_$6.wav",
    "$x^{2.wav",
    r"\frac{1}{\alpha}$ $.wav",
    "100% {rain} {0} %s %(name)s.wav",
    "two\nlines\t.wav",
    "red \x1b[31m.wav",
    "'quoted' \"twice\" `id` $(id) \\.wav",
    "-dash.wav",
    "--out=x.wav",
    "<b>&amp;.wav",
    "雨 🌧 ü.wav",
    "take1....wav",
    "...wav",
    " .wav",
    "n" * 200 + ".wav",
]


def write_wav(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        soundfile.write(file, np.random.default_rng(seed).standard_normal(2048) * 0.1, RATE, format="WAV")
    return path


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "sound.wav")


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(command, "make_target", fit)


def run(file: Path | str, *options: str, rate: int = RATE) -> int:
    """One step at a low rate, unless the options say otherwise."""
    standard = [f"--rate={rate}", "--seconds=0.5", "--steps=1"]
    return main(["resynthesize", *standard, *options, "--", str(file)])


def made_match(name: str) -> Match:
    """A match of noise with noise, as from a file of this name."""
    samples = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0)) * 0.1
    history = History([(0, [1.0]), (1, [0.5])], done=1)
    settings = {"file": name, "mode": "texture", "seed": 0}
    return Match(settings, Recording(samples[0], RATE, 1.0, "", ()), samples[0], samples[1], history, {})


# --- names ---


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_to_the_picture(tmp_path: Path, name: str) -> None:
    figure = draw_match(made_match(name))
    title = figure.get_suptitle()
    assert title.startswith(plain_title(name))
    assert title.isprintable()
    draw_report(tmp_path, made_match(name))
    assert matplotlib.image.imread(tmp_path / "report.png").shape == (770, 1430, 4)


def test_titles_are_short_and_keep_plain_names() -> None:
    assert plain_title("loop $5_%s{0}.wav") == "loop $5_%s{0}.wav"
    assert plain_title("a\nb.wav") == r"a\nb.wav"
    long = plain_title("a" * 100 + "-take2.wav")
    assert len(long) <= 60
    assert long.startswith("aaa")
    assert long.endswith("-take2.wav")


def test_pictures_do_not_depend_on_the_users_settings(tmp_path: Path) -> None:
    draw_report(tmp_path, made_match("plain.wav"))
    plain = (tmp_path / "report.png").read_bytes()
    with matplotlib.rc_context({"text.usetex": True, "figure.facecolor": "red", "font.size": 30}):
        draw_report(tmp_path, made_match("plain.wav"))
    assert (tmp_path / "report.png").read_bytes() == plain


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_of_any_name_has_a_folder_of_its_own_in_runs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, no_fit: None
) -> None:
    monkeypatch.chdir(tmp_path)
    job = command.prepare(write_wav(tmp_path / name), "texture", rate=RATE, seconds=0.5)
    assert job.configuration["file"] == name
    folder = job.out
    assert folder.parent == Path("runs")
    assert folder.resolve().parent == (tmp_path / "runs").resolve()
    assert not set(folder.name) & set("/\\$%{}'\"`\n\x1b ")
    assert not folder.name.startswith((".", "-"))
    assert len(os.fsencode(folder.name)) <= 200
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["..", ".", "../../x.wav", "/etc/x.wav", "a\0b.wav"])
def test_no_name_leads_out_of_runs(name: str) -> None:
    folder = default_folder({"file": name, "mode": "texture"})
    assert folder.parent == Path("runs")
    assert folder.name not in (".", "..")
    assert "/" not in folder.name


def test_files_of_one_name_and_other_settings_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = write_wav(tmp_path / "a" / "rain.wav"), write_wav(tmp_path / "b" / "rain.wav", seed=1)
    assert run(first) == run(second) == run(first, "--seed=1") == 0
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 3
    for folder in folders:
        assert folder.name.startswith("rain-texture-")
        assert {path.name for path in folder.iterdir()} == FILES
    assert run(first) == 0  # the same again: the same folder
    assert sorted((tmp_path / "runs").iterdir()) == folders


def test_a_whole_run_with_a_dollar_in_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out $7_{x}%d"
    assert run(write_wav(tmp_path / "loop $5_$6 {0}%s.wav"), f"--out={out}") == 0
    assert {path.name for path in out.iterdir()} == FILES
    result = json.loads((out / "result.json").read_text())
    assert result["configuration"]["file"] == "loop $5_$6 {0}%s.wav"
    printed = capsys.readouterr()
    assert f"Look at    {out / 'report.png'}" in printed.out
    assert "loop $5_$6 {0}%s.wav, texture, 1 steps" in printed.out


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
@pytest.mark.parametrize("where", ["file", "folder", "out"])
def test_a_name_that_is_not_utf8(
    tmp_path: Path, where: str, no_fit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = os.fsdecode(b"caf\xe9")
    file = tmp_path / {"file": f"{bad}.wav", "folder": f"{bad}/sound.wav", "out": "sound.wav"}[where]
    out = tmp_path / (bad if where == "out" else "out")
    try:
        write_wav(file)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert run(file, f"--out={out}") == 2
    assert_one_sentence(capsys, "expected a name in UTF-8; rename it")
    assert not out.exists()


def test_what_is_printed_is_one_line_in_any_encoding() -> None:
    assert shown("plain $x {y} ü.wav") == "plain $x {y} ü.wav"
    assert shown("a\nb") == r"'a\nb'"
    assert shown("\x1b[31m") == r"'\x1b[31m'"
    assert one_line("a\n  b\tc\x1b") == r"a b c\x1b"
    assert len(one_line("x" * 1000)) == 300
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("runs/ü", stream)
    stream.seek(0)
    assert stream.read() == "runs/\\xfc\n"


# --- options ---


def assert_one_sentence(capsys: pytest.CaptureFixture[str], said: str) -> None:
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert said in message


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--threads=-2", "Invalid --threads: -2; expected 1 to"),
        ("--threads=0", "Invalid --threads: 0; expected 1 to"),
        ("--threads=1000000", "Invalid --threads: 1000000; expected 1 to"),
        (f"--threads={10**30}", "Invalid --threads"),
        ("--threads=1.5", "argument --threads: invalid int value: '1.5'"),
        ("--threads=", "argument --threads"),
        ("--seconds=nan", "Invalid seconds: nan; expected"),
        ("--seconds=-1", "Invalid seconds: -1; expected"),
        ("--seconds=0", "Invalid seconds: 0; expected"),
        ("--seconds=inf", "Invalid seconds: inf; expected"),
        ("--seconds=1e9", "Invalid seconds: 1e+09; expected"),
        ("--seconds=two", "argument --seconds"),
        ("--start=-0.1", "Invalid start: -0.1; expected"),
        ("--start=nan", "Invalid start: nan; expected"),
        ("--start=inf", "Invalid start: inf; expected"),
        ("--start=0.5", "--start 0.5 s is past its end, 0.5 s"),
        ("--start=1e308", "--start 1e+308 s is past its end, 0.5 s"),
        ("--rate=0", "Invalid rate: 0; expected 2048 to 96000 Hz"),
        ("--rate=-8192", "Invalid rate: -8192; expected"),
        (f"--rate={10**20}", f"Invalid rate: {10**20}; expected"),
        ("--steps=0", "Invalid steps: 0; expected 1 to"),
        ("--steps=-1", "Invalid steps: -1; expected 1 to"),
        (f"--steps={10**12}", "Invalid steps"),
        ("--seed=-1", "Invalid seed: -1; expected 0 to"),
        (f"--seed={2**31}", f"Invalid seed: {2**31}; expected 0 to"),
        ("--loud", "unrecognized arguments: --loud"),
        ("--two\nlines", "unrecognized arguments: --two lines"),
    ],
)
def test_options_out_of_range(
    tmp_path: Path,
    wav: Path,
    option: str,
    said: str,
    no_fit: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        code = run(wav, option)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert_one_sentence(capsys, said)
    assert torch.get_num_threads() == threads
    assert [path.name for path in tmp_path.iterdir()] == ["sound.wav"]


def test_no_file_is_named(no_fit: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("")
    assert_one_sentence(capsys, "expected the name of a WAV or FLAC file")


def test_threads_are_set(wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert run(wav, f"--out={tmp_path / 'out'}") == 0
    assert run(wav, f"--out={tmp_path / 'out'}", "--threads=3") == 0
    assert asked == [1, 3]


@pytest.mark.parametrize("text", ["meta", "mps", "cuda:99", "tpu", "", "cuda", "-1"])
def test_devices_that_are_not_there(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "99" in text)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="Invalid --device: "):
        command_line.parse_device(text)
    assert command_line.parse_device("cpu") == torch.device("cpu")


# --- the run folder ---


def test_a_folder_that_cannot_be_written_to_is_told_before_the_fit(
    tmp_path: Path, wav: Path, no_fit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for out in (wav / "out", tmp_path / "new" / ("n" * 300)):
        assert run(wav, f"--out={out}") == 2
        assert_one_sentence(capsys, str(out))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_claimed_folder_stays_if_it_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with claimed_folder(folder):
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
    with claimed_folder(folder):
        (folder / "result.json").touch()
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    with claimed_folder(tmp_path):
        pass
    assert tmp_path.exists()


@pytest.mark.parametrize("name", ["match.wav", "target.wav"])
def test_a_recording_is_never_overwritten(
    tmp_path: Path, name: str, no_fit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_wav(tmp_path / name)
    content = file.read_bytes()
    assert run(file, f"--out={tmp_path}") == 2
    assert_one_sentence(capsys, "the match would overwrite the recording")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert file.read_bytes() == content


# --- pictures that fail ---


def failing(error: BaseException) -> Callable[[Match], Any]:
    def draw_match(match: Match) -> Any:
        raise error

    return draw_match


def test_no_fit_is_lost_to_a_failing_picture(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(wav, f"--out={out}") == 0
    sound = soundfile.read(out / "match.wav")[0]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(report, "draw_match", failing(SyntaxError("expected a symbol,\nfound $")))
        assert run(wav, f"--out={out}") == 1
    # the earlier picture would pass for this run's
    assert {path.name for path in out.iterdir()} == FILES - {"report.png"}
    assert json.loads((out / "result.json").read_text())["steps_done"] == 1
    np.testing.assert_array_equal(soundfile.read(out / "match.wav")[0], sound)
    printed = capsys.readouterr()
    assert "Relative JTFS error" in printed.out
    assert "Look at" not in printed.out
    assert "report.png could not be drawn (SyntaxError: expected a symbol, found $)" in printed.err
    assert "the match is whole in match.wav and result.json" in printed.err
    assert run(wav, f"--out={out}") == 0
    assert {path.name for path in out.iterdir()} == FILES


def test_the_result_is_there_before_the_picture_is_begun(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []

    def draw_match(match: Match) -> Any:
        seen.append({path.name for path in out.iterdir()})
        raise ValueError("no picture")

    monkeypatch.setattr(report, "draw_match", draw_match)
    with pytest.raises(PictureError, match="could not be drawn"):
        match(wav, "texture", out, steps=1, rate=RATE, seconds=0.5)
    assert seen == [FILES - {"report.png"}]


def test_ctrl_c_while_drawing_keeps_the_match(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "draw_match", failing(KeyboardInterrupt()))
    assert run(wav, f"--out={tmp_path / 'out'}") == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"report.png"}
    assert "Interrupted while drawing report.png: the match is whole" in capsys.readouterr().err


def test_a_place_that_is_taken_does_not_cost_the_result(
    tmp_path: Path, wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "report.png").mkdir(parents=True)
    assert run(wav, f"--out={tmp_path / 'out'}") == 1
    assert "report.png could not be drawn" in capsys.readouterr().err
    (tmp_path / "other" / "match.wav").mkdir(parents=True)
    assert run(wav, f"--out={tmp_path / 'other'}") == 2
    assert "match.wav is a folder" in capsys.readouterr().err
    for name in ("out", "other"):
        assert json.loads((tmp_path / name / "result.json").read_text())["steps_done"] == 1


def test_notes_come_before_the_fit(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads that half of the sound is lost wants to stop here."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "make_target", interrupted)
    assert run(wav, f"--out={tmp_path / 'out'}", rate=2048) == 130
    printed = capsys.readouterr()
    assert "of its energy lies above 1024 Hz" in printed.out
    assert "--rate 4096 keeps all of it" in printed.out
    assert "Interrupted before a match was written" in printed.err
    assert not (tmp_path / "out").exists()


def test_what_is_lost_is_in_the_result(wav: Path, tmp_path: Path) -> None:
    result = match(wav, "texture", tmp_path / "out", steps=1, rate=2048, seconds=0.5)
    assert result["lost_energy"] == pytest.approx(0.5, abs=0.05)
    assert any("is lost" in note for note in result["recording"])


# --- the Makefile ---

STRINGS = [
    *NAMES,
    "$$HOME $(shell touch x) ${HOME} $@",
    "a,b)c(",
    "back\\",
    "'",
    '"',
    "#",
    "%",
    "a=b:c;d&e|f>g",
    "~",
    "*",
]


@pytest.fixture(scope="module")
def arguments_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Runs make with an interpreter that writes down its arguments."""
    venv = tmp_path_factory.mktemp("venv")
    (venv / "bin").mkdir()
    python, written = venv / "bin" / "python", venv / "arguments.json"
    code = f"import json, sys; json.dump(sys.argv[1:], open({str(written)!r}, 'w'))"
    python.write_text(f"#!{sys.executable}\n{code}\n")
    python.chmod(0o755)
    (venv / ".ready").touch()

    def call(target: str, *variables: str, **environment: str) -> list[str]:
        settings = {**os.environ, **environment}
        subprocess.run(
            ["make", "--silent", target, f"VENV={venv}", *variables], cwd=ROOT, check=True, env=settings
        )
        return json.loads(written.read_text())

    return call


@pytest.mark.parametrize("text", STRINGS)
def test_make_passes_strings_on_as_they_are(arguments_of: Callable[..., list[str]], text: str) -> None:
    arguments = arguments_of("match-recording", f"FILE=./{text}", f"OUT=runs/{text}", f"STEPS={text}")
    assert arguments[-2:] == ["--", f"./{text}"]
    assert f"--out=runs/{text}" in arguments
    if text.strip() == text:  # make itself drops blanks after the =
        assert f"--steps={text}" in arguments
        assert arguments_of("match-recording", f"FILE={text}")[-1] == text
    assert arguments_of("match-recording", FILE=text)[-1] == text
    assert not (ROOT / "x").exists()


def test_make_passes_every_option_on(
    arguments_of: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"START": "1.5", "SECONDS": "4", "RATE": "44100", "STEPS": "20", "SEED": "3", "THREADS": "2"}
    arguments = arguments_of(
        "match-recording", "FILE=a b.wav", "MODE=granular", "OUT=/x y", *(f"{k}={v}" for k, v in options.items())
    )
    assert arguments[:2] == ["-m", "benchmarks.sound_matching.recording"]
    expected = {
        f"--{name.lower()}={value}" for name, value in {**options, "MODE": "granular", "OUT": "/x y"}.items()
    }
    assert set(arguments[2:-2]) == expected
    assert arguments[-2:] == ["--", "a b.wav"]
    asked: list[list[str]] = []
    monkeypatch.setattr(recording.commands, "main", lambda arguments: asked.append(arguments) or 0)
    assert recording.main(arguments[2:]) == 0
    assert asked[0][0] == "match"
    parsed = command.parse_arguments(asked[0][1:], "granular")
    assert (parsed.file, parsed.out, parsed.start, parsed.seconds) == (Path("a b.wav"), Path("/x y"), 1.5, 4.0)
    assert (parsed.rate, parsed.steps) == (44100, 20)
    assert arguments_of("match-recording", "FILE=rain.wav")[2:] == ["--mode=texture", "--", "rain.wav"]


def test_a_mode_of_make_is_one_of_two(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--mode=both", "--", "a.wav"], ["--", "a.wav", "--mode=texture"]):
        with pytest.raises(SystemExit, match="2"):
            recording.main(wrong)
        assert_one_sentence(capsys, "--mode")


@pytest.mark.parametrize(("target", "preset"), [("match", "small"), ("match-quick", "quick")])
def test_make_trains(arguments_of: Callable[..., list[str]], target: str, preset: str) -> None:
    assert arguments_of(target)[2:] == ["--preset", preset, "--out", f"runs/{preset}"]
