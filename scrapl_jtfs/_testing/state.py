"""Checks of copies: equal settings, settings that follow what is learned, and state dicts."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from scrapl_jtfs._testing.case import Case, fail


def check_copies(case: Case) -> None:
    """Check that a copy has equal settings and computes the same."""
    other = copy.deepcopy(case.transform)
    if other.settings != case.transform.settings:
        fail("settings", "a deepcopy has others; expected equal ones, as it computes the same; let settings be a "
             "dict of numbers and texts")  # fmt: skip
    if case.transform.settings != case.original.settings:
        fail("settings", "they changed as coefficients were computed; expected the same")
    for p in case.paths:
        with torch.no_grad():
            if not torch.equal(other(case.x, p), case.phi(p)):
                fail("copies", f"a deepcopy computes {case.text(p)} otherwise; expected the same")


def check_learning(case: Case) -> None:
    """Check that settings change with every parameter and buffer that coefficients depend on."""
    for name in _tensors(case.transform):
        other = copy.deepcopy(case.transform)
        _moved(other, name)
        if not _alike(case, other) and other.settings == case.transform.settings:
            fail(
                "settings",
                f"they are the same after {name} was changed, with which coefficients change; expected others, or "
                "prepared targets go stale; let settings have its contents",
            )


def check_parameters(case: Case) -> None:
    """Check that what is trainable gets a gradient from some path."""
    transform = case.transform
    if not isinstance(transform, nn.Module):
        return
    trainable = {name: weight for name, weight in transform.named_parameters() if weight.requires_grad}
    reached: set[str] = set()
    for path in case.original.paths if trainable else ():
        total = transform(case.x, path.index).sum()
        missing = [name for name in trainable if name not in reached]
        if not missing:
            break
        if total.requires_grad:
            gradients = torch.autograd.grad(total, [trainable[name] for name in missing], allow_unused=True)
            reached |= {name for name, gradient in zip(missing, gradients, strict=True) if gradient is not None}
    idle = sorted(trainable.keys() - reached)
    if idle:
        fail("parameters", f"no path has a gradient in {', '.join(idle)}; expected one in each that is trainable; "
             "compute from them in forward, or make them buffers")  # fmt: skip


def check_state_dict(case: Case) -> None:
    """Check that a state dict restores what was changed."""
    if not isinstance(case.transform, nn.Module):
        return
    state = {name: tensor.clone() for name, tensor in case.transform.state_dict().items()}
    other = copy.deepcopy(case.transform)
    for name in dict(other.named_parameters()):
        _moved(other, name)
    try:
        other.load_state_dict(state)
    except Exception as error:
        raise AssertionError(f"state dict: it does not load into a copy: {error}") from error
    if not _alike(case, other):
        fail(
            "state dict",
            "a copy whose parameters were changed computes otherwise after load_state_dict; expected the same; "
            "let all that depends on parameters be computed from them in forward",
        )


def _tensors(transform: object) -> dict[str, Tensor]:
    if not isinstance(transform, nn.Module):
        return {}
    state = transform.state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()}


def _moved(transform: nn.Module, name: str) -> None:
    with torch.no_grad():
        tensor = dict([*transform.named_parameters(), *transform.named_buffers()])[name]
        tensor.copy_(tensor * 1.1 + 0.01)


def _alike(case: Case, other: nn.Module) -> bool:
    """Tell whether another transform computes the same numbers."""
    with torch.no_grad():
        return all(torch.equal(other(case.x, p), case.phi(p)) for p in case.paths)
