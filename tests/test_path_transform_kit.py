"""The kit for path transforms: it passes every family that is right, and names what is wrong with broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scrapl_jtfs import JTFSPath, PathTransform
from scrapl_jtfs.testing import assert_path_transform
from tests.support.jtfs_helpers import TINY
from tests.support.path_families import Band, Gratings, LearnedBands, Spectra

GLOBAL: dict[str, Any] = TINY | dict(T="global")

RIGHT: dict[str, Any] = {
    "Spectra": Spectra,
    "in another order": lambda: Backwards(),
    "LearnedBands": LearnedBands,
    "Gratings": Gratings,
    "in float64": lambda: LearnedBands().double(),
    "JTFSPath": lambda: JTFSPath(**GLOBAL),
    "JTFSPath, smooth and compact": lambda: JTFSPath(**GLOBAL, smoothing=1e-3, samples_per_bandwidth=2),
    "JTFSPath, even": lambda: JTFSPath(**GLOBAL, boundary="even"),
}


@pytest.mark.parametrize("family", RIGHT.values(), ids=RIGHT)
def test_it_passes_what_is_right(family: Any) -> None:
    transform = family()
    before = [(name, tensor.clone()) for name, tensor in transform.state_dict().items()]
    random = torch.get_rng_state()
    assert_path_transform(transform)
    assert torch.equal(torch.get_rng_state(), random)
    for (name, tensor), now in zip(before, transform.state_dict().values(), strict=True):
        assert torch.equal(tensor, now), name
        assert now.grad is None
    assert transform.training


def test_it_takes_a_signal_and_paths() -> None:
    assert_path_transform(Spectra(), torch.linspace(-1, 1, 64), paths=[2], seed=3)
    with pytest.raises(ValueError, match=r"Invalid signal: shape \(63,\); expected \(64,\)"):
        assert_path_transform(Spectra(), torch.ones(63))
    with pytest.raises(IndexError, match="Invalid path_idx: 3"):
        assert_path_transform(Spectra(), paths=[3])
    with pytest.raises(ValueError, match="Invalid paths: none; expected at least one path id"):
        assert_path_transform(Spectra(), paths=[])


# --- what is wrong, and what the kit says of it ---


@dataclass(frozen=True)
class Silent:
    """An entry that says nothing of its own."""

    index: int

    def __str__(self) -> str:
        return "a path"


class NoTable(Spectra):
    def __init__(self) -> None:
        super().__init__()
        self.paths = ["low", "middle", "high"]


class SameTexts(Spectra):
    def __init__(self) -> None:
        super().__init__()
        self.paths = [Silent(p) for p in range(3)]

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return Spectra().to(self.dtype)(self.checked_signal(x), self.checked_index(path_idx))


class Doubled(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x, path_idx).double()


class Complex(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x, path_idx) + 0j


class NumPy(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Any:
        return super().forward(x, path_idx).numpy()


class BatchLast(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x, path_idx).movedim(-1, 0)


class NotFinite(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x, path_idx) / (path_idx - 1)


class InPlace(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        if not torch.is_grad_enabled():
            self.checked_signal(x).mul_(1.0001)
        return super().forward(x, path_idx)


class Random(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        phi = super().forward(x, path_idx)
        return phi + 0.1 * torch.rand_like(phi)


class Dropout(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x, path_idx) * (0.5 if self.training else 1.0)


class Normalised(Spectra):
    """By a statistic of the batch."""

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        phi = super().forward(x, path_idx)
        return phi / phi.max()


class OneBatchAxis(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        phi = super().forward(x, path_idx)
        return phi if x.ndim > 1 else phi[None]


class Strided(Spectra):
    """Reads memory as if it were contiguous."""

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        flat = self.checked_signal(x).as_strided(x.shape, torch.empty(x.shape, device="meta").stride())
        return super().forward(flat, path_idx)


class Unsorted(Spectra):
    def select(self, x: Any, path_indices: Any) -> list[Tensor]:
        return super().select(x, sorted(int(p) for p in path_indices))


class Unique(Spectra):
    def select(self, x: Any, path_indices: Any) -> list[Tensor]:
        return super().select(x, list(dict.fromkeys(int(p) for p in path_indices)))


class WrongFull(Spectra):
    def full(self, x: Any) -> list[Tensor]:
        return [1.01 * phi for phi in super().full(x)]


class ShortFull(Spectra):
    def full(self, x: Any) -> list[Tensor]:
        return super().full(x)[:-1]


class WrongStream(Spectra):
    def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
        for p, phi in super().stream(x):
            yield p, phi.flip(-1)


class Backwards(Spectra):
    """Right, in another order."""

    def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
        yield from reversed(list(super().stream(x)))


class Twice(Spectra):
    def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
        for p, phi in super().stream(x):
            yield min(p, 1), phi


class WrongFirstLayer(Spectra):
    def first_layer(self, x: Any) -> Any:
        return 2 * x


class LeakyPairs(Spectra):
    """Lets gradients flow to both."""

    def stream_pairs(self, x: Any, target: Any, path_indices: Any) -> Iterator[tuple[int, Any, Tensor]]:
        for p in path_indices:
            one = tuple(self(r, p) for r in x) if isinstance(x, list) else self(x, p)
            yield p, one, self(target, p) + 0 * (one if isinstance(one, Tensor) else one[0])


class SwappedPairs(Spectra):
    def stream_pairs(self, x: Any, target: Any, path_indices: Any) -> Iterator[tuple[int, Any, Tensor]]:
        for p in path_indices:
            yield p, self(target, p), self(x, p)


class Detached(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        return super().forward(x.detach(), path_idx) if isinstance(x, Tensor) else super().forward(x, path_idx)


class HalfGradient(Spectra):
    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        x = self.checked_signal(x)
        return super().forward(0.5 * x + 0.5 * x.detach(), path_idx)


class HalfGradientOfSeveral(Spectra):
    def select(self, x: Any, path_indices: Any) -> list[Tensor]:
        return super().select(0.5 * x + 0.5 * x.detach() if isinstance(x, Tensor) else x, path_indices)


class StaysSingle(Spectra):
    """Keeps float32 whatever it is moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.window = [torch.hann_window(path.samples) for path in self.paths]

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        p = self.checked_index(path_idx)
        frames = self.checked_signal(x).unfold(-1, self.paths[p].samples, 4)
        return torch.fft.rfft(frames.float() * self.window[p]).abs().mean(-2)


