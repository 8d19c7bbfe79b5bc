r"""L-BFGS for one signal, which is told the function's values instead of calling it.

Several signals can so be evaluated in one batch while each has a line search and a memory of its own: none waits
for another's search, and each goes the way that it would go alone. :class:`torch.optim.LBFGS` has one search for
all.

With :math:`g` the gradient and :math:`H` the estimate of the inverse Hessian of Nocedal and Wright, Numerical
Optimization (2006), Algorithm 7.4, the direction is :math:`d = - H g`. The line search looks for a step :math:`t`
with

.. math:: f(x + t d) \le f(x) + c_1 t \, g^T d , \qquad g(x + t d)^T d \ge c_2 \, g^T d

by bisection, as Lewis and Overton, Nonsmooth optimization via quasi-Newton methods (2013), who show that this
serves functions that are not smooth as well, as those with a modulus are.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from torch import Tensor

# c_1 and c_2.
_DECREASE, _CURVATURE = 1e-4, 0.9
# Pairs of steps and changes of the gradient that are kept.
_MEMORY = 10
# Trials of a step before the search is given up.
_MOST_TRIALS = 20
# Where between its ends the interval of steps may be cut.
_NEAREST, _FARTHEST = 0.1, 0.9


class _Pair(NamedTuple):
    """Step s, change y of the gradient, and 1 / s^T y."""

    s: Tensor
    y: Tensor
    rho: Tensor


class _Point(NamedTuple):
    """Signal x with the value f, the gradient g and the slope g^T d there, the step t to it, and its error."""

    x: Tensor
    f: float
    g: Tensor
    slope: float
    t: float
    error: float


class LBFGS:
    """Descent of one signal.

    Args:
        start: (N,) signal to start from.
        first_length: Euclidean length of the first step, and of the first one after the memory was cleared.

    Attributes:
        trial: (N,) where the function is to be evaluated next.
        best: (N,) the signal reached; its value falls at each change.
        value: its value, infinite before the first evaluation.
        error: what was told about it along with its value.
        done: whether nothing lower can be found.
    """

    def __init__(self, start: Tensor, first_length: float) -> None:
        self.trial = self.best = start
        self.value = self.error = math.inf
        self.done = False
        self._first_length = first_length
        self._pairs: deque[_Pair] = deque(maxlen=_MEMORY)
        self._at: _Point | None = None

    def tell(self, value: float, gradient: Tensor, error: float = math.nan) -> None:
        """Take the value and the gradient (N,) at :attr:`trial`, and choose the next trial."""
        if self._at is None:
            self._move_to(_Point(self.trial, value, gradient, 0.0, 0.0, error))
            return
        self._trials += 1
        slope = float(gradient @ self._direction)
        point = _Point(self.trial, value, gradient, slope, self._step, error)
        finite = math.isfinite(value) and math.isfinite(slope)
        if not finite or value > self._at.f + _DECREASE * self._step * self._at.slope:
            self._upper, self._value_above = self._step, value if finite else math.inf
        elif slope < _CURVATURE * self._at.slope:
            self._lower = point
        else:
            self._move_to(point)
            return
        if self._trials < _MOST_TRIALS:
            self._try(self._next_step())
        else:
            self._give_up()

    def _move_to(self, point: _Point) -> None:
        """Accept a point, learn from the way to it and begin the next search there."""
        if self._at is not None:
            s, y = point.x - self._at.x, point.g - self._at.g
            curvature = s @ y
            if float(curvature) > 0:
                self._pairs.append(_Pair(s, y, 1 / curvature))
        self._at, self.best, self.value, self.error = point, point.x, point.f, point.error
        self._search()

    def _search(self) -> None:
        """Begin a line search at the point reached."""
        at = self._at
        if at is None:
            return
        self._direction = self._newton_direction(at.g)
        slope = float(at.g @ self._direction)
        if not slope < 0 and self._pairs:
            self._pairs.clear()
            self._direction, slope = -at.g, -float(at.g @ at.g)
        if not slope < 0:
            self.done = True
            return
        self._at = self._lower = at._replace(slope=slope, t=0.0)
        self._upper = self._value_above = math.inf
        self._trials = 0
        self._try(1.0 if self._pairs else self._first_length / math.sqrt(-slope))

    def _try(self, step: float) -> None:
        if self._at is not None:
            self._step, self.trial = step, self._at.x + step * self._direction

    def _next_step(self) -> float:
        """Return a longer step, or one inside the interval: where a parabola through its ends is least."""
        lower = self._lower
        if math.isinf(self._upper):
            return 2 * self._step
        width = self._upper - lower.t
        rise = self._value_above - lower.f - lower.slope * width
        share = 0.5 if math.isinf(rise) or rise <= 0 else -lower.slope * width / (2 * rise)
        return lower.t + min(max(share, _NEAREST), _FARTHEST) * width

    def _give_up(self) -> None:
        """Take what the search found; else begin without memory; without one, this is the end."""
        if self._lower.t > 0:
            self._move_to(self._lower)
        elif self._pairs:
            self._pairs.clear()
            self._search()
        else:
            self.done = True

    def _newton_direction(self, gradient: Tensor) -> Tensor:
        """Compute d = -H g by the recursion over the pairs kept, from the newest and back."""
        d = -gradient
        shares: list[Tensor] = []
        for s, y, rho in reversed(self._pairs):
            shares.append(rho * (s @ d))
            d = d - shares[-1] * y
        if self._pairs:
            _, y, rho = self._pairs[-1]
            d = d / (rho * (y @ y))
        for (s, y, rho), share in zip(self._pairs, reversed(shares), strict=True):
            d = d + (share - rho * (y @ d)) * s
        return d
