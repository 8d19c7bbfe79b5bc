"""Drum sounds: what a folder gives, how it is split, and how the sounds of Debian packages are assembled."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sound_matching.drum_sounds import fetch
from benchmarks.sound_matching.drum_sounds.deb import read_files
from benchmarks.sound_matching.drum_sounds.manifest import MANIFEST, Package, PackedFile, read_manifest
from benchmarks.sound_matching.drum_sounds.sounds import PAPER_SIZES, PEAK, DrumSounds, load_sounds, split_sounds

RATE, N = 16000, 4096


def stroke(n: int = 3000, rate: int = RATE, seed: int = 0, decay: float = 0.03) -> np.ndarray:
    """Decaying noise that begins at its loudest."""
    sound = np.random.default_rng(seed).uniform(-0.3, 0.3, n) * np.exp(-np.arange(n) / (decay * rate))
    sound[0] = 0.4
    return sound


def save(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, format=path.suffix[1:].upper())
    return path


def literal(samples: np.ndarray, n: int, rate: int) -> np.ndarray:
    """The rule of load_sounds for a file at the working rate, word for word."""
    x = samples - samples.mean()
    x = x[np.flatnonzero(np.abs(x) >= 0.01 * np.abs(x).max())[0] :][:n].copy()
    n_fade = math.ceil(0.005 * rate)
    for k in range(n_fade):
        x[len(x) - n_fade + k] *= (1 + math.cos(math.pi * (k + 1) / n_fade)) / 2
    return np.concatenate([0.5 * x / np.abs(x).max(), np.zeros(n - len(x))])


# --- one file ---


@pytest.mark.parametrize("before", [0, 1, 777])
@pytest.mark.parametrize("n", [1500, 3000, 9000])
def test_a_sound_is_what_the_rule_says(tmp_path: Path, before: int, n: int) -> None:
    samples = np.concatenate([np.zeros(before), stroke(n)]).astype(np.float32).astype(np.float64)
    save(tmp_path / "a.wav", samples)
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.audio.shape == (1, N)
    assert sounds.audio.dtype == torch.float32
    np.testing.assert_allclose(sounds.audio[0].numpy(), literal(samples, N, RATE), rtol=0, atol=1e-7)
    assert sounds.left_out == ()


def test_the_quiet_before_a_stroke_is_dropped_and_its_slow_rise_is_kept(tmp_path: Path) -> None:
    hiss = np.random.default_rng(1).uniform(-0.003, 0.003, 500)
    rise = np.linspace(0.02, 1, 400) * np.sign(np.sin(np.arange(400) + 0.5))
    save(tmp_path / "a.wav", np.concatenate([hiss, rise, np.zeros(2000)]))
    sound = load_sounds(tmp_path, N, RATE).audio[0]
    assert abs(float(sound[0])) == pytest.approx(PEAK * 0.02, rel=0.2)
    assert int(sound.abs().argmax()) == 399


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 44101])
def test_resampling_gives_the_samples_of_the_same_curve(tmp_path: Path, rate: int) -> None:
    """A band-limited curve, sampled at one rate and at another: the closed form is the reference."""

    def curve(t: np.ndarray) -> np.ndarray:
        return np.exp(-(((t - 0.06) / 0.012) ** 2)) * np.sin(2 * np.pi * 1000 * t)

    native = curve(np.arange(round(0.2 * rate)) / rate)
    save(tmp_path / "a.wav", native, rate, "DOUBLE")
    onset = np.flatnonzero(np.abs(native) >= 0.01 * np.abs(native).max())[0] / rate
    expected = curve(onset + np.arange(N) / RATE)
    sound = load_sounds(tmp_path, N, RATE).audio[0].numpy()
    # What lies before the onset, 40 dB below the peak, is cut off there; its edge rings.
    np.testing.assert_allclose(sound, PEAK * expected / np.abs(expected).max(), rtol=0, atol=0.004)
    np.testing.assert_allclose(
        sound[200:1800], PEAK * expected[200:1800] / np.abs(expected).max(), rtol=0, atol=2e-5
    )


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = stroke(seed=1), stroke(seed=2)
    save(tmp_path / "a.wav", np.stack([left, right], -1), subtype="DOUBLE")
    expected = literal((left + right) / 2, N, RATE)
    np.testing.assert_allclose(load_sounds(tmp_path, N, RATE).audio[0].numpy(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("suffix", "subtype", "atol"),
    [
        (".wav", "PCM_U8", 2 / 128),
        (".wav", "PCM_16", 1e-4),
        (".wav", "PCM_24", 1e-6),
        (".flac", "PCM_16", 1e-4),
        (".aiff", "PCM_16", 1e-4),
        (".ogg", "VORBIS", 0.2),
    ],
)
def test_formats(tmp_path: Path, suffix: str, subtype: str, atol: float) -> None:
    """Lossy and coarse formats differ by their rounding, relative to a peak of 0.4."""
    samples = stroke()
    save(tmp_path / f"a{suffix}", samples, subtype=subtype)
    sound = load_sounds(tmp_path, N, RATE).audio[0].numpy()
    np.testing.assert_allclose(sound, literal(samples, N, RATE), rtol=0, atol=atol)
    assert np.corrcoef(sound, literal(samples, N, RATE))[0, 1] > 0.97


def test_of_a_long_file_the_first_stroke_is_used(tmp_path: Path) -> None:
    samples = np.zeros(70 * RATE)
    samples[50 * RATE : 50 * RATE + 3000] = stroke()
    samples[65 * RATE : 65 * RATE + 3000] = 2 * stroke(seed=5)
    save(tmp_path / "a.wav", samples)
    sound = load_sounds(tmp_path, N, RATE).audio[0].numpy()
    np.testing.assert_allclose(sound, literal(np.pad(stroke(), (0, 60 * RATE)), N, RATE), rtol=0, atol=1e-5)


def test_a_sound_is_cut_in_a_fade_that_ends_in_silence(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 0.05 * np.arange(3 * N))
    save(tmp_path / "a.wav", tone)
    sound = load_sounds(tmp_path, N, RATE).audio[0]
    assert float(sound[-1]) == 0
    assert float(sound[-81:-80].abs()) <= PEAK
    assert float(sound[-160:-80].abs().max()) == pytest.approx(PEAK, rel=0.01)
    assert float(sound[-10:].abs().max()) < 0.05 * PEAK


def test_what_lies_above_the_working_rate_is_nothing(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 20000 * np.arange(9600) / 96000) * np.hanning(9600)
    save(tmp_path / "high.wav", tone, 96000)
    save(tmp_path / "low.wav", stroke())
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.names == ("low.wav",)
    assert sounds.left_out == (f"high.wav: nothing of it is left at {RATE} Hz",)


# --- folders ---


def bad_files(folder: Path) -> dict[str, str]:
    """Write files that cannot be used; returns what is said of them."""
    save(folder / "silent.wav", np.zeros(4000), subtype="PCM_16")
    save(folder / "constant.wav", np.full(4000, 0.25), subtype="PCM_16")
    save(folder / "short.wav", stroke(500))
    save(folder / "nan.wav", np.where(np.arange(4000) == 40, np.nan, 0.1))
    save(folder / "none.wav", np.zeros(0))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.flac").write_text("no sound")
    whole = save(folder / "whole.flac", stroke(), subtype="PCM_16").read_bytes()
    (folder / "whole.flac").unlink()
    (folder / "damaged.flac").write_bytes(whole[:60])
    (folder / "lost.ogg").symlink_to("nowhere.ogg")
    return {
        "silent.wav": "silence",
        "constant.wav": "silence",
        "short.wav": "too short",
        "nan.wav": "NaN",
        "none.wav": "empty audio",
        "empty.wav": "cannot be read as audio",
        "text.flac": "cannot be read as audio",
        "damaged.flac": "",
        "lost.ogg": "no such file",
    }


def test_what_can_be_used_is_used(tmp_path: Path) -> None:
    said = bad_files(tmp_path)
    save(tmp_path / "good.wav", stroke())
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.names == ("good.wav",)
    assert [line.partition(": ")[0] for line in sounds.left_out] == sorted(said)
    for line in sounds.left_out:
        name, _, problem = line.partition(": ")
        assert said[name] in problem
        assert "--start" not in problem
        assert "\n" not in problem


def test_with_nothing_usable_one_sentence_says_so(tmp_path: Path) -> None:
    bad_files(tmp_path)
    with pytest.raises(
        ValueError, match=r"^Invalid data folder: .* \(9 files cannot .*\); expected .*; name another"
    ):
        load_sounds(tmp_path, N, RATE)


@pytest.mark.parametrize("kind", ["empty", "missing", "file", "texts"])
def test_no_sounds(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "a\nb"
    if kind in ("empty", "texts"):
        folder.mkdir()
    if kind == "texts":
        (folder / "readme.md").write_text("no sound")
    if kind == "file":
        save(tmp_path / "a.wav", stroke()).rename(folder)
    with pytest.raises(ValueError, match=r"^Invalid data folder: .*; expected .*; name") as caught:
        load_sounds(folder, N, RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("n_samples", "rate"), [(1023, RATE), (-1, RATE), (N, 0), (N, 999), (N, 96001)])
def test_numbers_out_of_range(tmp_path: Path, n_samples: int, rate: int) -> None:
    save(tmp_path / "a.wav", stroke())
    with pytest.raises(ValueError, match=r"^Invalid (n_samples|sample_rate): .*; expected .*; "):
        load_sounds(tmp_path, n_samples, rate)


NAMES = [
    "a b.wav",
    "-a.wav",
    "ä ö 鼓.wav",
    'it\'s "loud".wav',
    "two\nlines.wav",
    "$(x) %s {y} `z`.wav",
    "a; b: c.wav",
    "UPPER.WAV",
    "a.b.c.wav",
    "~.wav",
    "\x1b[31m.wav",
    "tab\there.wav",
]


def test_names_of_every_kind(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        save(tmp_path / name, stroke(seed=seed))
        save(tmp_path / f"silent {name}", np.zeros(2000))
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.names == tuple(sorted(NAMES))
    assert len(sounds.left_out) == len(NAMES)
    assert all(line.isprintable() and ": silence, RMS" in line for line in sounds.left_out)


def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    bad = save(tmp_path / "b.wav", stroke())
    try:
        bad.rename(tmp_path / os.fsdecode(b"\xff.wav"))
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    save(tmp_path / "a.wav", stroke(seed=1))
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.names == ("a.wav",)
    assert "Invalid file name" in sounds.left_out[0]
    assert sounds.left_out[0].isprintable()


def test_copies_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    one = save(tmp_path / "b" / "one.wav", stroke())
    shutil.copy(one, tmp_path / "z.wav")
    shutil.copy(one, tmp_path / "._z.wav")
    save(tmp_path / ".packages" / "x.wav", stroke(seed=2))
    sounds = load_sounds(tmp_path, N, RATE)
    assert sounds.names == ("b/one.wav",)
    assert sounds.left_out == ("z.wav: the same file as b/one.wav",)


def test_kinds_are_names_of_folders(tmp_path: Path) -> None:
    expected = {
        "a.wav": "unknown",
        "Bass_Drums/a.wav": "bass drum",
        "KICKS/808/long/a.wav": "bass drum",
        "clap/a.wav": "clap",
        "hats/a.wav": "hi-hat",
        "kit/Hi-Hats/open/a.wav": "hi-hat",
        "kit/ride/a.wav": "ride",
        "kit/snare/a.wav": "snare",
        "snare/toms/a.wav": "tom",
    }
    for seed, name in enumerate(expected):
        save(tmp_path / name, stroke(seed=seed))
    sounds = load_sounds(tmp_path, N, RATE)
    assert dict(zip(sounds.names, sounds.kinds, strict=True)) == expected


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{kind}/{k}.wav" for kind in ("tom", "Tom 2", "a.b", "a") for k in (2, 10, 1)]
    for folder, order in (("one", names), ("two", names[::-1])):
        for name in order:
            save(tmp_path / folder / name, stroke(seed=names.index(name)))
    one, two = (load_sounds(tmp_path / folder, N, RATE) for folder in ("one", "two"))
    assert one.names == two.names
    assert torch.equal(one.audio, two.audio)


# --- splits ---


def of_kinds(kinds: list[str]) -> DrumSounds:
    names = tuple(f"{kind}/{k}.wav" for k, kind in enumerate(kinds))
    return DrumSounds(names, tuple(kinds), torch.arange(len(kinds), dtype=torch.float32)[:, None])


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(["bass drum", "snare", "tom", "hi-hat", "x"]), min_size=3, max_size=200),
    sizes=st.tuples(*[st.floats(0.05, 1)] * 3),
    seed=st.integers(0, 2**20 - 1),
)
def test_splits(kinds: list[str], sizes: tuple[float, ...], seed: int) -> None:
    sounds = of_kinds(kinds)
    parts = split_sounds(sounds, sizes, seed)
    assert sorted(name for part in parts for name in part.names) == sorted(sounds.names)
    for part, size in zip(parts, sizes, strict=True):
        share = size / sum(sizes)
        assert part.names
        assert abs(len(part.names) - share * len(kinds)) < 1 or len(part.names) == 1 or len(kinds) < 15
        for kind, n in Counter(kinds).items():
            assert abs(part.kinds.count(kind) - share * n) <= 2 or len(kinds) < 15
        assert [part.names[k] == sounds.names[int(part.audio[k, 0])] for k in range(len(part.names))]
        assert part.kinds == tuple(name.partition("/")[0] for name in part.names)
    again = split_sounds(sounds, sizes, seed)
    assert [part.names for part in again] == [part.names for part in parts]


def test_the_split_of_the_paper() -> None:
    counts = {"bass drum": 215, "snare": 240, "tom": 189, "hi-hat": 37}
    sounds = of_kinds([kind for kind, count in counts.items() for _ in range(count)])
    for seed in range(20):
        parts = split_sounds(sounds, PAPER_SIZES, seed)
        assert tuple(len(part.names) for part in parts) == (425, 128, 128)
        for part, size in zip(parts, PAPER_SIZES, strict=True):
            for kind, count in counts.items():
                assert abs(part.kinds.count(kind) - count * size / 681) < 2


def test_every_sound_is_tested_by_some_seed_and_seeds_differ() -> None:
    sounds = of_kinds(["tom"] * 20 + ["snare"] * 3)
    tests = [split_sounds(sounds, PAPER_SIZES, seed).test.names for seed in range(60)]
    assert len(set(tests)) > 50
    assert {name for names in tests for name in names} == set(sounds.names)


def test_shares_count_and_not_numbers() -> None:
    sounds = of_kinds(["tom"] * 40)
    one = split_sounds(sounds, PAPER_SIZES, 3)
    other = split_sounds(sounds, [size / 681 for size in PAPER_SIZES], 3)
    assert [part.names for part in one] == [part.names for part in other]


def test_one_file_alone_loads_and_is_not_split(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", stroke())
    sounds = load_sounds(tmp_path, N, RATE)
    with pytest.raises(ValueError, match=r"^Invalid sounds: 1; expected three or more, .*; add recordings"):
        split_sounds(sounds, PAPER_SIZES, 0)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, math.nan), (1, 1, math.inf)])
def test_bad_sizes(sizes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^Invalid sizes: .*; expected three positive numbers"):
        split_sounds(of_kinds(["tom"] * 5), sizes, 0)


@pytest.mark.parametrize("seed", [-1, 2**20])
def test_bad_seeds(seed: int) -> None:
    with pytest.raises(ValueError, match=r"^Invalid seed: .*; expected 0 to"):
        split_sounds(of_kinds(["tom"] * 5), PAPER_SIZES, seed)


# --- packages ---


def tar_of(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("./a link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


def ar_of(members: dict[str, bytes]) -> bytes:
    """An ar archive, as ar(5) describes it."""
    archive = b"!<arch>\n"
    for name, content in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def deb_of(files: dict[str, bytes], compression: str = "xz") -> bytes:
    data = tar_of(files, f"w:{compression}")
    suffix = f".{compression}" if compression else ""
    return ar_of({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{suffix}": data})


CONTENT = {"usr/a b.wav": b"one" * 5000, "usr/x/two": b"\0" * 9, "usr/empty": b"", "usr/other": b"not wanted"}


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_files_of_a_package(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(deb_of(CONTENT, compression))
    wanted = [name for name in CONTENT if name != "usr/other"]
    assert dict(read_files(path, wanted)) == {name: CONTENT[name] for name in wanted}


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_files_of_a_package_that_dpkg_made(tmp_path: Path) -> None:
    control = tmp_path / "root" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text("Package: a\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.x>\nDescription: x\n")
    for name, content in CONTENT.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    subprocess.run(
        ["dpkg-deb", "-Zxz", "-b", tmp_path / "root", tmp_path / "a.deb"], check=True, capture_output=True
    )
    assert dict(read_files(tmp_path / "a.deb", list(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        b"!<arch>\n",
        b"!<arch>\n" + b"x" * 200,
        ar_of({"debian-binary": b"2.0\n"}),
        ar_of({"debian-binary": b"2.0\n"}).replace(b"4         `", b"four      `"),
        ar_of({"data.tar.xz": b"no tar"}),
        ar_of({"data.tar.zst": b"\x28\xb5\x2f\xfd\0\0\0\0"}),
        deb_of(CONTENT, "xz")[:240],
        deb_of(CONTENT, "gz")[:240],
    ],
)
def test_what_is_no_package(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^Invalid package: .*; expected .*; get (it again|that one)$"):
        list(read_files(path, ["usr/other"]))


def test_a_package_that_lacks_a_file_or_has_a_link_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(deb_of(CONTENT))
    for wanted in ("usr/missing", "a link"):
        with pytest.raises(ValueError, match=rf"lacks {wanted}; expected the version"):
            list(read_files(path, ["usr/other", wanted]))


# --- fetching ---


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Shop:
    """Two small packages in a folder that is laid out as a mirror, and what a manifest says of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = tuple(self.make(name, seed) for seed, name in enumerate(("drums", "more-drums")))
        self.files = [file for package in self.packages for file in package.files]

    def make(self, name: str, seed: int) -> Package:
        contents, files = {"usr/doc/copyright": b"free"}, []
        for kind, kit in (("tom", "Kit 1"), ("snare", "Kit 1"), ("snare", "Kit 2")):
            path = f"usr/share/{kit}/{kind}.wav"
            contents[path] = save(self.root / "x.wav", stroke(seed=len(contents) + 10 * seed)).read_bytes()
            files.append(PackedFile(path, f"{kind}/{name}/{kit}/{kind}.wav", sha(contents[path]), kind))
        files.append(PackedFile("usr/doc/copyright", f"licences/{name}.txt", sha(b"free"), None))
        deb = deb_of(contents)
        pool = f"pool/d/{name}_1~2+3_all.deb"
        (self.root / pool).parent.mkdir(parents=True, exist_ok=True)
        (self.root / pool).write_bytes(deb)
        return Package(name, "1~2+3", pool, len(deb), sha(deb), {}, tuple(files))

    @property
    def debs(self) -> Path:
        return self.root / "pool" / "d"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path / "shop")
    monkeypatch.setattr(fetch, "read_manifest", lambda: shop.packages)
    return shop


