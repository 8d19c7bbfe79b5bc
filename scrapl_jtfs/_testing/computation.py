"""Checks of coefficients: of a path by itself, in batches, among others, their gradients, and in float64."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from scrapl_jtfs._testing.case import Case, attempt, compare, fail, in_float64, tolerance

# Steps of finite differences relative to the signal's size, and the errors allowed of a slope, by dtype. A step
# this short crosses few kinks of moduli.
_STEPS = {torch.float64: (1e-6, 1e-4)}
_STEP = (2e-3, 2e-2)


def check_coefficients(case: Case) -> None:
    """Check type, dtype, device, axes and values of single paths."""
    batch = case.x.shape[: case.batch_axes]
    for p in case.paths:
        what = f"forward of {case.text(p)}"
        before = case.x.clone()
        phi = attempt(f"coefficients: {what} fails", lambda p=p: case.phi(p))
        if not isinstance(phi, Tensor):
            fail("coefficients", f"{what} is a {type(phi).__name__}; expected a torch.Tensor")
        if (phi.dtype, phi.device) != (case.transform.dtype, case.transform.device):
            fail(
                "coefficients",
                f"{what} is {phi.dtype} on {phi.device}; expected {case.transform.dtype} on "
                f"{case.transform.device}, as its properties say",
            )
        if phi.shape[: len(batch)] != batch:
            fail("coefficients", f"{what} has shape {tuple(phi.shape)}; expected {tuple(batch)} as first axes")
        if not phi.numel() or not bool(phi.isfinite().all()):
            fail("coefficients", f"{what} is empty or not finite; expected finite numbers")
        if not torch.equal(case.x, before):
            fail("coefficients", f"{what} writes to the signal; expected it to be left alone")


def check_determinism(case: Case) -> None:
    """Check that coefficients are the same at each call, whatever torch's seed and the mode of training."""
    for p in case.paths:
        first = case.phi(p)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(case.seed + 1)
            again = case.phi(p)
        if not torch.equal(first, again):
            fail("determinism", f"forward of {case.text(p)} differs from one call to the next; expected the same")
        if isinstance(case.transform, nn.Module):
            training = case.transform.training
            modes = [copy.deepcopy(case.transform).train(mode)(case.x, p).detach() for mode in (True, False)]
            if not torch.equal(*modes) or case.transform.training != training:
                fail(
                    "determinism",
                    f"forward of {case.text(p)} differs between training and evaluation mode; expected the same; "
                    "leave out dropout and batch norm, or keep them in evaluation mode",
                )


def check_batches(case: Case) -> None:
    """Check that each signal is computed by itself, under any batch axes, none included."""
    x, own = case.x, case.transform.signal_shape
    for p in case.paths:
        phi = case.phi(p)
        shapes = {
            "a signal without batch axes": (x[1, 2], phi[1, 2]),
            "one batch axis": (x[1], phi[1]),
            "three batch axes": (x.reshape(2, 1, 3, *own), phi.reshape(2, 1, 3, *phi.shape[2:])),
            "a batch of other strides": (
                x.transpose(0, 1).contiguous().transpose(0, 1),
                phi,
            ),
            "a batch of one": (x[1:, 2:], phi[1:, 2:]),
        }
        for what, (signals, expected) in shapes.items():
            name = f"forward of {case.text(p)} on {what}"
            compare("batches", attempt(f"batches: {name} fails", lambda s=signals: case.phi(p, s)), expected, name)  # noqa: B023


def check_sharing(case: Case) -> None:
    """Check that several paths are those that come one by one."""
    transform, x = case.transform, case.x
    with torch.no_grad():
        full = attempt("full", lambda: list(transform.full(x)))
        if len(full) != transform.n_paths:
            fail("full", f"{len(full)} tensors; expected {transform.n_paths}, one for each path")
        streamed = attempt("stream", lambda: list(transform.stream(x)))
        ids = sorted(p for p, _ in streamed)
        if ids != list(range(transform.n_paths)):
            twice = next((p for p in ids if ids.count(p) > 1), None)
            what = f"{len(ids)} of them" if twice is None else f"path {twice} comes twice"
            fail("stream", f"{what}; expected each of {transform.n_paths} paths once")
        by_path = dict(streamed)
        some = [*reversed(case.paths), case.paths[0]]
        for name, asked in (("a list", some), ("a tensor", torch.tensor(some))):
            chosen = attempt(f"select: {name} of ids", lambda asked=asked: transform.select(x, asked))
            if len(chosen) != len(some):
                fail("select", f"{len(chosen)} tensors for {len(some)} ids; expected one for each")
            for p, phi in zip(some, chosen, strict=True):
                compare("select", phi, case.phi(p), f"path {p} of select(x, {some}), {name},")
        if list(transform.select(x, [])):
            fail("select", "no id gives coefficients; expected an empty list")
    for p in case.paths:
        compare("full", full[p], case.phi(p), f"path {p} of full(x)")
        compare("stream", by_path[p], case.phi(p), f"path {p} of stream(x)")


