"""The problem of theta-importance as float64 copies: encoder, synthesizer, loss and examples."""

from __future__ import annotations

import copy
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scrapl_jtfs._validation import as_dense
from scrapl_jtfs.loss import JTFSPathLoss, PathLoss
from scrapl_jtfs.taylor import PathTaylor
from scrapl_optim._validation import check_controls

Derivatives = tuple[int, Tensor, Tensor]
"""Path, slope (B, U) and Hessian (B, U, U)."""


@contextmanager
def float64(device: torch.device) -> Iterator[None]:
    """Compute in float64 with graphs to differentiate twice, whatever modes the caller is in."""
    before = torch.get_default_dtype()
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            modes.enter_context(torch.autocast(kind, enabled=False))
        # Fused attention has no second derivative, nor has what torch.compile made of a module.
        modes.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:
            modes.enter_context(torch.compiler.set_stance("force_eager"))
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@dataclass(frozen=True)
class Batch:
    """Some examples.

    Attributes:
        x: (B, ...) what the encoder takes.
        target: (B, ..., N) sounds to match.
        conditions: tensors (B, ...) that the synthesizer takes besides controls.
    """

    x: Tensor
    target: Tensor
    conditions: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor | slice) -> Batch:
        """Return some of the examples."""
        return Batch(self.x[index], self.target[index], tuple(c[index] for c in self.conditions))

    def split(self, size: int) -> list[Batch]:
        """Cut into batches of at most ``size`` examples."""
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]


