"""Both sides' curvatures of the paths of a problem, with what each took."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.importance.problem import Batch, Scale, make_batches, make_encoder, make_synth
from benchmarks.speed.contenders import unpadded
from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor
from scrapl_optim import Arnoldi, Progress, SharedSubspace, theta_importance
from scrapl_optim._importance.encoder import EncoderDerivatives, Example

OURS, EVEN, PEER = CONTENDERS = ("ours", "ours-even", "scrapl-loss")
TRANSFORMS: dict[str, dict[str, Any]] = {OURS: {}, EVEN: {"boundary": "even"}}


@dataclass(frozen=True)
class Values:
    """Values of some paths.

    Attributes:
        curvature: C of each path and control.
        residual: relative residual of each, None where the method has none.
        n_products: products with the matrix that each took by itself.
        stages: processor seconds until a stage of theta_importance was last met, None for scrapl-loss.
    """

    curvature: list[list[float]]
    residual: list[list[float]] | None
    n_products: list[list[int]]
    stages: dict[str, float] | None = None


class Ours:
    """theta_importance on a problem.

    Args:
        scale: the problem.
        spectrogram: of its audio.
        squared: the paper's squared distance times P, or scrapl-loss's norm.
        transform: further options of the transform, none for the exact one.
        size: examples in a batch, None for all.
        rounded: whether the filters are rounded to float32, as scrapl-loss's are in float64 too.
    """

    def __init__(
        self,
        scale: Scale,
        spectrogram: Tensor,
        *,
        squared: bool = False,
        transform: dict[str, Any] | None = None,
        size: int | None = None,
        rounded: bool = False,
    ) -> None:
        self.encoder, self.batches = make_encoder(scale), make_batches(scale, spectrogram, size=size)
        self.synth = make_synth(scale)
        self.jtfs = JTFSPath(
            scale.n_samples, **scale.transform, sample_rate=scale.sample_rate, **(transform or {})
        ).double()
        if rounded:
            for buffer in self.jtfs.buffers():
                buffer.copy_(buffer.to(torch.float32))
        self.loss = JTFSPathLoss(self.jtfs, squared=squared, path_scale=squared, log1p_eps=scale.log1p_eps)
        self.n_paths = self.jtfs.n_paths
        self._targets = {batch.first: self.loss.prepare(batch.audio) for batch in self.batches}

    def path_loss(self, sound: Tensor, batch: Batch, path: int) -> Tensor:
        return self.loss(sound, self._targets[batch.first], path)

    def values(
        self,
        paths: Sequence[int],
        *,
        together: bool = True,
        tolerance: float = 1e-3,
        check: bool = True,
        taylor: bool = True,
    ) -> Values:
        """C of some paths.

        Args:
            paths: path ids.
            together: in a subspace that they share, or each by itself.
            tolerance: relative residual to stop at.
            check: whether to look for faults first.
            taylor: whether s and H are from Taylor series, or from double backward passes.
        """
        if together:
            n_examples = sum(len(batch.shift) for batch in self.batches)
            method: Any = SharedSubspace(tolerance, split_batch=_examples, max_graphs=n_examples)
        else:
            method = Arnoldi(tolerance, max_graphs=len(self.batches))
        options = {"method": method, "derivatives": self.derivatives if taylor else None, "check": check}
        return _importance(self, self.path_loss, self.n_paths, paths, options)

    def derivatives(
        self, theta: Tensor, batch: Batch, paths: Sequence[int]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Path, s and H of each path on a batch."""
        target = self._targets[batch.first]
        taylor = PathTaylor(self.loss, lambda t: self.synth(t, batch.shift), theta, target, paths)
        yield from taylor.iter_derivatives(paths)

    def pieces(self, paths: Sequence[int], n_products: int) -> dict[str, Any]:
        """Seconds of the first layer's Taylor series, of s and H of each path, of products of single examples."""
        batch = self.batches[0]
        with torch.no_grad():
            theta = self.encoder(batch.spectrogram).double()
        started = time.perf_counter()
        taylor = PathTaylor(
            self.loss, lambda t: self.synth(t, batch.shift), theta, self._targets[batch.first], list(paths)
        )
        once = time.perf_counter() - started
        derivatives = []
        for path in paths:
            started = time.perf_counter()
            taylor.derivatives(path)
            derivatives.append(time.perf_counter() - started)
        encoder = EncoderDerivatives(self._encode, list(self.encoder.parameters()), 1)
        example = Example(_examples(batch)[0], 0)
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(encoder.n_weights, generator=generator, dtype=torch.float64).to(encoder.dtype)
        seconds = []
        for _ in range(n_products + 1):  # the first builds the graph
            started = time.perf_counter()
            vector = encoder.hessian_product(example, 0, vector / vector.norm())
            seconds.append(time.perf_counter() - started)
        return {"examples": len(theta), "once": once, "derivatives": derivatives, "products": seconds[1:]}

    def _encode(self, batch: Batch) -> Tensor:
        return self.encoder(batch.spectrogram)


def _examples(batch: Batch) -> list[Batch]:
    """Batches of one example each."""
    cut = [slice(b, b + 1) for b in range(len(batch.shift))]
    return [Batch(batch.spectrogram[b], batch.audio[b], batch.shift[b], batch.first + b.start) for b in cut]


