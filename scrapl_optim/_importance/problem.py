"""The problem that theta-importance is asked of, and what would make its answer meaningless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from scrapl_optim._importance.checks import as_list, check_takes
from scrapl_optim._importance.derivatives import couples_examples, path_derivatives
from scrapl_optim._validation import as_n_paths, check_controls, refuse_paths

_RANDOM_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)


class Problem(NamedTuple):
    """The functions, data and weights that define the matrices of equation (12).

    Attributes:
        encoder: maps a batch to controls theta of shape ``(B, U)``; deterministic.
        synth: maps controls and the batch to a sound, or whatever the path loss takes; deterministic.
        path_loss: maps the sound, the batch and a path to a scalar, a mean or sum over examples.
        batches: the data; anything that the three understand.
        params: weights of the encoder.
        n_paths: the number P of paths.
    """

    encoder: Callable[[Any], Tensor]
    synth: Callable[[Tensor, Any], Any]
    path_loss: Callable[[Any, Any, int], Tensor]
    batches: Sequence[Any]
    params: Sequence[Tensor]
    n_paths: int

    def loss(self, batch: Any, path_idx: int) -> Callable[[Tensor], Tensor]:
        """Return the loss of a path on a batch as a function of the controls."""
        return lambda theta: self.path_loss(self.synth(theta, batch), batch, path_idx)


def as_problem(encoder: Any, synth: Any, path_loss: Any, batches: Any, params: Any, n_paths: Any) -> Problem:
    """Return the problem; raise TypeError or ValueError, by name, where it is none."""
    check_takes(encoder, "encoder", "batch")
    check_takes(synth, "synth", "theta", "batch")
    check_takes(path_loss, "path_loss", "sound", "batch", "path_idx")
    if isinstance(batches, Tensor):
        raise TypeError("Invalid batches: a tensor; expected a sequence of batches; a single batch is [batch]")
    weights = as_list(params, "params", "the weights of the encoder")
    for weight in weights:
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise TypeError(
                f"Invalid params: a {type(weight).__name__}; expected floating tensors, as parameters()"
            )
    kinds = {(weight.dtype, weight.device) for weight in weights}
    if len(kinds) > 1:
        raise ValueError(f"Invalid params: of several dtypes or devices, {sorted(map(str, kinds))}; expected one")
    data = as_list(batches, "batches", "at least one batch")
    refuse_paths(n_paths)
    return Problem(encoder, synth, path_loss, data, weights, as_n_paths(n_paths))


def check_problem(
    problem: Problem, paths: Sequence[int], dtype: torch.dtype | None, seed: int, thorough: bool
) -> list[Tensor]:
    """Return the controls of each batch, detached; raise if the problem is not what the method needs."""
    if thorough:
        for name, function in (("encoder", problem.encoder), ("synthesizer", problem.synth)):
            check_mode(name, function)
    thetas = [problem.encoder(batch) for batch in problem.batches]
    check_controls(thetas)
    if thorough:
        check_reach(thetas[0], problem.params)
        batch, theta = problem.batches[0], thetas[0].detach()
        check_repeats("encoder", lambda: problem.encoder(batch))
        controls = theta if dtype is None else theta.to(dtype)
        check_repeats("synthesizer", lambda: problem.synth(controls, batch))
        check_coupling(problem, batch, controls, paths[0], seed)
    return [theta.detach() for theta in thetas]


def check_mode(name: str, function: Callable[..., Any]) -> None:
    """Raise if ``function`` is a module, or the method of one, with layers that differ in training mode."""
    module = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    if not isinstance(module, nn.Module):
        return
    for path, layer in module.named_modules():
        if layer.training and isinstance(layer, _RANDOM_IN_TRAINING):
            raise RuntimeError(
                f"Invalid {name}: its layer {path or type(module).__name__!r} ({type(layer).__name__}) is in "
                f"training mode, in which it is random or couples examples; expected evaluation mode; call .eval()"
            )


def check_reach(theta: Tensor, params: Sequence[Tensor]) -> None:
    """Raise if weights do not reach the controls."""
    if not theta.requires_grad:
        raise RuntimeError(
            "Invalid encoder: its controls do not depend on any weight; expected a graph to params; it ran under "
            "no_grad, was detached, or is frozen"
        )
    gradients = torch.autograd.grad(theta.sum(), params, allow_unused=True)
    idle = [i for i, gradient in enumerate(gradients) if gradient is None]
    if idle:
        shapes = ", ".join(f"{i} of shape {tuple(params[i].shape)}" for i in idle)
        raise RuntimeError(
            f"Invalid params: weights that do not reach the controls: {shapes}; expected none; leave them out"
        )


def check_repeats(name: str, call: Callable[[], Any]) -> None:
    """Raise if two calls differ; on an accelerator, by more than roundings, which it may order differently."""
    first, second = (_tensors(call()) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        exact = a.device.type == "cpu" or not a.is_floating_point()
        if a.shape != b.shape or not (torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-4)):
            raise RuntimeError(
                f"Invalid {name}: it is not deterministic, two calls with the same input differ; expected equal "
                "ones, as the curvature of noise would be measured otherwise; seed it inside the call (e.g. a "
                "torch.Generator made from the batch), and switch off dropout and augmentation"
            )


def check_coupling(problem: Problem, batch: Any, theta: Tensor, path: int, seed: int) -> None:
    """Raise if the loss of a path couples examples, whose Hessian is then not block-diagonal."""
    if couples_examples(problem.loss(batch, path), theta, torch.Generator("cpu").manual_seed(seed)):
        raise RuntimeError(
            f"Invalid path_loss: that of path {path} couples the examples of a batch, as its second derivative "
            "between different examples does not vanish; expected a mean or sum over examples (not, say, one norm "
            "over the batch, and no batch norm in the synthesizer); or else give batches of one example"
        )


def check_derivatives(
    problem: Problem, derivatives: Any, theta: Tensor, dtype: torch.dtype | None, path: int
) -> None:
    """Raise if the derivatives that a user's function gives for a path are not those of double backward passes."""
    batch = problem.batches[0]
    theta = theta if dtype is None else theta.to(dtype)
    expected = path_derivatives(problem.loss(batch, path), theta)
    its_path, *computed = next(iter(derivatives(theta, batch, [path])))
    for name, derivative, reference in zip(expected._fields, computed, expected, strict=True):
        if its_path != path or derivative.shape != reference.shape:
            raise ValueError(
                f"Invalid derivatives: path {its_path} with a {name} of shape {tuple(derivative.shape)}; expected "
                f"path {path} with {tuple(reference.shape)}"
            )
        largest = float(reference.abs().max())
        error = float((derivative.to(reference) - reference).abs().max())
        if not error <= 1e-3 * largest:
            raise RuntimeError(
                f"Invalid derivatives: the {name} of path {path} is off by {error:.2g}; expected that of double "
                f"backward passes, with {largest:.2g} its largest entry; check that both have the same loss, "
                "target and batch"
            )


def _tensors(value: Any) -> list[Tensor]:
    return [leaf.detach() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