class Problem:
    """Copies of an encoder, a synthesizer and a loss in float64; the caller's are not touched.

    Args:
        encoder: a module or a method of one.
        synth: a function, a module or a method of one.
        loss_fn: the loss; the copy's is the sum over examples.
        n_conditions: how many tensors the synthesizer takes besides controls.

    Raises:
        TypeError: one is of another type, or takes other arguments.
        ValueError: a module cannot be copied.
    """

    def __init__(self, encoder: Any, synth: Any, loss_fn: PathLoss, n_conditions: int) -> None:
        self._encoder = _copied(encoder, "encoder")
        module = _module_of(self._encoder)
        if module is None:
            raise TypeError(
                f"Invalid encoder: a {type(encoder).__name__}; expected a torch.nn.Module or a method of one, "
                "whose weights are copied in float64; chain parts with torch.nn.Sequential, or call "
                "scrapl_optim.theta_importance"
            )
        self.weights = [weight for weight in module.parameters() if weight.requires_grad]
        if not self.weights:
            raise ValueError(
                "Invalid encoder: it has no trainable weight; expected some, as importance is that of their "
                "curvature; use requires_grad_() on a copy"
            )
        self.device = self.weights[0].device
        self._takes_examples = not n_conditions and _takes_examples(synth)
        if n_conditions and not _binds(synth, 1 + n_conditions):
            raise TypeError(
                f"Invalid synth: {type(synth).__name__}; expected one to be called as synth(theta, ...) with "
                f"{n_conditions} conditions"
            )
        self._synth = _copied(synth, "synth")
        self.loss_fn = copy.deepcopy(loss_fn).double()
        self.loss_fn.reduction = "sum"

    def controls(self, batch: Batch) -> Tensor:
        """Return controls (B, U)."""
        return self._encoder(batch.x)

    def sounds(self, theta: Tensor, batch: Batch) -> Tensor:
        """Return sounds in the shape of the targets.

        Raises:
            TypeError: they are not float64.
            ValueError: they differ from the targets by more than axes of one.
        """
        return self._shaped(self._played(theta, batch), batch)

    def loss(self, sounds: Tensor, batch: Batch, path_idx: int) -> Tensor:
        """Return the loss of a path, summed over examples."""
        return self.loss_fn(sounds, batch.target, path_idx)

    def data(self, examples: Any, targets: Any, conditions: Sequence[Tensor]) -> Batch:
        """Return all examples in float64.

        Raises:
            TypeError: examples or targets are not real floating-point tensors.
            ValueError: they do not fit together, or the transform.
        """
        shape = tuple(self.loss_fn.transform.signal_shape)
        x = _joined(examples, len(shape))
        target = x if targets is None else as_dense(targets, "targets")
        name = "examples" if targets is None else "targets"
        remedy = "; give the sounds as targets where examples are something else" if targets is None else ""
        if target.ndim < 1 + len(shape) or tuple(target.shape[-len(shape) :]) != shape:
            expected = f"sounds (E, N) or (E, 1, N) with N = {shape[0]}"
            if len(shape) > 1:
                expected = f"signals (E, {', '.join(map(str, shape))}), or with axes of channels between"
            raise ValueError(
                f"Invalid {name}: shape {tuple(target.shape)}; expected {expected}, as the transform; crop or pad "
                f"them{remedy}"
            )
        for name, rows in [("targets", target), *(("conditions", row) for row in conditions)]:
            if rows.ndim == 0 or len(rows) != len(x):
                raise ValueError(
                    f"Invalid {name}: shape {tuple(rows.shape)}; expected an entry for each of {len(x)} examples"
                )
        moved = tuple(
            c.detach().to(self.device, torch.float64 if c.is_floating_point() else c.dtype) for c in conditions
        )
        place = self.loss_fn.transform.device
        # A copy, as tensors made in inference mode cannot be differentiated.
        x, target = (
            t.detach().to(device, torch.float64, copy=True) for t, device in ((x, self.device), (target, place))
        )
        return Batch(x, target, moved)

    def try_out(self, batch: Batch) -> int:
        """Run encoder and synthesizer once, and return the number of controls.

        Raises:
            TypeError, ValueError: one fails, or does not return what is expected; it says which.
        """
        try:
            theta = self.controls(batch)
        except Exception as error:
            raise ValueError(
                f"Invalid examples: a float64 copy of the encoder fails on shape {tuple(batch.x.shape)}: {error}; "
                "expected the shape that it takes, such as examples.unsqueeze(1); let constants that it keeps be "
                "buffers"
            ) from error
        check_controls([theta])
        if len(theta) != len(batch):
            raise ValueError(
                f"Invalid encoder: controls {tuple(theta.shape)} for {len(batch)} examples; expected (B, U), a "
                "row for each"
            )
        apart = [self.controls(one) for one in batch.split(1)]
        if any(one.shape != theta[:1].shape for one in apart) or not torch.allclose(torch.cat(apart), theta):
            raise ValueError(
                "Invalid encoder: it gives an example other controls alone than among others; expected each by "
                "itself, in rows (1, U) where there is one; look for squeeze() and for statistics of the batch"
            )
        theta = theta.detach().double()
        try:
            sounds = self._played(theta, batch)
        except Exception as error:
            raise ValueError(
                f"Invalid synth: it fails on controls of shape {tuple(theta.shape)} in float64: {error}; expected "
                "one of any number of examples; give what it needs for each of them as conditions, and let it "
                "be a torch.nn.Module if it has weights, to be copied in float64"
            ) from error
        self._shaped(sounds, batch)
        return theta.shape[1]

    def leave_out_idle_weights(self, batches: Iterable[Batch]) -> None:
        """Leave out weights of which no control is a function: their curvature vanishes."""
        reached: set[int] = set()
        for batch in batches:
            theta = self.controls(batch)
            if theta.requires_grad:
                gradients = torch.autograd.grad(theta.sum(), self.weights, allow_unused=True)
                reached |= {i for i, gradient in enumerate(gradients) if gradient is not None}
        # Where none is reached, theta_importance says why.
        self.weights = [w for i, w in enumerate(self.weights) if i in reached or not reached]

    def _played(self, theta: Tensor, batch: Batch) -> Tensor:
        arguments = (batch.x,) if self._takes_examples else batch.conditions
        return self._synth(theta, *arguments)

    def _shaped(self, sounds: Any, batch: Batch) -> Tensor:
        sounds = as_dense(sounds, "sounds of synth")
        if sounds.dtype != torch.float64:
            raise TypeError(
                f"Invalid synth: sounds of {sounds.dtype} for controls of torch.float64; expected torch.float64, "
                "in which second derivatives of weak paths do not drown; let it follow theta.dtype"
            )
        n_own = len(self.loss_fn.transform.signal_shape)
        if _without_ones(sounds, n_own) != _without_ones(batch.target, n_own):
            raise ValueError(
                f"Invalid synth: sounds of shape {tuple(sounds.shape)} for targets {tuple(batch.target.shape)}; "
                "expected the same, but for axes of one; let their first axis be that of the examples"
            )
        return sounds.reshape(batch.target.shape).to(batch.target.device)


