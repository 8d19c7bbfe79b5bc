"""Two surrogates of the eigenvalue that the deprecated call ``method="..."`` offers; they go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from scrapl_optim._importance.checks import checked_options
from scrapl_optim._importance.derivatives import PathDerivatives
from scrapl_optim._importance.eigenvalue import Eigenvalue
from scrapl_optim._importance.encoder import EncoderDerivatives, Example
from scrapl_optim._importance.search import Search


@dataclass(frozen=True)
class ControlCurvature:
    r"""The second derivative :math:`|\sum_b H_{pbuu}|` of a path's loss in a control, without the encoder."""

    tolerance: float = 1e-3
    label: ClassVar[str] = "control_curvature"

    def __post_init__(self) -> None:
        checked_options(self)

    def find_values(self, search: Search, paths: Sequence[int]) -> None:
        """Find what is not known yet of the values of some paths."""

        def value(path: int, u: int, derivatives: Sequence[PathDerivatives]) -> Eigenvalue:
            return Eigenvalue(complex(sum(float(h[:, u, u].sum()) for _, h in derivatives)), 0.0, 0, True)

        search.find_one_by_one(paths, value)


@dataclass(frozen=True)
class GaussNewton:
    r"""The eigenvalue of :math:`\sum_b (\sum_{u'} H_{pbuu'} \nabla\theta_{bu'}) \nabla\theta_{bu}^\top`."""

    tolerance: float = 1e-3
    label: ClassVar[str] = "gauss_newton"

    def __post_init__(self) -> None:
        checked_options(self)

    def find_values(self, search: Search, paths: Sequence[int]) -> None:
        """Find what is not known yet of the values of some paths."""
        encoder = EncoderDerivatives(search.problem.encoder, search.problem.params, 0)
        n_controls = search.n_controls
        examples = [
            Example(batch, b)
            for batch, theta in zip(search.problem.batches, search.thetas, strict=True)
            for b in range(len(theta))
        ]
        flat = torch.stack([encoder.gradient(example, u) for example in examples for u in range(n_controls)])
        shape = (len(examples), n_controls, len(examples), n_controls)
        gram = (flat @ flat.T).double().cpu().numpy().reshape(shape)

        def value(path: int, u: int, derivatives: Sequence[PathDerivatives]) -> Eigenvalue:
            rows = np.concatenate([hessian[:, u].double().cpu().numpy() for _, hessian in derivatives])
            # A sum of h g^T over examples has the non-zero eigenvalues of the small matrix of products g . h.
            values = np.linalg.eigvals(np.einsum("efv,fv->ef", gram[:, u], rows))
            return Eigenvalue(complex(values[np.abs(values).argmax()]), 0.0, 0, True)

        search.find_one_by_one(paths, value)
