"""Both sides' curvatures of the paths of a problem, with what each took."""

import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim.encoder_curvature import EncoderCurvature
from scrapl_optim.importance import theta_importance
from scrapl_optim.path_curvature import path_curvature

from .problem import Batch, Scale, make_batches, make_encoder, make_synth

__all__ = ["Ours", "Peer", "Values"]


@dataclass(frozen=True)
class Values:
    """Values of some paths.

    Attributes:
        curvature: C of each path and control.
        residual: relative residual of each, None where the method has none.
        n_products: products with the matrix that each took.
    """

    curvature: list[list[float]]
    residual: list[list[float]] | None
    n_products: list[list[int]]


class Ours:
    """theta_importance on a problem.

    Args:
        scale: the problem.
        spectrogram: of its audio.
        squared: the paper's squared distance times P, or scrapl-loss's norm.
        oversampling: of the transform, None for the exact one.
        size: examples in a batch, None for all.
    """

    def __init__(
        self,
        scale: Scale,
        spectrogram: Tensor,
        *,
        squared: bool = False,
        oversampling: float | None = None,
        size: int | None = None,
    ) -> None:
        self.encoder, self.batches = make_encoder(scale), make_batches(scale, spectrogram, size=size)
        self.synth = make_synth(scale)
        self.jtfs = JTFSPath(
            scale.n_samples, **scale.transform, sample_rate=scale.sample_rate, oversampling=oversampling
        ).double()
        self.loss = JTFSPathLoss(self.jtfs, squared=squared, path_scale=squared, log1p_eps=scale.log1p_eps)
        self.n_paths = self.jtfs.n_paths
        self._targets = {batch.first: self.loss.prepare(batch.audio) for batch in self.batches}

    def path_loss(self, sound: Tensor, batch: Batch, path: int) -> Tensor:
        return self.loss(sound, self._targets[batch.first], path)

    def values(self, paths: Sequence[int], **options: Any) -> Values:
        """C of some paths; options are those of theta_importance."""
        return _importance(self, self.path_loss, self.n_paths, paths, options)

    def pieces(self, path: int, controls: Sequence[int], n_products: int) -> dict[str, Any]:
        """Seconds of s and H of a path on all batches, of the encoder's graph and of each product."""
        started = time.perf_counter()
        curvatures = [self._curvature(batch, path, controls) for batch in self.batches]
        derivatives = time.perf_counter() - started
        params = list(self.encoder.parameters())
        encoder = EncoderCurvature(self._encode, self.batches, params, len(self.batches))
        started = time.perf_counter()
        product = encoder.products(curvatures, controls[0], 0)
        graph = time.perf_counter() - started
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(encoder.n_weights, generator=generator, dtype=torch.float64).to(encoder.dtype)
        seconds = []
        for _ in range(n_products):
            started = time.perf_counter()
            vector = product(vector / vector.norm())
            seconds.append(time.perf_counter() - started)
        return {"derivatives": derivatives, "graph": graph, "products": seconds}

    def _encode(self, batch: Batch) -> Tensor:
        return self.encoder(batch.spectrogram)

    def _curvature(self, batch: Batch, path: int, controls: Sequence[int]) -> Any:
        with torch.no_grad():
            theta = self._encode(batch).double()
        return path_curvature(
            lambda theta: self.path_loss(self.synth(theta, batch.shift), batch, path), theta, controls
        )


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

    def pieces(self, path: int, n_products: int) -> dict[str, Any]:
        """Seconds of everything before the products of a path, and of some products of its first control.

        A product goes back through the gradients of all controls, as these were taken under one vmap; those of
        the other controls cost as much.
        """
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

    def crossed(self, paths: Sequence[int], **options: Any) -> Values:
        """C of some paths by theta_importance, with its transform and its distance."""
        return _importance(self, self._path_loss, self.n_paths, paths, options)

    @property
    def batches(self) -> list[Batch]:
        return [self.batch]

    def synth(self, theta: Tensor, shift: Tensor) -> Tensor:
        return self._synth(theta, shift)

    def _path_loss(self, sound: Tensor, batch: Batch, path: int) -> Tensor:
        return self.loss.calc_dist(batch.audio.to(self.dtype)[:, None], sound.to(self.dtype)[:, None], path)[0]


def _importance(side: Any, path_loss: Any, n_paths: int, paths: Sequence[int], options: dict[str, Any]) -> Values:
    params = list(side.encoder.parameters())
    found = theta_importance(
        lambda batch: side.encoder(batch.spectrogram),
        lambda theta, batch: side.synth(theta, batch.shift),
        path_loss,
        side.batches,
        params,
        n_paths,
        paths=paths,
        **{"max_graphs": len(side.batches), **options},
    )
    rows = list(paths)
    tables: list[np.ndarray] = [
        table[:, rows].T.numpy() for table in (found.curvature, found.residual, found.n_products)
    ]
    return Values(tables[0].tolist(), tables[1].tolist(), tables[2].tolist())