class KnownDerivatives:
    """Slopes and Hessians of paths on batches, each computed when it is first asked for.

    Args:
        problem: whose they are.
        advance: called with the path after each.
    """

    def __init__(self, problem: Problem, advance: Callable[[int], None]) -> None:
        self._problem, self._advance = problem, advance
        self._known: dict[int, dict[int, Derivatives]] = {}

    def __call__(self, theta: Tensor, batch: Batch, paths: Sequence[int]) -> Iterator[Derivatives]:
        """Yield those of some paths on a batch, in order, as ``theta_importance`` takes them.

        A batch is finished before the first is given away, so that the first layers of one alone are held.
        """
        known = self._known.setdefault(id(batch), {})
        missing = [p for p in paths if p not in known]
        if missing:
            for derivatives in self._computed(theta, batch, missing):
                known[derivatives[0]] = derivatives
                self._advance(derivatives[0])
        return iter([known[p] for p in paths])

    def _computed(self, theta: Tensor, batch: Batch, paths: Sequence[int]) -> Iterator[Derivatives]:
        problem = self._problem
        if isinstance(problem.loss_fn, JTFSPathLoss):
            series = PathTaylor(problem.loss_fn, lambda t: problem.sounds(t, batch), theta, batch.target, paths)
            return series.iter_derivatives(paths)
        return _by_double_backward(problem, theta, batch, paths)


def _by_double_backward(
    problem: Problem, theta: Tensor, batch: Batch, paths: Sequence[int]
) -> Iterator[Derivatives]:
    """Yield slopes (B, U) and Hessians (B, U, U) of paths of any transform; the sounds' graph is made once.

    Examples do not depend on each other, such that a pass back from the slopes in one control gives a row of each
    example's Hessian.
    """
    leaf = theta.detach().requires_grad_()
    sounds = problem.sounds(leaf, batch)
    for p in paths:
        loss = problem.loss(sounds, batch, p)
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)
        rows = [
            torch.autograd.grad(slope[:, u].sum(), leaf, retain_graph=True, materialize_grads=True)[0]
            if slope.requires_grad
            else torch.zeros_like(leaf)
            for u in range(leaf.shape[1])
        ]
        yield p, slope.detach(), torch.stack(rows, 1)


def _module_of(function: Any) -> nn.Module | None:
    """Return a module, or that of which a method was given."""
    module = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return module if isinstance(module, nn.Module) else None


def _bare(module: nn.Module) -> nn.Module:
    """Return what torch.compile or a data-parallel wrapper is around, which differentiate once."""
    wrapped = isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    inner = module.module if wrapped else getattr(module, "_orig_mod", module)
    return inner if inner is module or not isinstance(inner, nn.Module) else _bare(inner)


def _copied(function: Any, name: str) -> Any:
    """Return a copy of a module, or its method, in float64 and evaluation mode; other functions as they are."""
    original = _module_of(function)
    if original is None:
        if not callable(function):
            raise TypeError(f"Invalid {name}: {type(function).__name__}; expected what can be called")
        return function
    original = _bare(original)
    if any(nn.parameter.is_lazy(p) for p in [*original.parameters(), *original.buffers()]):
        raise ValueError(
            f"Invalid {name}: it has lazy weights, of no shape yet; expected none; run it on examples once before"
        )
    try:
        module = copy.deepcopy(original)
    except Exception as error:
        raise ValueError(
            f"Invalid {name}: {type(original).__name__} cannot be copied: {error}; expected what copy.deepcopy "
            "takes, or call scrapl_optim.theta_importance, which takes functions of any kind"
        ) from error
    module.zero_grad(set_to_none=True)
    module.double().eval()
    for part in module.modules():
        for key, value in list(vars(part).items()):
            if isinstance(value, Tensor) and value.is_floating_point():  # no buffer, which double() knows of
                setattr(part, key, value.detach().double())
    return types.MethodType(function.__func__, module) if hasattr(function, "__func__") else module


