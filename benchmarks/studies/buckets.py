"""Should the rows of small parameters lie end to end? Three ways to take a step, in one frame without checks.

``joined`` keeps the rows and sums of neighbouring small parameters as one tensor each, as PathAdamSAGA does;
``gathered`` keeps them by parameter, copies them together at each step and back; ``foreach`` takes
``torch._foreach_*`` operations on them. All use the formats, coefficients and check of gradients of the package,
and update large parameters in slices. ``PathAdamSAGA`` is the optimizer with all its checks.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from scrapl_optim import PathAdamSAGA
from scrapl_optim._path_adam_saga.algorithm import Chunk, Coefficients, coefficients, update_in_place
from scrapl_optim._path_adam_saga.chunks import Neighbours, Scratch
from scrapl_optim._path_adam_saga.clocks import new_clocks, next_visit, tick
from scrapl_optim._path_adam_saga.formats import row_format
from scrapl_optim._path_adam_saga.gradients import Gradients
from scrapl_optim._path_adam_saga.several_paths import Draw

_NORMS = [(64,)] * 16
SHAPES = {
    "0.1M": [(64, 32, 3, 3), (64, 64, 3, 3), (128, 128), *[(64, 64)] * 4, *[(32,)] * 29],
    "0.6M": [(64, 32, 3, 3), (128, 64, 3, 3), *[(128, 128, 3, 3)] * 2, *[(256, 256)] * 3, *_NORMS],
    "3M": [*[(256, 256, 3, 3)] * 4, *[(512, 512)] * 2, *_NORMS],
    "10M": [*[(512, 512, 3, 3)] * 4, *[(512, 512)] * 2, *_NORMS],
}
CASES = [("0.1M", 32), ("0.1M", 315), ("0.6M", 32), ("0.6M", 315), ("3M", 32), ("10M", 8)]
_LIMIT = 2**16  # entries of a chunk, and of the largest parameter that is small


class Frame:
    """Algorithm 1 with nothing around it; ``update`` takes a step on a run of small parameters."""

    def __init__(self, params: list[Parameter], n_paths: int, storage: str, update: Callable[..., None]) -> None:
        self.update, self.clocks, self.scratch = update, new_clocks(n_paths, counting=False), Scratch()
        self.group = PathAdamSAGA(params, n_paths, storage=storage).param_groups[0]
        self.runs = list(_runs(params, storage))
        self.sums: dict[Any, Tensor] = {p: torch.zeros_like(p) for run in self.runs for p in run}
        self.rows: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        self.storage = storage

    def row(self, key: Any, like: Tensor, path: int) -> tuple[list[Tensor], list[Tensor]]:
        if (key, path) not in self.rows:
            forms = row_format(self.storage, tuple(like.shape))
            self.rows[key, path] = (
                forms.update.allocate(like, torch.float32),
                forms.rms.allocate(like, torch.float32),
            )
        return self.rows[key, path]

    @torch.no_grad()
    def step(self, *, path_idx: int) -> None:
        gradients = Gradients([self.group])
        if not math.isfinite(gradients.bound):
            return
        visit = next_visit(self.clocks, path_idx, gradients, 0.0, torch.float32)
        c = coefficients(self.group, visit, torch.float32, Draw(path_idx, None))
        for index, run in enumerate(self.runs):
            if len(run) == 1:
                self.update_slices(run[0], path_idx, c)
            else:
                self.update(self, index, run, path_idx, c)
        tick(self.clocks, path_idx, visit)

    def update_slices(self, p: Tensor, path: int, c: Coefficients) -> None:
        """Update a large parameter, or one with rows in blocks."""
        update, rms = self.row(p, p.detach(), path)
        forms = row_format(self.storage, tuple(p.shape))
        n_rows = max(1, (_LIMIT if rms[1:] else 4 * _LIMIT) * p.shape[0] // p.numel())
        for start in range(0, p.shape[0], n_rows):
            at = slice(start, start + n_rows)
            parts = [t[at] for t in update], [t[at] for t in rms]
            chunk = Chunk(p.detach()[at], p.grad[at], *parts, forms, self.sums[p][at])  # type: ignore[index]
            update_in_place(chunk, torch.float32, c, self.scratch.pair(chunk.grad, torch.float32))


def _runs(params: list[Parameter], storage: str) -> Iterator[list[Parameter]]:
    """Yield small parameters together, the others alone."""
    small = [p for p in params if p.numel() <= _LIMIT and row_format(storage, tuple(p.shape)).update.elementwise]
    for p in params:
        if not any(p is other for other in small):
            yield [p]
    run: list[Parameter] = []
    for p in small:
        if run and sum(q.numel() for q in run) + p.numel() > _LIMIT:
            yield run
            run = []
        run.append(p)
    if run:
        yield run


def joined(
    frame: Frame, index: int, run: list[Tensor], path: int, c: Coefficients, rows_too: bool = False
) -> None:
    """Copy parameters and gradients together, and with ``rows_too`` rows and sums."""
    shapes = tuple(tuple(p.shape) for p in run)
    at = Neighbours(0, len(run), 0, sum(p.numel() for p in run), shapes)
    forms = row_format(frame.storage, (2,))
    flats, results = [], []
    columns = [[p.grad for p in run], [p.detach() for p in run]]
    if rows_too:
        rows = [frame.row(p, p.detach(), path) for p in run]
        columns += [[frame.sums[p] for p in run], [row[0][0] for row in rows], [row[1][0] for row in rows]]
    for name, column in enumerate(columns):
        flat, views = frame.scratch.gather(f"{index} {name}", column, at, column[0].dtype)  # type: ignore
        flats.append(flat)
        results.append((column, views))
    if not rows_too:
        update, rms = frame.row(index, flats[0], path)
        flats += [frame.sums.setdefault(index, torch.zeros_like(flats[0])), update[0], rms[0]]  # type: ignore
    grad, param, total, update, rms = flats
    chunk = Chunk(param, grad, [update], [rms], forms, total)
    update_in_place(chunk, torch.float32, c, frame.scratch.pair(grad, torch.float32))
    for column, views in results[1:]:
        torch._foreach_copy_(column, views)


def gathered(frame: Frame, index: int, run: list[Tensor], path: int, c: Coefficients) -> None:
    joined(frame, index, run, path, c, rows_too=True)


def foreach(frame: Frame, index: int, run: list[Tensor], path: int, c: Any) -> None:
    forms = row_format(frame.storage, (2,))
    rows = [frame.row(p, p.detach(), path) for p in run]
    params, totals = [p.detach() for p in run], [frame.sums[p] for p in run]
    grads = [p.grad for p in run if p.grad is not None]
    g_hat = [forms.update.decode(row[0], torch.float32) for row in rows]
    root = [forms.rms.decode(row[1], torch.float32) for row in rows]
    unit = c.unit[0] * c.unit[1]
    m = torch._foreach_mul(g_hat, root)
    torch._foreach_mul_(m, 1 - c.a)
    torch._foreach_add_(m, grads, alpha=c.a * unit)
    torch._foreach_mul_(root, root)
    torch._foreach_mul_(root, 1 - c.b)
    torch._foreach_addcmul_(root, grads, grads, value=c.b * unit * unit)
    torch._foreach_add_(root, c.tiny)
    torch._foreach_sqrt_(root)
    torch._foreach_div_(m, root)
    torch._foreach_mul_(params, c.decay)
    torch._foreach_add_(params, totals, alpha=-c.alpha * c.saga_over_n)
    change = torch._foreach_sub(g_hat, m)
    torch._foreach_add_(params, change, alpha=c.alpha * c.omega)
    if forms.update.whole:
        after = torch._foreach_sub(totals, change)  # the row follows the sum
        torch._foreach_sub_(totals, after)
        torch._foreach_sub_(g_hat, totals)
        torch._foreach_copy_(totals, after)
        return
    for row, current, new_root, before, total in zip(rows, m, root, g_hat, totals, strict=True):
        forms.rms.encode(row[1], new_root, c.salts[1])
        forms.update.encode(row[0], current, c.salts[0])
        total.add_(forms.update.decode(row[0], torch.float32).sub_(before))


CONTENDERS: dict[str, Callable[..., Any]] = {
    "PathAdamSAGA": lambda params, n, storage: PathAdamSAGA(params, n, storage=storage),
    "joined": lambda params, n, storage: Frame(params, n, storage, joined),
    "gathered": lambda params, n, storage: Frame(params, n, storage, gathered),
    "foreach": lambda params, n, storage: Frame(params, n, storage, foreach),
}


def make_params(kind: str) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES[kind]]
    for p in params:
        p.grad = 1e-3 * torch.randn(p.shape, generator=generator)
    return params


def measure(kind: str, n_paths: int, storage: str, seconds: float) -> dict[str, Any]:
    """Return medians of the thread time of a revisit, ratios of paired steps, and peaks of memory."""
    models = {name: make_params(kind) for name in CONTENDERS}
    optimizers = {name: make(models[name], n_paths, storage) for name, make in CONTENDERS.items()}
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    start, k = time.perf_counter(), 0
    while k < n_paths + 12 or time.perf_counter() - start < seconds:
        for name, optimizer in optimizers.items():
            begin = time.thread_time()
            optimizer.step(path_idx=k % n_paths)
            times[name].append(time.thread_time() - begin)
        k += 1
    revisits = {name: values[n_paths:] for name, values in times.items()}
    result: dict[str, Any] = {f"{name} ms": 1e3 * statistics.median(values) for name, values in revisits.items()}
    for name in ("gathered", "foreach"):
        pairs = zip(revisits[name], revisits["joined"], strict=True)
        result[f"{name} / joined"] = statistics.median(a / b for a, b in pairs)
    for name, optimizer in optimizers.items():
        result[f"{name} peak MB"] = _peak(optimizer) / 1e6
    for name in ("joined", "gathered", "foreach"):
        pairs = zip(models[name], models["PathAdamSAGA"], strict=True)
        result[f"{name}: largest difference"] = max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)
    return result


def _peak(optimizer: Any) -> int:
    """Return the most bytes that a revisit has allocated at a time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step(path_idx=0)
    events: list[Any] = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [event for event in events if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case (default: %(default)s)")


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    cases = []
    for storage in ("float32", "bfloat16", "int8"):
        for kind, n_paths in CASES:
            n = sum(math.prod(shape) for shape in SHAPES[kind])
            case = {"parameters": n, "paths": n_paths, "storage": storage}
            cases.append({**case, **measure(kind, n_paths, storage, options.seconds)})
            print(f"{kind}, {n_paths} paths, {storage}", file=sys.stderr, flush=True)
    return {**provenance(), "cases": cases}


def table(results: dict[str, Any]) -> str:
    """Format a line for each case."""
    rows = [list(results["cases"][0])]
    rows += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in case.values()] for case in results["cases"]]
    return format_table(rows)


main = Program(
    "benchmarks.studies.buckets",
    "Compare three ways to take a step with the rows of small parameters.",
    measure_all,
    table,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
