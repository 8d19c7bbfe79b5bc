"""The contenders behind one interface, and the work of a case on any of them.

scrapl-loss and the kymatio it carries are imported by name, late: they live in a virtual environment of their own,
and putting that kymatio on the path of ours would hide the released one.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.cases import Case, Settings

OURS: dict[str, dict[str, Any]] = {
    "exact": {},
    "compact": {"samples_per_bandwidth": 2},
    "compact-3": {"samples_per_bandwidth": 3},
    "even": {"boundary": "even"},
    "even-compact": {"boundary": "even", "samples_per_bandwidth": 2},
}
# Nobody else has the even boundary: its answers are compared with the literal transform's, which is not timed.
LITERAL = "even-literal"
CONTENDERS = (*OURS, "scrapl-loss", "mss", "kymatio", LITERAL)
WITHOUT_PATHS = ("mss", "kymatio")

_SEED = 20260101
_STREAMS = ("signal", "target", "direction")


class Contender:
    """A loss between signals (batch, n_samples).

    Attributes:
        paths: (n2, n_fr) of each path, none where there are no paths.
    """

    paths: Sequence[tuple[int, int]] = ()

    def loss(self, x: Tensor, target: Tensor, paths: Sequence[int]) -> Tensor:
        """Compute it as its users do; the target is not differentiated."""
        raise NotImplementedError(f"{type(self).__name__} is timed on the whole tree only")

    def coefficients(self, x: Tensor, path: int) -> Tensor:
        """Compute (batch, rows, frames) of one path without what padding added."""
        raise NotImplementedError(f"{type(self).__name__} has no single paths")

    def tree(self, x: Tensor) -> dict[str, Tensor]:
        """Compute every coefficient by "n2_nfr" (order 2), or whatever name it has."""
        raise NotImplementedError(f"{type(self).__name__} has no tree")


class Ours(Contender):
    """scrapl_jtfs, with kymatio's boundary or the even one, at kymatio's rates or compact.

    The whole tree includes order 1, since kymatio computes it too.
    """

    def __init__(self, settings: Settings, device: torch.device, whole: bool, **options: Any) -> None:
        from scrapl_jtfs import JTFSPath, JTFSPathLoss

        s = settings
        orders = (1, 2) if whole else (2,)
        with warnings.catch_warnings():
            # Of averages that hear the reflection of shorter signals: time counts here, and settings stay.
            warnings.filterwarnings("ignore", "T = .* is more than an eighth", UserWarning)
            jtfs = JTFSPath(s.n_samples, s.J, s.Q, s.J_fr, s.Q_fr, s.T, s.F, orders=orders, **options)
        self.jtfs = jtfs.to(device)
        self.distance = JTFSPathLoss(self.jtfs)
        self.keys = [f"{p.n_fr}" if p.order == 1 else f"{p.n2}_{p.n_fr}" for p in self.jtfs.paths]
        self.paths = [(p.n2 or 0, p.n_fr) for p in self.jtfs.paths if p.order == 2]

    def loss(self, x: Tensor, target: Tensor, paths: Sequence[int]) -> Tensor:
        return self.distance(x, target, paths[0] if len(paths) == 1 else list(paths))

    def coefficients(self, x: Tensor, path: int) -> Tensor:
        return self.jtfs(x, path)

    def tree(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.keys, self.jtfs.full(x), strict=True))


class Literal(Contender):
    """The even boundary as scrapl_jtfs.reference writes it, in float64 whatever the signal's precision."""

    def __init__(self, settings: Settings, whole: bool) -> None:
        from scrapl_jtfs.reference import ReferenceJTFS

        s = settings
        orders = (1, 2) if whole else (2,)
        self.jtfs = ReferenceJTFS(s.n_samples, s.J, s.Q, s.J_fr, s.Q_fr, s.T, s.F, orders, "even")
        self.paths = [(n2, n_fr) for n2, n_fr in self.jtfs.paths if n2 is not None]

    def coefficients(self, x: Tensor, path: int) -> Tensor:
        return self.jtfs(x.double(), path)

    def tree(self, x: Tensor) -> dict[str, Tensor]:
        keys = [f"{n_fr}" if n2 is None else f"{n2}_{n_fr}" for n2, n_fr in self.jtfs.paths]
        return {key: self.jtfs(x.double(), p) for p, key in enumerate(keys)}


