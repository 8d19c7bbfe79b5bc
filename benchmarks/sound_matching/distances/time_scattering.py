"""The distance of time scattering coefficients, which have no joint modulations of time and frequency."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.distances.checks import check_sounds, euclidean


class TimeScattering(nn.Module):
    r"""Euclidean distance of the first and second order time scattering of two sounds, by kymatio.

    .. math:: \frac{1}{B} \sum_b \lVert \rho(S x_b) - \rho(S y_b) \rVert_2 , \qquad
        \rho(s) = \log(1 + s / \varepsilon) ,

    with S of all paths of order one and two and their frames. The mean of the sound, order zero, is left out, as
    the JTFS has none. Where the JTFS compares how neighbouring bands modulate together, this compares each band
    alone.

    Args:
        n_samples: length of the sounds.
        J: log2 of the longest scale in samples.
        Q: wavelets per octave of both orders.
        T: support of the low-pass in samples, or "global" for the mean over the sound.
        log1p_eps: epsilon of rho, in the units of the coefficients; None for the coefficients themselves.

    Raises:
        ValueError: log1p_eps is not positive, or kymatio is not installed.

    Source: Andén and Mallat (2014); rho as the paper's section 4.4 has it for the JTFS, with eps 1e-3.
    """

    def __init__(
        self,
        n_samples: int,
        *,
        J: int,
        Q: tuple[int, int] = (8, 2),
        T: int | Literal["global"],
        log1p_eps: float | None = 1e-3,
    ) -> None:
        super().__init__()
        if log1p_eps is not None and not log1p_eps > 0:
            raise ValueError(f"Invalid log1p_eps: {log1p_eps}; expected a positive number or None")
        self.log1p_eps = log1p_eps
        self.over_the_sound = T == "global"  # kymatio then gives moduli without a low-pass
        self.scattering = _build(n_samples, J, Q, 0 if T == "global" else T)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of sounds (B, n_samples)."""
        check_sounds(x, y)
        return euclidean(self.coefficients(x), self.coefficients(y)).mean()

    def coefficients(self, x: Tensor) -> Tensor:
        """Return rho of the coefficients of sounds (B, n_samples), (B, paths, frames)."""
        paths: list[dict[str, Any]] = self.scattering(x)
        by_path = [path["coef"] for path in paths if path["n"] != ()]
        if self.over_the_sound:
            by_path = [coefficients.mean(-1, keepdim=True) for coefficients in by_path]
        # The low-pass by FFT leaves rounding errors below zero.
        coefficients = torch.relu(torch.stack(by_path, 1))
        return coefficients if self.log1p_eps is None else torch.log1p(coefficients / self.log1p_eps)


def _build(n_samples: int, J: int, Q: tuple[int, int], T: int) -> Any:
    """Build kymatio's transform, not by kymatio.torch, which needs functions that SciPy has removed."""
    try:
        from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D
    except ImportError as error:
        raise ValueError(
            f"Invalid loss: time scattering without kymatio ({error}); expected kymatio 0.3; install it with "
            "pip install kymatio"
        ) from error
    build: Any = ScatteringTorch1D  # which says that Q is an int
    return build(J, n_samples, Q, T, out_type="list")
