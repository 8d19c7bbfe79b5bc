"""Seconds and peak memory of one piece of work."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def time_once(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run: by the wall clock on a CPU, between two events on a GPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    before.record()
    run()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1000


def wake_libraries() -> None:
    """Load what torch loads at first use (FFT, BLAS, autograd), so that it does not count as a step's memory."""
    x = torch.ones(4, 64, requires_grad=True)
    (torch.fft.irfft(torch.fft.rfft(x)) @ x.T).square().sum().backward()


def peak_memory(run: Callable[[], object], device: torch.device) -> tuple[int, str]:
    """Peak memory in bytes that one run needs above what the process holds before it, and how it was measured.

    On a GPU it is torch's own peak of allocated memory. On a CPU it is resident memory, which means something only
    in a process that did no such work before: memory that an allocator kept from earlier work is reused without
    being counted. Hence a fresh process for each figure; what construction freed is handed back first
    (malloc_trim), allocators are otherwise as they come. The high-water mark VmHWM is reset through
    /proc/self/clear_refs and read after the run, less the resident memory VmRSS before it. Where it cannot be
    reset, getrusage's maximum stands in; it includes construction, so the result is an upper bound.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before, "torch.cuda.max_memory_allocated"
    return_freed_memory()
    if _reset_high_water_mark():
        before = _status_bytes("VmRSS")
        run()
        return _status_bytes("VmHWM") - before, "VmHWM after reset, less VmRSS before"
    before = _status_bytes("VmRSS") if _STATUS.exists() else _maximum_resident()
    run()
    return _maximum_resident() - before, "ru_maxrss, less resident memory before (upper bound)"


def return_freed_memory() -> None:
    """Hand freed pages back to the system: what runs next would find them there and not fault them in again."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _STATUS.exists()


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{_STATUS} has no {field}")


def _maximum_resident() -> int:
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else 1024 * maximum
