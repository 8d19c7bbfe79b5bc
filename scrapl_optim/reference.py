"""Algorithm 1 and theta-importance as they stand in the SCRAPL paper, in float64.

:class:`Algorithm1` is what ``PathAdamSAGA`` must equal, :func:`importance_matrix` and :func:`importances` are what
``theta_importance`` must equal. The symbols and the equation numbers are the paper's. Nothing is optimised and
nothing is shared with the fast code, so that tests, benchmarks and readers can hold one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Algorithm1", "ReferencePathAdamSAGA", "importance_matrix", "importances"]

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
        elapsed, k = (self.k - self.tau[p]) / self.period(p), self.k / self.period(p)
        decay1, decay2 = self.beta1**elapsed, self.beta2**elapsed
        self.m[p] = decay1 * self.m[p] + (1 - decay1) * g  # (6)
        self.v[p] = decay2 * self.v[p] + (1 - decay2) * g * g  # (7)
        root = np.sqrt(self.eps + self.v[p] / (1 - self.beta2**k))
        m_hat = self.m[p] / (1 - self.beta1**k)
        return np.divide(m_hat, root, out=np.zeros_like(root), where=root > 0)  # (8)

    def period(self, p: int) -> float:
        """Return the number of steps that ``beta1`` and ``beta2`` are for."""
        return self.P

    def mean(self) -> _Array:
        """Return the mean of the memory over the paths drawn; the rows of the others are zero."""
        return self.g_hat.sum(0) / max(1, len(self.Gamma))


class ReferencePathAdamSAGA(Algorithm1):
    r"""Algorithm 1 with the options of ``PathAdamSAGA``; with their defaults it is Algorithm 1.

    A step of K draws is, with the weights :math:`\omega_p`, the strength :math:`s` = ``saga`` and :math:`n` the
    number of paths drawn before the step, or :math:`P` with ``unbiased``,

    .. math:: w \leftarrow (1 - \alpha \lambda) w - \alpha \Big( \frac1K \sum_i \omega_{p_i}
              (g_{\text{current}, p_i} - s \hat g_{p_i}) + \frac{s}{n} \sum_\gamma \hat g_\gamma \Big) .

    With ``probs`` :math:`\pi`, the last term is :math:`s \sum_\gamma \pi_\gamma \hat g_\gamma`.

    Args:
        w, n_paths, lr, betas, eps, weight_decay: those of :class:`Algorithm1`.
        path_adam: False takes the gradient as it is for g_current.
        saga: strength of the memory terms.
        unbiased: True takes the mean of the memory over all P paths.
        probs: :math:`\pi`, shape ``(P,)``; ``None`` for the paper's.
        memory_by_probs: True weights the memory by ``probs``, if there are any.
        clocks_by_probs: True takes :math:`k \pi_p` and :math:`(k - \tau_p) \pi_p` for the exponents, in place of
            :math:`k / P` and :math:`(k - \tau_p) / P`.
        path_warmup: :math:`n_0`; :math:`g_\text{current}` of the n-th visit of a path is multiplied by
            :math:`\sqrt{\min(1, n / n_0)}`. 0 for the paper's.

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
        probs: npt.ArrayLike | None = None,
        memory_by_probs: bool = True,
        clocks_by_probs: bool = False,
        path_warmup: float = 0.0,
    ) -> None:
        super().__init__(w, n_paths, lr, betas, eps, weight_decay)
        self.path_warmup, self.n_visits = path_warmup, np.zeros(n_paths, dtype=int)
        self.path_adam, self.saga, self.unbiased = path_adam, saga, unbiased
        self.probs = None if probs is None else np.asarray(probs, dtype=np.float64)
        self.memory_by_probs, self.clocks_by_probs = memory_by_probs, clocks_by_probs

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
            self.n_visits[p] += 1
            g_current = self.warmup(p) * self.p_adam(p, g) if self.path_adam else g
            direction = direction + weights[p] / n_draws * (g_current - self.saga * self.g_hat[p])
            self.g_hat[p] = g_current
            self.tau[p] = self.k
        self.w *= 1 - self.alpha * self.lambda_
        self.w -= self.alpha * direction
        self.Gamma |= gradients.keys()

    def warmup(self, p: int) -> float:
        """Return the factor of the path's update at its visit."""
        return np.sqrt(min(1.0, self.n_visits[p] / max(1.0, self.path_warmup)))

    def period(self, p: int) -> float:
        """Return the number of steps between two visits of the path, on average over the draws."""
        return self.P if self.probs is None or not self.clocks_by_probs else 1 / self.probs[p]

    def mean(self) -> _Array:
        """Return the mean of the memory, over all paths with ``unbiased``, weighted with ``probs``."""
        if self.probs is not None and self.memory_by_probs:
            return np.tensordot(self.probs, self.g_hat, 1)
        return self.g_hat.sum(0) / self.P if self.unbiased else super().mean()