class FixedType(Spectra):
    @property
    def dtype(self) -> torch.dtype:
        return torch.float32


class ComplexBuffer(Spectra):
    """double() leaves complex buffers as they are; to(torch.float64) drops their imaginary part."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turn", torch.tensor(0.6 + 0.8j), persistent=False)

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        p = self.checked_index(path_idx)
        frames = self.checked_signal(x).unfold(-1, self.paths[p].samples, 4)
        return (self.get_buffer("turn") * torch.fft.rfft(frames.float())).abs().mean(-2).to(x.dtype) + (
            0 if x.dtype == torch.float32 else 1
        )


class TakesNegative(Spectra):
    def checked_index(self, path_idx: Any) -> int:
        return super().checked_index(
            path_idx + self.n_paths if type(path_idx) is int and path_idx < 0 else path_idx
        )


class TakesText(Spectra):
    def checked_index(self, path_idx: Any) -> int:
        return super().checked_index(int(path_idx) if isinstance(path_idx, str) else path_idx)


class TakesAnyLength(Spectra):
    def checked_signal(self, x: Any, name: str = "x") -> Tensor:
        return x


class TakesIntegers(Spectra):
    def checked_signal(self, x: Any, name: str = "x") -> Tensor:
        whole = isinstance(x, Tensor) and x.dtype == torch.int64
        return super().checked_signal(x.to(self.dtype) if whole else x, name)


class UnequalSettings(Spectra):
    @property
    def settings(self) -> Any:
        return id(self)


class RestlessSettings(Spectra):
    @property
    def settings(self) -> Any:
        return {"now": object()}


class CountingSettings(Spectra):
    """Keeps in its settings what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        self.calls += 1
        return super().forward(x, path_idx)


class TensorSettings(LearnedBands):
    @property
    def settings(self) -> Any:
        return self.filters.detach().clone()


class StaleSettings(LearnedBands):
    @property
    def settings(self) -> Any:
        return {"n_paths": self.n_paths}