class ScraplLoss(Contender):
    """The authors' package: 2-norm over coefficients that still have their padding."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        scrapl: Any = importlib.import_module("scrapl")
        logging.getLogger("scrapl").setLevel(logging.WARNING)
        logging.getLogger("scrapl.scrapl_loss").setLevel(logging.WARNING)
        s = settings
        self.distance = scrapl.SCRAPLLoss(
            shape=s.n_samples, J=s.J, Q1=s.Q[0], Q2=s.Q[1], J_fr=s.J_fr, Q_fr=s.Q_fr, T=s.T, F=s.F
        ).to(device)
        self.paths = [(int(n2), int(n_fr)) for n2, n_fr in self.distance.scrapl_keys]

    def loss(self, x: Tensor, target: Tensor, paths: Sequence[int]) -> Tensor:
        # It has no bundles: what its users would do is add.
        losses = [self.distance(x[:, None], target[:, None], path_idx=path) for path in paths]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def coefficients(self, x: Tensor, path: int) -> Tensor:
        return unpadded(self.distance, x, path)


def unpadded(loss: Any, x: Tensor, path: int) -> Tensor:
    """Return SCRAPLLoss's coefficients at the rows and frames that are of the sound, not of its reflections."""
    jtfs = loss.jtfs
    found = jtfs.scattering_singlepath(x[:, None], *(int(n) for n in loss.scrapl_keys[path]))
    rows = -(-int(found["n1_max"]) // int(found["n1_stride"]))
    frames = slice(jtfs.ind_start[jtfs.log2_stride], jtfs.ind_end[jtfs.log2_stride])
    return found["coef"].squeeze(-1).reshape(len(x), *found["coef"].shape[-3:-1])[:, :rows, frames]


class Kymatio(Contender):
    """The full transform of the kymatio that scrapl-loss carries (0.3 on the package index lacks it)."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        importlib.import_module("scrapl")  # puts its kymatio on the path
        # Not from kymatio.torch: that loads the 3D transform too, which needs functions scipy has since dropped.
        kymatio: Any = importlib.import_module("kymatio.scattering1d.frontend.torch_frontend")
        s = settings
        self.jtfs = kymatio.TimeFrequencyScatteringTorch(
            shape=s.n_samples,
            J=s.J,
            Q=s.Q,
            J_fr=s.J_fr,
            Q_fr=s.Q_fr,
            T=s.T,
            F=s.F,
            format="joint",
            out_type="list",
        ).to(device)

    def tree(self, x: Tensor) -> dict[str, Tensor]:
        found = self.jtfs(x)
        return {
            "_".join(str(int(n)) for n in entry["n"] if n >= 0) if entry["order"] else "order 0": entry["coef"]
            for entry in found
        }


class Spectrograms(Contender):
    """auraloss's multi-resolution STFT loss, log + linear, as the sound-matching benchmark trains with it."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        auraloss: Any = importlib.import_module("auraloss.freq")
        sizes = list(settings.fft_sizes)
        self.distance = auraloss.MultiResolutionSTFTLoss(
            sizes, [size // 4 for size in sizes], sizes, w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0
        ).to(device)

    def loss(self, x: Tensor, target: Tensor, paths: Sequence[int]) -> Tensor:
        return self.distance(x[:, None], target[:, None])


def build(name: str, settings: Settings, device: torch.device, *, whole: bool = False) -> Contender:
    """Build a contender.

    Args:
        name: one of `CONTENDERS`.
        settings: of the transform.
        device: where its constants go.
        whole: for kind "tree".

    Raises:
        ImportError: its package is not installed.
        ValueError: an unknown name.
    """
    if name in OURS:
        return Ours(settings, device, whole, **OURS[name])
    if name == LITERAL:
        return Literal(settings, whole)
    makers: dict[str, Callable[[Settings, torch.device], Contender]] = {
        "scrapl-loss": ScraplLoss,
        "mss": Spectrograms,
        "kymatio": Kymatio,
    }
    if name not in makers:
        raise ValueError(f"unknown contender {name!r}: choose among {', '.join(CONTENDERS)}")
    return makers[name](settings, device)


def noise(stream: str, batch: int, n_samples: int, device: torch.device) -> Tensor:
    """White noise (batch, n_samples) of unit variance, the same in every process (NumPy's PCG64)."""
    generator = np.random.default_rng([_SEED, _STREAMS.index(stream), n_samples])
    return torch.from_numpy(generator.standard_normal((batch, n_samples), dtype=np.float32)).to(device)


def work(contender: Contender, case: Case, device: torch.device) -> Callable[[], Tensor]:
    """The work of a case as a function without arguments; what it returns is the loss, gradient or product."""
    shape = case.batch, case.settings.n_samples
    x = noise("signal", *shape, device).requires_grad_(case.kind != "forward")
    target, direction = noise("target", *shape, device), noise("direction", *shape, device)

    def gradient(loss: Tensor) -> Tensor:
        x.grad = None
        loss.backward()
        return loss.detach() if x.grad is None else x.grad

    def step() -> Tensor:
        return gradient(contender.loss(x, target, case.paths))

    def forward() -> Tensor:
        with torch.no_grad():
            return contender.loss(x, target, case.paths)

    def hvp() -> Tensor:
        (first,) = torch.autograd.grad(contender.loss(x, target, case.paths), x, create_graph=True)
        return torch.autograd.grad((first * direction).sum(), x)[0]

    def tree() -> Tensor:
        return gradient(torch.stack([s.square().sum() for s in contender.tree(x).values()]).sum())

    return {"step": step, "forward": forward, "hvp": hvp, "tree": tree}[case.kind]
