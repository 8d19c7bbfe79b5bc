"""A small problem of theta-importance whose matrices can be formed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scrapl_optim import Arnoldi, ThetaImportance, theta_importance
from scrapl_optim.reference import importances

P, U, B = 4, 2, 3
EXACT = Arnoldi(tolerance=1e-10, max_products=500)


class Toy:
    """A small encoder, a synthesizer of sines and losses of which one is negligible; float64."""

    def __init__(self, seed: int = 0, n_batches: int = 2, hidden: int = 4) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.encoder: Any = nn.Sequential(
            nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, U), nn.Sigmoid()
        ).double()
        for param in self.encoder.parameters():
            param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        self.batches = [torch.randn(B, 3, generator=generator, dtype=torch.float64) for _ in range(n_batches)]
        self.mixes = torch.randn(P, U, 5, generator=generator, dtype=torch.float64)
        self.mixes[1] *= 1e-9

    def synth(self, theta: Tensor, batch: Tensor) -> Tensor:
        return torch.cat([theta.sin(), (3 * theta).cos()], 1)[:, :U] + 0.1 * batch[:, :U]

    def loss(self, sound: Tensor, batch: Tensor, path: int) -> Tensor:
        return ((sound @ self.mixes[path]).tanh() - batch[:, :1]).square().mean() * self.mixes[path].norm()

    def importance(self, method: Any = EXACT, **options: Any) -> ThetaImportance:
        weights = self.encoder.parameters()
        return theta_importance(
            self.encoder, self.synth, self.loss, self.batches, weights, P, method=method, **options
        )

    def reference(self) -> Tensor:
        """C of equation (12) from matrices that are formed, shape (U, P)."""
        return importances(self.encoder, self.synth, self.loss, self.batches, self.encoder.parameters(), P)
