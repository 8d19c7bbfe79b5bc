"""python -m benchmarks.speed.cuda: a step on a GPU, in time, memory and kernel launches, in one process.

Needs torch and NumPy alone; contenders whose packages are not installed are left out by name. Every function takes
any device, so that tests run the same code on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.measure import peak_memory, time_once
from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import AnswersDiffer, BenchmarkError, format_table, percentiles, relative_distance
from benchmarks.speed.answers import TOLERANCES
from benchmarks.speed.cases import PAPER_SETTINGS, Case, Settings, representative_paths
from benchmarks.speed.contenders import OURS, WITHOUT_PATHS, Contender, build, noise, work

_CONTENDERS = (*OURS, "scrapl-loss", "mss")
_COPIES = ("Memcpy", "Memset")


def count_launches(run: Callable[[], object], device: torch.device) -> dict[str, int]:
    """Kernels, and copies or fills, that one run puts on a GPU; zeros on a CPU, which has none."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as profiler:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    events = [event for event in profiler.events() or [] if event.device_type == DeviceType.CUDA]
    names = [event.name for event in events if not getattr(event, "is_user_annotation", False)]
    copies = sum(name.startswith(_COPIES) for name in names)
    return {"kernels": len(names) - copies, "copies": copies}


def find_sync(run: Callable[[], object], device: torch.device) -> str | None:
    """Find what makes the host wait for the GPU during a run, None if nothing does (or on a CPU)."""
    if device.type != "cuda":
        run()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def measure_case(
    names: Sequence[str], contenders: dict[str, Contender], case: Case, device: torch.device, rounds: int
) -> list[dict[str, Any]]:
    """Time one case of several contenders in turns, then weigh each and count what it launches."""
    runs = {}
    for name in names:
        mine = Case(case.kind, case.settings, case.batch, () if name in WITHOUT_PATHS else case.paths)
        runs[name] = work(contenders[name], mine, device)
        for _ in range(3):  # FFT plans, kernels loaded, blocks cached
            runs[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seconds[name].append(time_once(runs[name], device))
    records = []
    for name in names:
        size, method = peak_memory(runs[name], device)
        record = {"contender": name, "kind": case.kind, "n_samples": case.settings.n_samples, "batch": case.batch}
        record |= {"n_paths": len(case.paths), "path": case.paths[0] if len(case.paths) == 1 else None}
        record |= {"seconds": percentiles(seconds[name], q1=25, q3=75), "bytes": size, "method": method}
        record |= {"launches": count_launches(runs[name], device)}
        record |= {"host_sync": find_sync(runs[name], device)} if name in OURS else {}
        records.append(record)
    return records


def _build_if_installed(name: str, settings: Settings, device: torch.device) -> Contender | str:
    """The contender, or why it cannot take part."""
    try:
        return build(name, settings, device)
    except ImportError as error:
        return str(error)


def largest_difference(found: Contender, expected: Contender, case: Case, device: torch.device) -> float:
    """Largest relative difference over paths of coefficients on `device` to a contender on the CPU."""
    x = noise("signal", case.batch, case.settings.n_samples, torch.device("cpu"))

    def coefficients(contender: Contender, signal: Tensor, path: int) -> Any:
        with torch.no_grad():
            return contender.coefficients(signal, path).cpu().numpy()

    pairs = [(coefficients(found, x.to(device), p), coefficients(expected, x, p)) for p in case.paths]
    return max(relative_distance(a, b) for a, b in pairs)


def measure_device(
    settings: Settings, device: torch.device, *, batches: Sequence[int], rounds: int, names: Sequence[str]
) -> dict[str, Any]:
    """Everything that the result file holds.

    Raises:
        AnswersDiffer: coefficients on the device are not those of the exact transform on the CPU.
    """
    built = {name: _build_if_installed(name, settings, device) for name in names}
    contenders = {name: found for name, found in built.items() if not isinstance(found, str)}
    missing = {name: found for name, found in built.items() if isinstance(found, str)}
    reference = build("exact", settings, torch.device("cpu"))
    chosen = tuple(representative_paths(reference.paths))
    answers = {}
    for name in (name for name in contenders if name not in WITHOUT_PATHS):
        answers[name] = largest_difference(
            contenders[name], reference, Case("forward", settings, 1, chosen), device
        )
        allowed = TOLERANCES["compact" if name.startswith("compact") else "exact"].coefficients
        if not answers[name] <= allowed:
            raise AnswersDiffer(f"{name} on {device} is {answers[name]:.1e} from the exact transform on the CPU")
    records = []
    for batch in batches:
        for path in chosen:
            records += measure_case(
                list(contenders), contenders, Case("step", settings, batch, (path,)), device, rounds
            )
        for n2 in sorted({n2 for n2, _ in reference.paths})[::5]:
            bundle = tuple(path for path, key in enumerate(reference.paths) if key[0] == n2)
            ours = [name for name in contenders if name in OURS]
            records += measure_case(ours, contenders, Case("step", settings, batch, bundle), device, rounds)
    about = provenance(("torch", "numpy", "scrapl-jtfs", "scrapl-loss", "auraloss"), device)
    about["versions"]["cuda"] = torch.version.cuda
    return {
        "about": "One step (loss and gradient) in float32 on one device, contenders in turns in one process.",
        **about,
        "configuration": asdict(settings),
        "left_out": missing,
        "answers": answers,
        "records": records,
    }


def format_results(results: dict[str, Any]) -> str:
    """Means over the single paths, by batch and contender."""
    rows = [["", "batch", "ms", "MiB", "kernels", "copies", "host waits"]]
    singles = [record for record in results["records"] if record["n_paths"] == 1]
    for contender, batch in dict.fromkeys((record["contender"], record["batch"]) for record in singles):
        mine = [record for record in singles if (record["contender"], record["batch"]) == (contender, batch)]
        ms, mib = mean(r["seconds"]["median"] for r in mine) * 1000, mean(r["bytes"] for r in mine) / 2**20
        kernels, copies = (mean(r["launches"][key] for r in mine) for key in ("kernels", "copies"))
        waits = next((record["host_sync"] for record in mine if record.get("host_sync")), "")
        rows.append([contender, str(batch), f"{ms:.3f}", f"{mib:.1f}", f"{kernels:.0f}", f"{copies:.0f}", waits])
    left_out = [f"{name} left out: {why}" for name, why in results["left_out"].items()]
    return "\n".join([format_table(rows), *left_out])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--contenders", nargs="+", choices=_CONTENDERS, default=list(_CONTENDERS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    is_cuda = options.device.type == "cuda"
    if is_cuda and not torch.cuda.is_available():
        raise BenchmarkError("this torch finds no CUDA device; nothing was measured")
    with torch.cuda.device(options.device) if is_cuda else nullcontext():
        return measure_device(
            PAPER_SETTINGS, options.device, batches=(1, 4, 32), rounds=options.rounds, names=options.contenders
        )


main = Program(
    "benchmarks.speed.cuda",
    "Time, weigh and count the launches of a step on a GPU.",
    measure,
    format_results,
    add_options=add_options,
    file="speed_cuda",
)

if __name__ == "__main__":
    sys.exit(main())
