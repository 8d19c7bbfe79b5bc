"""Linear maps with hand-written adjoints.

Plain autograd around FFTs spends most of its time copying and filling. A linear map whose backward is its adjoint,
and conversely, needs none of that, and is differentiable to any order.

The real inner product sum Re(conj(a) b) is meant throughout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import Function


class LinearMap(Protocol):
    """A linear map from some tensors to one tensor, all batched along their first axis."""

    def __call__(self, *xs: Any, **_: Any) -> Tensor:
        """Apply the map."""
        ...

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Apply its adjoint: one tensor for each argument."""
        ...


class SizedMap(LinearMap, Protocol):
    """A linear map that knows the size of its images."""

    @property
    def size(self) -> int:
        """Real numbers in the image of one item of the batch."""
        ...


class AddingMap(LinearMap, Protocol):
    """A linear map of one argument whose adjoint can be added to a sum in place."""

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``."""
        ...


def apply_linear(linear_map: LinearMap, *xs: Tensor) -> Tensor:
    """Apply a linear map; differentiable to any order."""
    return _Apply.apply(linear_map, *xs)


def apply_adjoint(linear_map: LinearMap, y: Tensor) -> tuple[Tensor, ...]:
    """Apply the adjoint of a linear map; differentiable to any order."""
    return _ApplyAdjoint.apply(linear_map, y)


def merge_mapped(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Fold the axis of a vmap into the batch axis, which comes first and stays the slower one."""
    x = x.unsqueeze(1).expand(-1, size, *x.shape[1:]) if dim is None else x.movedim(dim, 0).movedim(0, 1)
    return x.reshape(x.shape[0] * size, *x.shape[2:])


def split_mapped(x: Tensor, size: int) -> Tensor:
    """Undo :func:`merge_mapped`; the axis of the vmap is the second one."""
    return x.reshape(x.shape[0] // size, size, *x.shape[1:])


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast, which devices such as "meta" do not have and refuse to switch off."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device_type=device.type, enabled=False)


def in_full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep autocast out of a derivative, which is computed where a caller asks for it."""

    @functools.wraps(method)
    def call(ctx: Any, *grads: Any) -> Any:
        device = next((grad.device for grad in grads if isinstance(grad, Tensor)), torch.device("cpu"))
        with full_precision(device):
            return method(ctx, *grads)

    return call


def inside_vmap() -> bool:
    """Tell whether this runs under torch.func.vmap, whose tensors can be written only where all are mapped."""
    return any(interpreter.key() == TransformType.Vmap for interpreter in retrieve_all_functorch_interpreters())


def forward_derivative(method: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the ``jvp`` of a Function: :func:`in_full_precision`, and once only.

    torch (2.8 to 2.13) evaluates a Function's ``jvp`` under a second forward-mode derivative as if its saved
    tensors were constants, and returns a wrong number without a word.
    """
    method = in_full_precision(method)

    @functools.wraps(method)
    def call(ctx: Any, *grads: Any) -> Any:
        levels = [interpreter.key() for interpreter in retrieve_all_functorch_interpreters()]
        if levels.count(TransformType.Jvp) > 1:
            raise RuntimeError(
                "Invalid derivative: forward mode of forward mode (torch.func.jvp of jvp, jacfwd of jacfwd), "
                "which torch does not support for this transform; expected one of the two in reverse mode, e.g. "
                "torch.func.hessian, jvp of grad, or grad of jvp"
            )
        return method(ctx, *grads)

    return call


class _Apply(Function):
    @staticmethod
    def forward(linear_map: LinearMap, *xs: Tensor) -> Tensor:
        return linear_map(*xs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.linear_map = inputs[0]

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return None, *apply_adjoint(ctx.linear_map, grad_outputs[0])

    @staticmethod
    @forward_derivative
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        return apply_linear(ctx.linear_map, *grad_inputs[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        linear_map, *xs = args
        flat = [merge_mapped(x, dim, info.batch_size) for x, dim in zip(xs, in_dims[1:], strict=True)]
        return split_mapped(apply_linear(linear_map, *flat), info.batch_size), 1


class _ApplyAdjoint(Function):
    @staticmethod
    def forward(linear_map: LinearMap, y: Tensor) -> tuple[Tensor, ...]:
        return linear_map.adjoint(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.linear_map = inputs[0]

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, apply_linear(ctx.linear_map, *grad_outputs)

    @staticmethod
    @forward_derivative
    def jvp(ctx: Any, *grad_inputs: Any) -> tuple[Tensor, ...]:
        return apply_adjoint(ctx.linear_map, grad_inputs[1])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        linear_map, y = args
        outputs = apply_adjoint(linear_map, merge_mapped(y, in_dims[1], info.batch_size))
        return tuple(split_mapped(x, info.batch_size) for x in outputs), tuple(1 for _ in outputs)