def importance_matrix(
    encoder: Callable[[Any], Tensor],
    synth: Callable[[Tensor, Any], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    batches: Sequence[Any],
    params: Iterable[Tensor],
    p: int,
    u: int,
) -> Tensor:
    r"""Form the matrix of equation (12), whose largest eigenvalue is the importance of a path for a control.

    .. math:: M_{u,p} = \nabla_w \sum_x s_{x,u,p}(w) \, \nabla_w E_{x,u}(w) , \qquad
              s_{x,u,p}(w) = \frac{\partial (L_x^{\phi_p} \circ D)}{\partial \theta_u} (E_x(w))

    The paper writes one example x and takes the mean of the eigenvalues over examples. As in scrapl-loss, the
    examples of all batches are added up within the matrix here; with one example both are the same.

    Args:
        encoder: E, maps a batch to controls of shape ``(B, U)``.
        synth: D, ``synth(theta, batch)``.
        path_loss: L, ``path_loss(sound, batch, p)``, a scalar.
        batches: the examples x.
        params: w, n weights in all, float64.
        p: id of the path.
        u: index of the control.

    Returns:
        M, shape ``(n, n)``; it is not symmetric.

    Source: SCRAPL, equations (11) and (12).
    """
    params = list(params)
    total = torch.zeros(sum(param.numel() for param in params), dtype=torch.float64, device=params[0].device)
    for batch in batches:
        theta = encoder(batch)
        loss = path_loss(synth(theta, batch), batch, p)
        (s,) = torch.autograd.grad(loss, theta, create_graph=True)  # (11)
        total = total + _flat_gradient(theta[:, u], params, s[:, u])
    return torch.stack([_flat_gradient(entry, params) for entry in total]).detach()


def importances(
    encoder: Callable[[Any], Tensor],
    synth: Callable[[Tensor, Any], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    batches: Sequence[Any],
    params: Iterable[Tensor],
    n_paths: int,
) -> Tensor:
    r"""Compute :math:`C_{u,p} = |\lambda_{max}(M_{u,p})|` of each control and path, shape ``(U, P)``.

    The arguments are those of :func:`importance_matrix` and the number of paths P. Equation (10) makes
    probabilities of C: ``scrapl_optim.probabilities(C)``.

    Example:
        >>> encoder, x = torch.nn.Linear(1, 1, bias=False).double(), torch.ones(1, 1, dtype=torch.float64)
        >>> importances(  # s = 2 (p + 1) theta and theta = w x, so that M = 2 (p + 1) x^2
        ...     encoder, lambda theta, x: theta, lambda sound, x, p: (p + 1) * sound.square().sum(),
        ...     [x], encoder.parameters(), n_paths=3)
        tensor([[2., 4., 6.]], dtype=torch.float64)

    Source: SCRAPL, equation (12).
    """
    params = list(params)
    n_controls = encoder(batches[0]).shape[1]
    matrices = [
        [importance_matrix(encoder, synth, path_loss, batches, params, p, u) for p in range(n_paths)]
        for u in range(n_controls)
    ]
    return torch.stack([torch.linalg.eigvals(torch.stack(row)).abs().amax(-1) for row in matrices])


def _flat_gradient(values: Tensor, params: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """Return the gradient of the weighted sum of some values in all weights, shape ``(n,)``."""
    gradients = torch.autograd.grad(values, params, weights, create_graph=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1) for gradient in gradients])