def check_optional_members(case: Case) -> None:
    """Check ``first_layer`` and ``stream_pairs`` where there are such."""
    transform, x = case.transform, case.x
    if hasattr(transform, "first_layer"):
        with torch.no_grad():
            layer = attempt("first_layer", lambda: transform.first_layer(x))
            for p in case.paths:
                compare("first_layer", transform(layer, p), case.phi(p), f"forward of {case.text(p)} from it")
                (phi,) = transform.select(layer, [p])
                compare("first_layer", phi, case.phi(p), f"select of {case.text(p)} from it")
    if not hasattr(transform, "stream_pairs"):
        return
    ids = sorted(set(case.paths))
    y = x.flip(0).contiguous()
    leaf = x.clone().requires_grad_()
    pairs = attempt("stream_pairs", lambda: list(transform.stream_pairs(leaf, y, ids)))
    if sorted(p for p, *_ in pairs) != ids:
        fail("stream_pairs", f"ids {[p for p, *_ in pairs]}; expected {ids}, each once")
    for p, a, b in pairs:
        compare("stream_pairs", a, case.phi(p), f"coefficients of x on path {p}")
        compare("stream_pairs", b, case.phi(p, y), f"coefficients of the target on path {p}")
        if b.requires_grad or not a.requires_grad:
            has = f"of x: {a.requires_grad}, of the target: {b.requires_grad}"
            fail("stream_pairs", f"path {p} has a graph {has}; expected that of x alone")
    for p, several, _ in attempt("stream_pairs", lambda: list(transform.stream_pairs([x, y], y, ids))):
        for rendering, expected in zip(several, (case.phi(p), case.phi(p, y)), strict=True):
            compare("stream_pairs", rendering, expected, f"coefficients of renderings on path {p}")


def check_gradients(case: Case) -> None:
    """Check derivatives of single paths against finite differences, and of several against single paths."""
    exact = in_float64(case.transform)
    transform = case.transform if exact is None else exact
    x = case.x[0].to(transform.dtype)
    generator = torch.Generator().manual_seed(case.seed)
    step, allowed = _STEPS.get(transform.dtype, _STEP)
    h = step * float(x.std().clamp_min(1e-6))
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    total = torch.zeros_like(x)
    weights: dict[int, Tensor] = {}
    for p in sorted(set(case.paths)):
        leaf = x.clone().requires_grad_()
        phi = transform(leaf, p)
        if not phi.requires_grad:
            fail("gradients", f"forward of {case.text(p)} has no graph; expected one; mind detach() and no_grad()")
        weights[p] = torch.randn(phi.shape, generator=generator, dtype=torch.float64).to(x)
        (gradient,) = torch.autograd.grad((weights[p] * phi).sum(), leaf)
        total += gradient
        with torch.no_grad():
            above, below = (transform(x + sign * h * direction, p) for sign in (1, -1))
        expected = float((weights[p] * (above - below)).sum()) / (2 * h)
        actual = float((gradient * direction).sum())
        # Of slopes that cancel, each has a share in the error.
        size = float((weights[p] * (above - below)).abs().sum()) / (2 * h)
        rounding = float((weights[p] * phi.detach()).abs().sum()) * 4 * torch.finfo(x.dtype).eps / h
        if not abs(actual - expected) <= allowed * size + rounding:
            fail("gradients", f"the slope of {case.text(p)} in a random direction is {actual:.6g}; expected "
                 f"{expected:.6g}, as finite differences give")  # fmt: skip
    ids = sorted(weights)
    leaf = x.clone().requires_grad_()
    several = sum((weights[p] * phi).sum() for p, phi in zip(ids, transform.select(leaf, ids), strict=True))
    (together,) = torch.autograd.grad(_as_tensor(several), leaf)
    compare("gradients", together, total, "the gradient of paths of select", factor=10)


def check_float64(case: Case) -> None:
    """Check that a copy in float64 says so, computes in it, and agrees with float32."""
    exact = in_float64(case.transform)
    if exact is None:
        return
    if exact.dtype != torch.float64:
        fail("float64", f"after double() the property dtype is {exact.dtype}; expected torch.float64")
    for p in case.paths:
        with torch.no_grad():
            phi = attempt(f"float64: forward of {case.text(p)} fails", lambda p=p: exact(case.x.double(), p))
        if phi.dtype != torch.float64:
            fail("float64", f"after double() {case.text(p)} is {phi.dtype}; expected torch.float64; let constants "
                 "follow the signal, as buffers or with x.new_tensor")  # fmt: skip
        expected = case.phi(p).double()
        size = float(expected.abs().max()) or 1.0
        error = float((phi - expected).abs().max()) / size
        if not error <= 10 * tolerance(case.transform.dtype):
            fail("float64", f"after double() {case.text(p)} is off by {error:.2g} of its largest value; expected "
                 "what it was; mind complex buffers, which double() leaves as they are")  # fmt: skip


def _as_tensor(value: Any) -> Tensor:
    return value
