"""The shares of a step's time: python -m benchmarks.speed.breakdown writes results/speed_profile.json."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.speed.cases import PAPER_SETTINGS, Case
from benchmarks.speed.contenders import OURS, build, work
from scrapl_jtfs._transform.layer import _ScatteringLayer

_GROUPS = {
    "FFT": ("aten::_fft_c2r", "aten::_fft_r2c"),
    "matrix products": ("aten::bmm", "aten::mm", "aten::baddbmm_"),
    "modulus and elementwise products": (
        *("aten::mul", "aten::mul_", "aten::div", "aten::div_", "aten::sqrt_", "aten::addcmul_"),
        *("aten::add", "aten::add_", "aten::sub", "aten::threshold_", "aten::sum"),
    ),
    "fills and copies": ("aten::fill_", "aten::copy_", "aten::cat", "aten::flip"),
    "autograd functions in Python": (_ScatteringLayer.__name__, f"{_ScatteringLayer.__name__}Backward"),
}


def breakdown(name: str, path: int, steps: int = 3) -> dict[str, Any]:
    """Profile steps of one path: shares of self time by kind of operation, and FFT calls a step.

    The profiler's own cost, some microseconds an operation, is in the shares of small operations.
    """
    device = torch.device("cpu")
    step = work(build(name, PAPER_SETTINGS, device), Case("step", PAPER_SETTINGS, 4, (path,)), device)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    spent: Counter[str] = Counter()
    calls = 0
    groups = {operation: group for group, operations in _GROUPS.items() for operation in operations}
    for event in profiler.key_averages():
        spent[groups.get(event.key, "everything else")] += round(event.self_cpu_time_total)
        calls += event.count if event.key in _GROUPS["FFT"] else 0
    total = sum(spent.values())
    shares = {group: round(time / total, 3) for group, time in spent.most_common()}
    return {"contender": name, "path": path, "shares": shares, "fft_calls_per_step": calls / steps}


def measure(options: object) -> dict[str, Any]:
    """Profile a path of fast, medium and slow modulations in each discretisation."""
    profiles = [breakdown(name, path) for name in OURS for path in (10, 100, 290)]
    return {**provenance(("torch", "numpy")), "profiles": profiles}


main = Program(
    "benchmarks.speed.breakdown",
    "Profile steps of single paths: shares of time by kind of operation.",
    measure,
    lambda results: json.dumps(results["profiles"], indent=1),
    file="speed_profile",
)

if __name__ == "__main__":
    sys.exit(main())