def _takes_examples(synth: Any) -> bool:
    """Return whether a synthesizer is called with the examples, too.

    Raises:
        TypeError: it takes neither one nor two arguments.
    """
    if _binds(synth, 1):
        return False
    if _binds(synth, 2):
        return True
    raise TypeError(
        f"Invalid synth: it takes {inspect.signature(_called(synth))}; expected synth(theta), "
        "synth(theta, examples), or synth(theta, *conditions) where conditions are given"
    )


def _called(function: Any) -> Any:
    return function.forward if isinstance(function, nn.Module) else function


def _binds(function: Any, n_arguments: int) -> bool:
    """Return whether a function can be called with so many arguments by position, as far as it tells."""
    try:
        inspect.signature(_called(function), follow_wrapped=False).bind(*[None] * n_arguments)
    except ValueError:  # a function of C tells nothing
        return True
    except TypeError:
        return not callable(function)  # which is another error's business
    return True


def as_conditions(conditions: Any) -> tuple[Tensor, ...]:
    """Return conditions, one tensor or several, as a tuple.

    Raises:
        TypeError: they are anything else.
    """
    several = [conditions] if isinstance(conditions, Tensor) else conditions
    if not isinstance(several, (list, tuple)) or not all(isinstance(c, Tensor) for c in several):
        raise TypeError(
            f"Invalid conditions: {type(conditions).__name__}; expected a tensor, or several, with an entry for "
            "each example; use torch.as_tensor"
        )
    return tuple(several)


def _joined(examples: Any, n_own: int) -> Tensor:
    """Return examples (E, ...) from a tensor, from batches, or from signals with their own axes alone."""
    if not isinstance(examples, Tensor):
        kind = type(examples).__name__
        if isinstance(examples, (str, bytes, dict)) or not isinstance(examples, Iterable):
            raise TypeError(f"Invalid examples: {kind}; expected a tensor (E, N) or (E, 1, N), or several")
        parts = list(examples)
        if not parts:
            raise ValueError(f"Invalid examples: an empty {kind}; expected at least one")
        for part in parts:
            if isinstance(part, (tuple, list)):
                raise TypeError(
                    f"Invalid examples: a {kind} of {type(part).__name__}s; expected tensors; take the sounds, "
                    "as in [x for x, *_ in loader]"
                )
            as_dense(part, "examples")
        if len({(part.ndim, part.shape[part.ndim > n_own :]) for part in parts}) > 1:
            shapes = ", ".join(map(str, dict.fromkeys(tuple(part.shape) for part in parts)))
            raise ValueError(f"Invalid examples: of shapes {shapes}; expected one shape; crop or pad them")
        examples = torch.stack(parts) if parts[0].ndim <= n_own else torch.cat(parts)
    examples = as_dense(examples, "examples")
    if examples.ndim < 2 or examples.numel() == 0:
        raise ValueError(
            f"Invalid examples: shape {tuple(examples.shape)}; expected (E, N) or (E, 1, N), at least one; a "
            "single sound is sound[None]"
        )
    return examples


def _without_ones(sounds: Tensor, n_own: int) -> tuple[int, ...]:
    """Return a shape without channel axes of one, given the number of a signal's own axes."""
    shape = tuple(sounds.shape)
    if len(shape) <= n_own:
        return shape
    return (shape[0], *(n for n in shape[1:-n_own] if n != 1), *shape[-n_own:])


def n_series(n_controls: int) -> int:
    """Return 1 + U + U (U + 1) / 2, the coefficients of a series to second order."""
    return 1 + n_controls + math.comb(n_controls + 1, 2)