def all_files(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return {path.relative_to(folder).as_posix(): sha(path.read_bytes()) for path in paths}


def test_fetched_sounds_have_their_kinds(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fetch.main(["--out", str(out), "--debs", str(shop.debs)]) == 0
    assert all_files(out) == {file.name: file.sha256 for file in shop.files}
    assert not (out / ".packages").exists()
    assert "6 sounds" in capsys.readouterr().out
    sounds = load_sounds(out, N, RATE)
    assert sounds.left_out == ()
    assert sounds.kinds == tuple(name.partition("/")[0] for name in sounds.names)
    assert Counter(sounds.kinds) == {"snare": 4, "tom": 2}
    assert fetch.require_sounds(out) == out


def test_what_is_there_is_not_fetched_again(shop: Shop, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", []

    def source(package: Package, folder: Path) -> Path:
        asked.append(package.name)
        return fetch.get_from_folder(shop.debs)(package, folder)

    fetch.fetch_sounds(out, source, shop.packages)
    fetch.fetch_sounds(out, source, shop.packages)
    assert asked == ["drums", "more-drums"]
    whole = all_files(out)
    times = {name: (out / name).stat().st_mtime_ns for name in whole}
    damaged, lost = (shop.packages[1].files[k].name for k in (0, 2))
    (out / damaged).write_bytes(b"half")
    (out / lost).unlink()
    with pytest.raises(ValueError, match=r"^Invalid data folder: .* \(2 of 8 files .*\); expected .*; run that"):
        fetch.require_sounds(out)
    fetch.fetch_sounds(out, source, shop.packages)
    assert asked == ["drums", "more-drums", "more-drums"]
    assert all_files(out) == whole
    assert {name for name in whole if (out / name).stat().st_mtime_ns != times[name]} == {damaged, lost}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_after_an_interruption_the_same_command_goes_on(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    out, n_written = tmp_path / "out", 0
    write = fetch.write_atomically

    def interrupted(path: Path, fill: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 6:
            raise error("stop")
        write(path, fill)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fetch, "write_atomically", interrupted)
    arguments = ["--out", str(out), "--debs", str(shop.debs)]
    assert fetch.main(arguments) == (130 if error is KeyboardInterrupt else 2)
    expected = {file.name: file.sha256 for file in shop.files}
    there = all_files(out)
    assert len(there) == 5
    assert there.items() <= expected.items()
    assert fetch.main(arguments) == 0
    assert all_files(out) == expected


def test_a_package_that_waits_is_kept_over_an_interruption(shop: Shop, tmp_path: Path) -> None:
    """A package whose first files were written is not downloaded again."""
    out, n_asked = tmp_path / "out", 0

    def source(package: Package, folder: Path) -> Path:
        nonlocal n_asked
        path = folder / Path(package.pool).name
        if not path.exists():
            n_asked += 1
            shutil.copy(shop.root / package.pool, path)
        return path

    bad = shop.packages[0].files[1]._replace(sha256="0" * 64)
    wrong = shop.packages[0]._replace(files=(shop.packages[0].files[0], bad))
    with pytest.raises(ValueError, match=r"^Invalid usr/share/.*: its SHA-256 is .*; expected 0000"):
        fetch.fetch_sounds(out, source, [wrong])
    assert len(list((out / ".packages").iterdir())) == 1
    fetch.fetch_sounds(out, source, [shop.packages[0]])
    assert n_asked == 1
    assert not (out / ".packages").exists()


def test_another_package_than_that_of_the_manifest_is_not_unpacked(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop.root / shop.packages[0].pool).write_bytes(
        deb_of({file.path: b"evil" for file in shop.packages[0].files})
    )
    out = tmp_path / "new" / "out"
    assert fetch.main(["--out", str(out), "--debs", str(shop.debs)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "another checksum); expected drums_1~2+3_all.deb; download it" in message
    assert not out.parent.exists()


def test_a_source_is_not_trusted(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "other.deb"
    path.write_bytes(deb_of({file.path: b"evil" for file in shop.packages[0].files}))
    with pytest.raises(ValueError, match=r"^Invalid package: .*other.deb has the SHA-256 .*; expected .*; try"):
        fetch.fetch_sounds(tmp_path / "out", lambda package, folder: path, shop.packages)
    assert path.exists()
    assert not all_files(tmp_path / "out")


@pytest.fixture
def mirror(shop: Shop) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=shop.root))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_mirror(shop: Shop, mirror: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert fetch.main(["--out", str(out), "--mirror", f"{mirror}/"]) == 0
    assert all_files(out) == {file.name: file.sha256 for file in shop.files}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "404"),
        ("longer", "more than the"),
        ("shorter", "less than the"),
        ("other", "has the SHA-256"),
    ],
)
def test_a_mirror_that_has_moved_on(
    shop: Shop, mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    path, out = shop.root / shop.packages[1].pool, tmp_path / "out"
    content = path.read_bytes()
    path.unlink()
    changed = {"longer": content + b"x", "shorter": content[:-1], "other": content[:-1] + b"x"}
    if change in changed:
        path.write_bytes(changed[change])
    assert fetch.main(["--out", str(out), "--mirror", mirror]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert "; expected " in message
    assert all_files(out) == {file.name: file.sha256 for file in shop.packages[0].files}
    path.write_bytes(content)
    assert fetch.main(["--out", str(out), "--mirror", mirror]) == 0
    assert all_files(out) == {file.name: file.sha256 for file in shop.files}


def test_a_mirror_that_does_not_answer(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fetch.main(["--out", str(out), "--mirror", "http://127.0.0.1:9"]) == 2
    assert "error: Invalid mirror: http://127.0.0.1:9/pool/d/drums_1~2%2B3_all.deb" in capsys.readouterr().err
    assert not out.exists()


def fake_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_apt(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'echo "$@" >> {tmp_path}/calls; cp {shop.debs}/$(echo $2 | cut -d= -f1)_*.deb .'
    fake_apt(tmp_path / "bin", monkeypatch, script)
    assert fetch.main(["--out", str(tmp_path / "out")]) == 0
    assert all_files(tmp_path / "out") == {file.name: file.sha256 for file in shop.files}
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["download drums=1~2+3", "download more-drums=1~2+3"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'E: Version is not there' >&2; exit 100", "E: Version is not there"),
        ("echo x > drums_1~2+3_all.deb", "another checksum"),
        ("exit 0", "another checksum"),
    ],
)
def test_apt_without_the_version(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    said: str,
) -> None:
    fake_apt(tmp_path / "bin", monkeypatch, script)
    assert fetch.main(["--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert f"apt-get download drums=1~2+3 ({said}); expected version 1~2+3; run apt-get update first" in message
    assert "--debs" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_apt(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch.main(["--out", str(tmp_path / "out")]) == 2
    assert "--mirror URL, or a folder of the packages with --debs FOLDER" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", str(Path(fetch.__file__).parent / "sounds")],
        ["--out", "{tmp}/a file"],
        ["--out", "{tmp}/out", "--debs", "{tmp}/missing"],
        ["--out", "{tmp}/out", "--mirror", "somewhere"],
        ["--out", "{tmp}/out", "--mirror", "file:///etc"],
    ],
)
def test_bad_options(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    (tmp_path / "a file").write_text("x")
    before = all_files(tmp_path)
    assert fetch.main([part.replace("{tmp}", str(tmp_path)) for part in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert all_files(tmp_path) == before
    assert not (Path(fetch.__file__).parent / "sounds").exists()


# --- the manifest ---


def test_manifest() -> None:
    packages = read_manifest()
    assert [package.name for package in packages] == [
        "hydrogen-data",
        "hydrogen-drumkits",
        "sonic-pi-samples",
        "lmms-common",
    ]
    files = [file for package in packages for file in package.files]
    assert len({file.name.lower() for file in files}) == len(files)  # for disks that do not tell A from a
    assert len({file.sha256 for file in files}) == len(files)
    for file in files:
        for path in (file.path, file.name):
            assert not path.startswith("/")
            assert not {"", ".", ".."} & set(path.split("/"))
            assert path.isprintable()
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.name.partition("/")[0] == (file.kind or "licences")
    assert Counter(file.kind for file in files) == {
        "bass drum": 88,
        "snare": 111,
        "tom": 95,
        "hi-hat": 127,
        None: 4,
    }
    for package in packages:
        assert Path(package.pool).name == f"{package.name}_{package.version}_all.deb"
        assert len(bytes.fromhex(package.sha256)) == 32
        assert package.n_bytes > 1e6
        folders = {file.path.rpartition("/")[0] for file in package.files if file.kind}
        assert folders == set(package.licences)


def test_manifest_quotes_a_licence_for_each_kit() -> None:
    content = json.loads(MANIFEST.read_text(encoding="utf-8"))
    kits = [kit for package in content["packages"] for kit in package["kits"]]
    free = ("GPL-2", "CC0", "CC-BY-3.0", "CC-BY-SA-3.0")
    assert all(kit["licence"].startswith(free) and kit["words"] and kit["copyright"] for kit in kits)
    assert all(entry["what"] and entry["why"] for entry in content["left_out"])


@pytest.mark.study
def test_manifest_and_the_packages_of_debian(tmp_path: Path) -> None:
    """Needs Debian's packages, and a release that has these versions."""
    packages = read_manifest()
    try:
        fetch.fetch_sounds(tmp_path, fetch.get_by_apt, packages)
    except ValueError as error:
        pytest.skip(str(error))
    sounds = load_sounds(tmp_path, 44100, 44100)
    assert sounds.left_out == ()
    assert len(sounds.names) == 421
    assert all(kind == name.partition("/")[0] for kind, name in zip(sounds.kinds, sounds.names, strict=True))
    # No sound is another at a different level, which would begin at the same sample: one recording in two sets.
    unit = sounds.audio / sounds.audio.norm(dim=1, keepdim=True)
    assert float((unit @ unit.T).abs().fill_diagonal_(0).max()) < 0.999
