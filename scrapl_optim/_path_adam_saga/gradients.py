"""The size of the gradients of a step, which tells also whether all are finite."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# Under it, squares in float32 lose digits or vanish.
_SMALLEST_NORM = 2.0**-60


class Gradients:
    """The gradients of one step, seen before anything is written.

    One reduction tells whether all are finite: the 2-norm, since it bounds every entry, carries a NaN of one
    rank to all (a maximum may not), and is 30 times faster than the maximum norm on a CPU.

    Raises:
        RuntimeError: if a gradient is sparse.
    """

    def __init__(self, param_groups: list[dict[str, Any]]) -> None:
        self._grads: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
        for group in param_groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                if grad.layout is not torch.strided:
                    raise RuntimeError(
                        f"Invalid gradient: layout {grad.layout}; expected a dense one, since PathAdamSAGA does "
                        "not support sparse gradients; make it dense with to_dense()"
                    )
                if torch.is_complex(grad):
                    grad = torch.view_as_real(grad.resolve_conj())
                if grad.numel():
                    self._grads[grad.device, grad.dtype].append(grad)

    @cached_property
    def bound(self) -> float:
        """A number that no entry exceeds: inf or NaN only if an entry is."""
        bound = self._largest_norm(2)
        return self.entry if bound == math.inf or bound < _SMALLEST_NORM else bound

    @cached_property
    def entry(self) -> float:
        """The largest absolute value."""
        return self._largest_norm(math.inf)

    def _largest_norm(self, order: float) -> float:
        norms = [_norms(grads, dtype, order) for (_, dtype), grads in self._grads.items()]
        values = [float(norm) for norm in norms]
        return math.nan if any(math.isnan(value) for value in values) else max(values, default=0.0)


def _norms(grads: list[Tensor], dtype: torch.dtype, order: float) -> Tensor:
    """Return the largest norm, NaN if any is; in float16 the 2-norm would overflow early."""
    if order == math.inf and any(hasattr(grad, "to_local") for grad in grads):
        # A rank's part may be empty and has no maximum then. Enlarged, small squares do not vanish from a 2-norm.
        enlarged = _norms([grad.float() * 2.0**40 for grad in grads], torch.float32, 2) * 2.0**-40
        return enlarged if bool(enlarged.isfinite()) else _norms(grads, dtype, 2)
    accumulated = torch.float32 if dtype == torch.float16 else None
    return torch.stack(torch._foreach_norm(grads, order, dtype=accumulated)).max()
