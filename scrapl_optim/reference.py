"""Algorithm 1 of the SCRAPL paper as it stands there, in float64: what ``PathAdamSAGA`` must equal.

Read :class:`Algorithm1` first. The symbols and the equation numbers are the paper's. Nothing is optimised and
nothing is shared with the optimizer, so that tests, benchmarks and readers can hold one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["Algorithm1", "ReferencePathAdamSAGA"]

_Array = npt.NDArray[np.float64]


class Algorithm1:
    r"""The update of SCRAPL: P-Adam, equations (6) to (8), and P-SAGA, equation (9).

    Args:
        w: :math:`w`, the weights at the start, of any shape.
        n_paths: :math:`P`.
        lr: :math:`\alpha`; assign to ``alpha`` for a schedule :math:`\alpha_k`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\varepsilon`, inside the root. With 0, the default, 0 / 0 counts as 0.
        weight_decay: :math:`\lambda`, decoupled as in AdamW. The paper's listing has none, which is 0.

    Attributes:
        k: the number of steps taken.
        tau: the step at which each path was last drawn, 0 if never, shape ``(P,)``.
        Gamma: the set of the paths drawn.
        m: the first moment of each path, shape ``(P, *w.shape)``.
        v: the second moment of each path, the same.
        g_hat: the memory of each path, the same.

    Example:
        >>> algorithm = Algorithm1(np.ones(2), n_paths=2, lr=0.1)
        >>> algorithm.step(p=0, g=np.array([1e-12, -1e-12]))
        >>> algorithm.w
        array([0.9, 1.1])

    Source: SCRAPL, sections 3.2 and 3.3, Algorithm 1.
    """

    def __init__(
        self,
        w: npt.ArrayLike,
        n_paths: int,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.w: _Array = np.array(w, dtype=np.float64)
        self.P, self.alpha, (self.beta1, self.beta2) = n_paths, lr, betas
        self.eps, self.lambda_ = eps, weight_decay
        self.k, self.tau, self.Gamma = 0, np.zeros(n_paths, dtype=int), set[int]()
        self.m, self.v, self.g_hat = (np.zeros((n_paths, *self.w.shape)) for _ in range(3))

    def step(self, p: int, g: npt.ArrayLike) -> None:
        """Update the weights with ``g``, the gradient of the loss of path ``p``."""
        self.k += 1
        g_current = self.p_adam(p, g)
        self.w *= 1 - self.alpha * self.lambda_
        self.w -= self.alpha * (g_current - self.g_hat[p] + self.mean())  # (9)
        self.g_hat[p] = g_current
        self.tau[p] = self.k
        self.Gamma.add(p)

    def p_adam(self, p: int, g: npt.ArrayLike) -> _Array:
        """Move the moments of path ``p`` to step ``k`` and return g_current."""
        g = np.asarray(g, dtype=np.float64)
        elapsed, k = (self.k - self.tau[p]) / self.P, self.k / self.P
        decay1, decay2 = self.beta1**elapsed, self.beta2**elapsed
        self.m[p] = decay1 * self.m[p] + (1 - decay1) * g  # (6)
        self.v[p] = decay2 * self.v[p] + (1 - decay2) * g * g  # (7)
        root = np.sqrt(self.eps + self.v[p] / (1 - self.beta2**k))
        m_hat = self.m[p] / (1 - self.beta1**k)
        return np.divide(m_hat, root, out=np.zeros_like(root), where=root > 0)  # (8)

    def mean(self) -> _Array:
        """Return the mean of the memory over the paths drawn; the rows of the others are zero."""
        return self.g_hat.sum(0) / max(1, len(self.Gamma))


class ReferencePathAdamSAGA(Algorithm1):
    r"""Algorithm 1 with the options of ``PathAdamSAGA``; with their defaults it is Algorithm 1.

    A step of K draws is, with the weights :math:`\omega_p`, the strength :math:`s` = ``saga`` and :math:`n` the
    number of paths drawn before the step, or :math:`P` with ``unbiased``,

    .. math:: w \leftarrow (1 - \alpha \lambda) w - \alpha \Big( \frac1K \sum_i \omega_{p_i}
              (g_{\text{current}, p_i} - s \hat g_{p_i}) + \frac{s}{n} \sum_\gamma \hat g_\gamma \Big) .

    Args:
        w, n_paths, lr, betas, eps, weight_decay: those of :class:`Algorithm1`.
        path_adam: False takes the gradient as it is for g_current.
        saga: strength of the memory terms.
        unbiased: True takes the mean of the memory over all P paths.

    Example:
        >>> reference = ReferencePathAdamSAGA(np.zeros(1), n_paths=4, lr=1.0, path_adam=False, unbiased=True)
        >>> reference.step(p=2, g=[1.0], weight=0.5)
        >>> reference.w
        array([-0.5])
    """

    def __init__(
        self,
        w: npt.ArrayLike,
        n_paths: int,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.0,
        weight_decay: float = 0.0,
        *,
        path_adam: bool = True,
        saga: float = 1.0,
        unbiased: bool = False,
    ) -> None:
        super().__init__(w, n_paths, lr, betas, eps, weight_decay)
        self.path_adam, self.saga, self.unbiased = path_adam, saga, unbiased

    def step(self, p: int, g: npt.ArrayLike, weight: float = 1.0) -> None:
        """Update the weights with the gradient of one path and its weight."""
        self.step_many([(p, g, weight)])

    def step_many(self, draws: Iterable[tuple[int, npt.ArrayLike, float]]) -> None:
        """Update the weights once with K draws (path, gradient, weight).

        A path that was drawn several times moves its row once, with the mean of its gradients.
        """
        self.k += 1
        gradients: dict[int, list[_Array]] = {}
        weights: dict[int, float] = {}
        for p, g, weight in draws:
            gradients.setdefault(p, []).append(np.asarray(g, dtype=np.float64))
            weights[p] = weights.get(p, 0.0) + weight
        n_draws = sum(map(len, gradients.values()))
        direction = self.saga * self.mean()
        for p, of_path in gradients.items():
            g = np.mean(of_path, axis=0)
            g_current = self.p_adam(p, g) if self.path_adam else g
            direction = direction + weights[p] / n_draws * (g_current - self.saga * self.g_hat[p])
            self.g_hat[p] = g_current
            self.tau[p] = self.k
        self.w *= 1 - self.alpha * self.lambda_
        self.w -= self.alpha * direction
        self.Gamma |= gradients.keys()

    def mean(self) -> _Array:
        """Return the mean of the memory, over all paths with ``unbiased``."""
        return self.g_hat.sum(0) / self.P if self.unbiased else super().mean()