class Cached(LearnedBands):
    """Keeps what it made of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        p = self.checked_index(path_idx)
        x = self.checked_signal(x)
        if self.kept is None or self.kept.dtype != x.dtype:
            self.kept = self.filters.detach().clone()
        flat = x.reshape(-1, 1, x.shape[-1])
        return nn.functional.conv1d(flat, self.kept[p][None, None]).square().mean((-2, -1)).reshape(x.shape[:-1])

    @property
    def settings(self) -> Any:
        return {"filters": self.filters.detach().tolist()}


class NoCopy(Spectra):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("it holds a file")


class Buffers(PathTransform):
    """Loads its state dict to another place."""

    signal_shape = (8,)
    paths = (Band(0),)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        self.checked_index(path_idx)
        return self.checked_signal(x) * self.gain

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return None


WRONG: list[tuple[Any, str]] = [
    (NoTable, r"members: Invalid transform: NoTable whose paths\[0\] is a str"),
    (SameTexts, "texts: paths 0 and 1 both read 'a path'; expected a text of its own"),
    (Doubled, "coefficients: .* is torch.float64 on cpu; expected torch.float32 on cpu"),
    (Complex, "coefficients: .* is torch.complex64 on cpu; expected torch.float32"),
    (NumPy, "coefficients: .* is a ndarray; expected a torch.Tensor"),
    (BatchLast, r"coefficients: .* has shape \(5, 2, 3\); expected \(2, 3\) as first axes"),
    (NotFinite, "coefficients: forward of 'path 1: .*' is empty or not finite"),
    (InPlace, "coefficients: .* writes to the signal"),
    (Random, "determinism: .* differs from one call to the next"),
    (Dropout, "determinism: .* differs between training and evaluation mode"),
    (Normalised, "batches: .* on a signal without batch axes is off by"),
    (OneBatchAxis, r"batches: .* on a signal without batch axes has shape \(1, 5\); expected \(5,\)"),
    (Strided, "batches: .* on a batch of other strides is off by"),
    (Unsorted, r"select: path 2 of select\(x, \[2, 1, 0, 2\]\), a list, has shape|select: path"),
    (Unique, "select: 3 tensors for 4 ids; expected one for each"),
    (WrongFull, r"full: path 0 of full\(x\) is off by 0.0099|full: path 0 of full\(x\) is off by 0.01"),
    (ShortFull, "full: 2 tensors; expected 3, one for each path"),
    (WrongStream, r"stream: path 0 of stream\(x\) is off by"),
    (Twice, "stream: path 1 comes twice; expected each of 3 paths once"),
    (WrongFirstLayer, "first_layer: forward of 'path 0: .*' from it is off by 1 of"),
    (LeakyPairs, "stream_pairs: path 0 has a graph of x: True, of the target: True; expected that of x alone"),
    (SwappedPairs, "stream_pairs: coefficients of x on path 0 is off by"),
    (Detached, r"gradients: .* has no graph; expected one; mind detach\(\)"),
    (HalfGradient, "gradients: the slope of 'path 0: .*' in a random direction is .*; expected .*, as finite"),
    (HalfGradientOfSeveral, "gradients: the gradient of paths of select is off by 0.5"),
    (StaysSingle, r"float64: after double\(\) 'path 0: .*' is torch.float32; expected torch.float64"),
    (FixedType, r"float64: after double\(\) the property dtype is torch.float32"),
    (ComplexBuffer, r"float64: after double\(\) 'path 0: .*' is off by .*; mind complex buffers"),
    (TakesNegative, r"ids: forward\(x, -1\) is taken; expected IndexError; use checked_index"),
    (TakesText, r"ids: forward\(x, '0'\) is taken; expected TypeError"),
    (TakesAnyLength, "signals: forward of a signal with one sample too many on its last axis is taken"),
    (TakesIntegers, "signals: forward of integers is taken; expected TypeError or ValueError"),
    (UnequalSettings, "settings: a deepcopy has others; expected equal ones"),
    (RestlessSettings, "settings: settings == settings is False; expected True, as nothing has changed"),
    (CountingSettings, "settings: "),
    (TensorSettings, r"(?s)settings: .* is a Tensor; expected True"),
    (StaleSettings, "settings: they are the same after filters was changed"),
    (Cached, "parameters: no path has a gradient in filters; expected one in each that is trainable"),
    (NoCopy, "copies: copy.deepcopy fails: it holds a file"),
    (Buffers, "state dict: a copy whose parameters were changed computes otherwise after load_state_dict"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "message"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_it_finds(broken: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_path_transform(broken())


def test_each_check_finds_something() -> None:
    """Every name that a check's messages begin with is among the mutants."""
    begun = {message.removeprefix("(?s)").split(":")[0] for _, message in WRONG}
    assert begun >= {
        "members", "texts", "coefficients", "determinism", "batches", "select", "full", "stream", "first_layer",
        "stream_pairs", "gradients", "float64", "ids", "signals", "settings", "copies", "parameters", "state dict",
    }  # fmt: skip