class Peer:
    """SCRAPLLoss.calc_theta_eigs on a problem.

    Args:
        scale: the problem.
        spectrogram: of its audio.
        size: take the first so many examples alone, None for all.
    """

    def __init__(self, scale: Scale, spectrogram: Tensor, *, size: int | None = None) -> None:
        # scrapl-loss is not installed where the tests and the conductor run
        from scrapl import SCRAPLLoss  # pyright: ignore[reportMissingImports]

        self.dtype = torch.float64 if scale.double else torch.float32
        torch.set_default_dtype(self.dtype)  # its start vectors have the default type
        self.encoder = make_encoder(scale, written_out=True)
        self.batch = make_batches(scale, spectrogram, size=size)[0]
        self._synth, self.params = make_synth(scale), list(self.encoder.parameters())
        settings = {k: v for k, v in scale.transform.items() if k != "Q"}
        log = {} if scale.log1p_eps is None else {"use_rho_log1p": True, "log1p_eps": scale.log1p_eps}
        self.loss = SCRAPLLoss(
            shape=scale.n_samples, Q1=scale.Q[0], Q2=scale.Q[1], n_theta=scale.n_controls, **settings, **log
        ).to(self.dtype)
        self.n_paths: int = self.loss.n_paths
        self._seconds: list[float] = []
        self._counts: list[int] = []
        self._watch()

    def _watch(self) -> None:
        """Time each product with the matrix, as few tell what many cost, and count those of each value."""
        product, search = self.loss._calc_param_hvp, self.loss._calc_largest_eig

        def timed(*arguments: Any, **options: Any) -> Tensor:
            started = time.perf_counter()
            found = product(*arguments, **options)
            self._seconds.append(time.perf_counter() - started)
            return found

        def counted(*arguments: Any, **options: Any) -> Tensor:
            before = len(self._seconds)
            found = search(*arguments, **options)
            self._counts.append(len(self._seconds) - before)
            return found

        self.loss._calc_param_hvp, self.loss._calc_largest_eig = timed, counted

    def encode(self, x: Tensor) -> Tensor:
        """Its encoder must take the audio; the spectrogram of this audio is known."""
        return self.encoder(self.batch.spectrogram)

    def render(self, theta: Tensor) -> Tensor:
        """Sounds (B, 1, N)."""
        return self._synth(theta, self.batch.shift).to(self.dtype)[:, None]

    def values(self, paths: Sequence[int], n_iter: int = 20) -> Values:
        """C of some paths by its power iterations from a seeded start."""
        curvature, counts = [], []
        for path in paths:
            curvature.append(self._eigenvalues(path, n_iter))
            counts.append(list(self._counts))
        return Values(curvature, None, counts)

    def pieces(self, paths: Sequence[int], n_products: int) -> dict[str, Any]:
        """Seconds of everything before the products of one path, and of some products of its first control.

        A product goes back through the gradients of all controls, as these were taken under one vmap; those of
        the other controls cost as much.
        """
        (path,) = paths
        self._seconds.clear()
        started = time.perf_counter()
        audio = {"x": self.batch.audio.to(self.dtype)[:, None]}
        gradients = self.loss._calc_batch_theta_param_grad(path, self.encode, self.render, audio, self.params)
        graph = time.perf_counter() - started
        vector = torch.randn(gradients.shape[1], generator=torch.Generator().manual_seed(path))
        for _ in range(n_products):
            vector = self.loss._calc_param_hvp(
                vector / vector.norm(), gradients[0], self.params, retain_graph=True
            )
        return {"graph": graph, "products": list(self._seconds)}

    def _eigenvalues(self, path: int, n_iter: int) -> list[float]:
        """Magnitudes for all controls; the products are counted."""
        self._seconds.clear()
        self._counts.clear()
        torch.manual_seed(path)
        with contextlib.redirect_stdout(io.StringIO()):  # it draws a bar with control characters
            found = self.loss.calc_theta_eigs(
                path, self.encode, self.render, {"x": self.batch.audio.to(self.dtype)[:, None]}, self.params,
                n_iter=n_iter,
            )  # fmt: skip
        return [float(value) for value in found.abs()]

    def crossed(
        self, paths: Sequence[int], *, unpad: bool = False, tolerance: float = 1e-3, check: bool = True
    ) -> Values:
        """C of some paths by theta_importance with its transform and its distance, with or without padding."""
        loss = self._unpadded_loss if unpad else self._path_loss
        options = {"method": Arnoldi(tolerance, max_graphs=len(self.batches)), "check": check}
        return _importance(self, loss, self.n_paths, paths, options)

    @property
    def batches(self) -> list[Batch]:
        return [self.batch]

    def synth(self, theta: Tensor, shift: Tensor) -> Tensor:
        return self._synth(theta, shift)

    def _unpadded_loss(self, sound: Tensor, batch: Batch, path: int) -> Tensor:
        a, b = (unpadded(self.loss, x.to(self.dtype), path) for x in (sound, batch.audio))
        difference = a - b
        return difference.square().sum((1, 2)).sqrt().mean()

    def _path_loss(self, sound: Tensor, batch: Batch, path: int) -> Tensor:
        return self.loss.calc_dist(batch.audio.to(self.dtype)[:, None], sound.to(self.dtype)[:, None], path)[0]


def _importance(side: Any, path_loss: Any, n_paths: int, paths: Sequence[int], options: dict[str, Any]) -> Values:
    params = list(side.encoder.parameters())
    stages: dict[str, float] = {}
    started = time.process_time()

    def keep_time(state: Progress) -> None:
        stages[state.stage] = time.process_time() - started

    found = theta_importance(
        lambda batch: side.encoder(batch.spectrogram),
        lambda theta, batch: side.synth(theta, batch.shift),
        path_loss,
        side.batches,
        params,
        n_paths,
        paths=paths,
        progress=keep_time,
        **options,
    )
    rows = list(paths)
    tables: list[np.ndarray] = [
        table[:, rows].T.numpy() for table in (found.importance, found.residual, found.n_products)
    ]
    return Values(tables[0].tolist(), tables[1].tolist(), tables[2].tolist(), stages)
