"""scrapl-jtfs as a user types it: describe and compare, what they say, and one sentence for what is wrong."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

from scrapl_jtfs import JTFSPath, commands, relative_distance
from scrapl_jtfs.commands import compare, match
from scrapl_jtfs.commands._compare import picture as comparison_picture
from scrapl_jtfs.commands._compare.distances import compare as compare_paths
from scrapl_jtfs.commands.describe import Outline

ROOT = Path(__file__).parents[1]
RATE = 8000


def chirps(rate: int, seconds: float = 1.0, rising: bool = True, level: float = 0.3) -> np.ndarray:
    """Four in a second, each over an octave around 500 Hz."""
    t = np.arange(round(rate * seconds)) / rate
    octaves = (4 * t) % 1 - 0.5
    return level * np.sin(2 * np.pi * np.cumsum(500 * 2.0 ** (octaves if rising else -octaves)) / rate)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "up.wav", chirps(RATE), RATE, subtype="FLOAT")
    soundfile.write(folder / "down.wav", chirps(RATE, rising=False), RATE, subtype="FLOAT")
    soundfile.write(folder / "half.wav", chirps(RATE, level=0.15), RATE, subtype="FLOAT")
    soundfile.write(folder / "stereo.flac", np.stack([chirps(44100, 1.5)] * 2, -1), 44100)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "short.wav", chirps(RATE, 0.1), RATE)
    (folder / "text.wav").write_text("no audio at all")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def typed(
    *arguments: str | Path, folder: Path = ROOT, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What a process of its own says."""
    command = [sys.executable, *(["-m", "scrapl_jtfs"] if code is None else ["-c", code]), *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def code_of(*arguments: str | Path) -> int:
    """The exit code, in this process."""
    try:
        return commands.main([str(argument) for argument in arguments])
    except SystemExit as error:
        return int(error.code or 0)


def distance_in(text: str) -> float:
    return float(re.findall(r"^Relative distance (\S+) \(0 the same, 1 as far as silence\)$", text, re.M)[0])


# --- the command itself ---


def test_the_script_is_the_module() -> None:
    (target,) = re.findall(r'^scrapl-jtfs = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    module, _, name = target.partition(":")
    assert getattr(import_module(module), name) is commands.main
    shown = typed("--help")
    assert shown.returncode == 0
    for name in ("describe", "compare", "resynthesize", "match"):
        assert re.search(rf"^  {name} +\S", shown.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: scrapl-jtfs {command} ")


def test_what_the_page_types_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "notebooks/pages/commands.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    scrapl-jtfs (\w+) (.*?)(?: *#.*)?$", page, flags=re.M)
    assert [name for name, _ in lines] == list(commands.COMMANDS)
    (_, described), (_, compared), (_, noise), (_, grains) = lines
    assert code_of("describe", *described.split()) == 0
    assert str(compare.parse_arguments(compared.split()).picture) == "out.png"
    assert str(match.parse_arguments(noise.split(), "texture").file) == "rain.wav"
    assert match.parse_arguments(grains.split(), "granular").start == 12.5


@pytest.mark.parametrize("missing", ["tqdm", "matplotlib", "soundfile"])
def test_describe_needs_no_extra_and_others_name_it(missing: str, sounds: Path) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from scrapl_jtfs.commands import main; sys.exit(main())"
    assert typed("describe", "--seconds", "1", "--rate", "8000", code=code).returncode == 0
    done = typed("match", sounds / "up.wav", "--out", sounds / "out", code=code)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: .*package {missing}: pip install 'scrapl-jtfs\[\w+\]'\n", done.stderr)
    assert not (sounds / "out").exists()


def test_extras_are_those_that_modules_import() -> None:
    imported = {
        name.partition(".")[0]
        for source in (ROOT / "scrapl_jtfs" / "commands").glob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    ours = {"torch", "numpy", "scrapl_jtfs", "scrapl_optim"}
    assert imported - set(sys.stdlib_module_names) - ours == set(commands.EXTRAS)


def test_who_reads_may_stop(sounds: Path) -> None:
    code = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); "
        "from scrapl_jtfs.commands import main; sys.exit(main())"
    )
    done = typed("describe", "--seconds", "1", "--rate", "8000", code=code)
    assert (done.returncode, done.stderr) == (141, "")


# --- describe ---


def test_describe_chooses_for_sounds() -> None:
    done = typed("describe", "--seconds", "1", "--rate", "16000", "--steps", "1920", "--parameters", "600000")
    assert (done.returncode, done.stderr) == (0, "")
    settings, _, text = done.stdout.partition("\n")
    jtfs = eval(settings, {"JTFSPath": JTFSPath})
    chosen = JTFSPath.for_sounds(1.0, 16000)
    assert repr(jtfs.paths) == repr(chosen.paths)
    assert jtfs.geometry == chosen.geometry
    assert text == f"{chosen.describe(steps=1920, n_parameters=600000)}\n"


def test_describe_takes_settings(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--samples 4096 --rate 8192 --J 9 --Q 8 2 --J-fr 2 --Q-fr 2 --T global --F 0 --orders 2 1 --table"
    assert code_of("describe", *options.split()) == 0
    jtfs = JTFSPath(4096, 9, (8, 2), 2, 2, "global", 0, sample_rate=8192, orders=(1, 2))
    settings, _, text = capsys.readouterr().out.partition("\n")
    assert eval(settings, {"JTFSPath": JTFSPath}).geometry == jtfs.geometry
    assert text == f"{jtfs.describe()}\n\n{jtfs.paths}\n"


def test_describe_takes_the_longest_sound(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("describe", sounds / "short.wav", sounds / "up.wav") == 0
    assert "for signals of 8000 samples = 1 s\n" in capsys.readouterr().out


def test_describe_tells_of_a_long_average_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("describe", "--samples", "4096", "--J", "12") == 0
    printed = capsys.readouterr()
    assert printed.out.count("more than an eighth") == 1
    assert printed.err == ""


def test_an_outline_has_the_paths_of_a_minute_at_once() -> None:
    outline = Outline(60 * 44100, 13, (8, 1), 3, sample_rate=44100)
    same = JTFSPath(65536, 13, (8, 1), 3, sample_rate=44100)
    assert [(p.rate, p.scale, p.spin) for p in outline.paths] == [(p.rate, p.scale, p.spin) for p in same.paths]


# --- compare ---


def test_compare_prints_and_draws(sounds: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "a b.png"
    done = typed("compare", sounds / "up.wav", sounds / "stereo.flac", "--picture", picture)
    assert (done.returncode, done.stderr) == (0, "")
    assert distance_in(done.stdout) < 0.02  # the same chirps
    assert "up.wav and stereo.flac, 1 s from 0 s on, at 8000 Hz\n" in done.stdout
    assert (
        "stereo.flac: 2 channels averaged to mono, resampled from 44100 Hz to 8000 Hz, its last 0.5 s"
        in done.stdout
    )
    assert done.stdout.endswith(f"Look at    {picture}\n")
    assert matplotlib.image.imread(picture).shape == (960, 1080, 4)


def test_a_sound_is_at_no_distance_from_itself(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("compare", sounds / "up.wav", sounds / "up.wav") == 0
    printed = capsys.readouterr()
    assert distance_in(printed.out) == 0.0
    assert "Where they differ" not in printed.out
    assert printed.err == ""  # no bar where there is no terminal


def test_it_tells_where_sounds_differ(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("compare", sounds / "up.wav", sounds / "down.wav") == 0
    text = capsys.readouterr().out
    assert 0.5 < distance_in(text) < 1.42
    most = re.findall(r"^ +(\d+)%  path \d+: (\S+) Hz, \S+ cycles/octave, (\w+), stronger in (\S+)$", text, re.M)
    assert {(spin, file) for _, _, spin, file in most} == {("rising", "up.wav"), ("falling", "down.wav")}
    assert all(2 < float(rate) < 12 for _, rate, _, _ in most)  # around four chirps in a second


def test_level_counts_unless_it_is_taken_out(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (sounds / "up.wav", sounds / "half.wav")
    assert code_of("compare", *pair) == 0
    text = capsys.readouterr().out
    assert distance_in(text) == pytest.approx(0.5, abs=1e-3)
    assert "up.wav is 6.0 dB louder" in text
    assert code_of("compare", *pair, "--same-level") == 0
    assert distance_in(capsys.readouterr().out) == pytest.approx(0.0, abs=1e-3)


def test_the_longer_length_counts_what_one_has_alone(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (sounds / "up.wav", sounds / "stereo.flac", "--length=longer")
    assert code_of("compare", *pair) == 0
    text = capsys.readouterr().out
    assert "up.wav: mono, at 8000 Hz, 0.5 s of zeros after it" in text
    # A mean over 1.5 s of 1 s of chirps is two thirds of one over chirps throughout.
    assert distance_in(text) == pytest.approx(1 / 3, abs=0.05)


def test_the_distance_is_the_packages(sounds: Path) -> None:
    jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2, orders=(1, 2))
    x, y = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0))
    comparison = compare_paths(jtfs, x, 2 * y)
    assert comparison.distance == pytest.approx(float(relative_distance(jtfs, x, 2 * y)), rel=1e-5)
    assert float(comparison.shares.sum()) == pytest.approx(1.0)
    assert sum(comparison.by(compare.rate_name).values()) == pytest.approx(1.0)
    parts = torch.stack([(a - b).square().sum() for a, b in zip(jtfs.full(x), jtfs.full(2 * y), strict=True)])
    torch.testing.assert_close(comparison.shares.float(), parts / parts.sum())
    path, share, second = comparison.most(1)[0]
    assert (path.index, share) == (int(parts.argmax()), pytest.approx(float(comparison.shares.max())))
    assert second


@pytest.mark.parametrize(("option", "rate"), [("--rate=4096", 4096), (None, RATE)])
def test_the_common_rate(sounds: Path, option: str | None, rate: int, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (sounds / "stereo.flac", sounds / "up.wav")
    assert code_of("compare", *pair, *([option] if option else []), "--seconds=0.5") == 0
    assert f", 0.5 s from 0 s on, at {rate} Hz\n" in capsys.readouterr().out


def test_a_picture_that_fails_costs_no_figure(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("no\nink")

    monkeypatch.setattr(comparison_picture, "draw_comparison", failing)
    picture = tmp_path / "a.png"
    assert code_of("compare", sounds / "up.wav", sounds / "down.wav", "--picture", picture, "--seconds=0.3") == 1
    printed = capsys.readouterr()
    assert distance_in(printed.out) > 0
    assert "a.png could not be drawn (RuntimeError: no ink); all figures are above" in printed.err
    assert not picture.exists()


# --- what can be wrong ---

WRONG = {
    "": "the following arguments are required: COMMAND",
    "listen": "invalid choice: 'listen'",
    "describe": "Invalid length: none or several; expected sound files, --seconds and --rate",
    "describe up.wav --rate=3": "Invalid --rate: files have",
    "describe none.wav": "none.wav: no such file",
    "describe up.wav stereo.flac": "stereo.flac: 44100 Hz, and up.wav 8000 Hz",
    "describe --seconds=1": "Invalid --rate: none",
    "describe --seconds=nan --rate=8000": "Invalid --seconds: nan",
    "describe --seconds=1 --rate=inf": "Invalid --rate: inf",
    "describe --samples=0 --rate=8000": "Invalid --samples: 0",
    "describe --samples=8000": "Invalid --rate: none",
    "describe --samples=8000 --rate=8000 --Q 8": "Invalid --Q: settings are chosen; expected it with --J alone",
    "describe --samples=8000 --J=9 --rates 2 3": "Invalid --rates: with --J",
    "describe --samples=8000 --J=9 --T=half": "argument --T: expected a whole number or global, got 'half'",
    "describe --samples=8000 --J=9 --Q 8 1 1": "Invalid --Q: 8 1 1",
    "describe --samples=8000 --J=99": "expected J <= 12",
    "describe --samples=8000 --J=9 --orders 3": "Invalid --orders: 3",
    "describe --samples=8000 --J=9 --steps=0": "Invalid steps: 0",
    "describe up.wav --rates 9 1": "Invalid rates: (9.0, 1.0)",
    "compare up.wav": "the following arguments are required: B",
    "compare up.wav none.wav": "none.wav: no such file",
    "compare . up.wav": "not a file",
    "compare up.wav text.wav": "text.wav: cannot be read as audio",
    "compare silent.wav up.wav": "silent.wav: silence",
    "compare up.wav short.wav": "short.wav: too short",
    "compare up.wav up.wav --rate=100": "Invalid rate: 100; expected 2048 to 96000 Hz",
    "compare up.wav up.wav --seconds=0": "Invalid seconds: 0",
    "compare up.wav up.wav --start=nan": "Invalid start: nan",
    "compare up.wav up.wav --start=1": "--start 1 s is past its end, 1 s",
    "compare up.wav up.wav --threads=0": "Invalid --threads: 0",
    "compare up.wav up.wav --picture=up.wav": "Invalid --picture: up.wav; expected a name such as out.png",
    "compare up.wav up.wav --picture=out": "Invalid --picture: out;",
    "compare up.wav up.wav --picture=up.wav/a.png": "up.wav",
    "resynthesize none.wav": "none.wav: no such file",
    "match silent.wav": "silent.wav: silence",
}


@pytest.mark.parametrize("line", WRONG)
def test_one_sentence_for_what_is_wrong(
    line: str, sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sounds)
    before = sorted(sounds.rglob("*"))
    assert code_of(*line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert WRONG[line] in printed.err
    assert sorted(sounds.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
@pytest.mark.parametrize(
    "arguments",
    [
        lambda bad, good: ["describe", f"{bad}.wav"],
        lambda bad, good: ["compare", good, f"{bad}.wav"],
        lambda bad, good: ["compare", good, good, "--picture", f"{bad}.png"],
    ],
)
def test_names_that_are_not_utf8(
    arguments: Callable[[str, str], list[str]], sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(*arguments(os.fsdecode(b"caf\xe9"), str(sounds / "up.wav"))) == 2
    printed = capsys.readouterr()
    assert "expected a name in UTF-8; rename it" in printed.err
    assert printed.out == ""


def test_a_picture_never_takes_a_recordings_place(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, content = tmp_path / "link.png", (sounds / "up.wav").read_bytes()
    link.symlink_to(sounds / "up.wav")
    assert code_of("compare", sounds / "up.wav", sounds / "down.wav", "--picture", link) == 2
    assert "expected no folder and no recording; name another file" in capsys.readouterr().err
    assert (sounds / "up.wav").read_bytes() == content
