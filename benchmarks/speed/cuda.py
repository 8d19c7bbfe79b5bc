"""python -m benchmarks.speed.cuda: steps on a GPU, in time, memory and kernel launches, in one process.

Needs torch and NumPy alone; contenders whose packages are not installed are left out by name. Every function takes
any device, so that tests run the same code on a CPU. A call takes less than eight minutes: what was not begun when
--seconds are over is left out.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.dispatches import count_dispatches
from benchmarks.harness.measure import peak_memory, time_once
from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import AnswersDiffer, BenchmarkError, format_table, percentiles, relative_distance
from benchmarks.speed.answers import TOLERANCES, tolerance_name
from benchmarks.speed.cases import PAPER_SETTINGS, Case, Settings, representative_paths
from benchmarks.speed.contenders import LITERAL, OURS, WITHOUT_PATHS, Contender, build, noise, work
from benchmarks.speed.optimizers import optimizer_steps

_TREE = "kymatio"  # has the whole tree alone
_CONTENDERS = (*OURS, "scrapl-loss", "mss", _TREE)
_COPIES = ("Memcpy", "Memset")
_ABOUT = (
    "Work in float32 on one device, contenders in turns in one process. step: loss and its gradient; tree: energy "
    "of all coefficients and its gradient; optimizer: a step for the paper's encoder. launches: what a profiler "
    "sees on a GPU; dispatches: calls of ATen, the bytes of the tensors that these read or write, and which of "
    "them the host waits for; host_sync: the first wait that torch.cuda.set_sync_debug_mode finds."
)


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


def measure_in_turns(
    runs: Mapping[str, Callable[[], object]], about: dict[str, Any], device: torch.device, rounds: int
) -> list[dict[str, Any]]:
    """Time the same work of several contenders in turns, then weigh each and count what it launches.

    Args:
        runs: the work of each contender.
        about: fields of every record.
        device: where they work.
        rounds: turns of each.

    Returns:
        A record for each contender; of one for which the device's memory was not enough, only that.
    """
    failed = {name for name, run in runs.items() if not _warm_up(run)}
    able = {name: run for name, run in runs.items() if name not in failed}
    seconds: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds):
        for name, run in able.items():
            seconds[name].append(time_once(run, device))
    records: list[dict[str, Any]] = [{"contender": name, **about, "out_of_memory": True} for name in failed]
    for name, run in able.items():
        size, method = peak_memory(run, device)
        record = {"contender": name, **about, "seconds": percentiles(seconds[name], q1=25, q3=75)}
        record |= {"bytes": size, "method": method, "launches": count_launches(run, device)}
        record |= {"dispatches": count_dispatches(run), "host_sync": find_sync(run, device)}
        records.append(record)
    return records


def _warm_up(run: Callable[[], object]) -> bool:
    """Have FFT plans made, kernels loaded and blocks cached; False if the memory is not enough."""
    try:
        for _ in range(3):
            run()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


class Built(NamedTuple):
    """The contenders that could be built.

    Attributes:
        paths: those for single paths and bundles.
        trees: those for the whole tree.
        left_out: why others take no part.
    """

    paths: dict[str, Contender]
    trees: dict[str, Contender]
    left_out: dict[str, str]


def build_all(names: Sequence[str], settings: Settings, device: torch.device) -> Built:
    """Build contenders for what they take part in, but for those whose packages are not installed."""
    built = Built({}, {}, {})

    def add(contenders: dict[str, Contender], name: str, whole: bool) -> None:
        try:
            contenders[name] = build(name, settings, device, whole=whole)
        except ImportError as error:
            built.left_out[name] = str(error)

    for name in names:
        if name != _TREE:
            add(built.paths, name, False)
        if name in (*OURS, _TREE):
            add(built.trees, name, True)
    return built


def largest_difference(found: Contender, expected: Contender, case: Case, device: torch.device) -> float:
    """Largest relative difference over paths of coefficients on `device` to a contender on the CPU."""
    x = noise("signal", case.batch, case.settings.n_samples, torch.device("cpu"))

    def coefficients(contender: Contender, signal: Tensor, path: int) -> Any:
        with torch.no_grad():
            return contender.coefficients(signal, path).cpu().numpy()

    pairs = [(coefficients(found, x.to(device), p), coefficients(expected, x, p)) for p in case.paths]
    return max(relative_distance(a, b) for a, b in pairs)


def check_answers(
    contenders: dict[str, Contender], settings: Settings, paths: Sequence[int], device: torch.device
) -> dict[str, float]:
    """Compare coefficients on the device with the CPU's: of the literal transform where the boundary is even.

    Raises:
        AnswersDiffer: they are too far away.
    """
    cpu, answers = torch.device("cpu"), {}
    references: dict[str, Contender] = {}
    for name in (name for name in contenders if name not in WITHOUT_PATHS):
        is_even = OURS.get(name, {}).get("boundary") == "even"
        reference = LITERAL if is_even else "exact"
        expected = references.setdefault(reference, build(reference, settings, cpu))
        case = Case(
            "forward", settings, 1, tuple(paths[::4] if is_even else paths)
        )  # the literal one takes seconds
        answers[name] = largest_difference(contenders[name], expected, case, device)
        allowed = TOLERANCES[tolerance_name(name, reference)].coefficients
        if not answers[name] <= allowed:
            raise AnswersDiffer(f"{name} on {device} is {answers[name]:.1e} from {reference} on the CPU")
    return answers


def make_cases(table: Sequence[tuple[int, int]], settings: Settings, batches: Sequence[int]) -> list[Case]:
    """List what is measured, what matters most first: the time may not be enough for all of it."""
    cases = [Case("tree", settings, 1)]
    for batch in batches:
        cases += [Case("step", settings, batch, (path,)) for path in representative_paths(table)[::2]]
    for n2 in sorted({n2 for n2, _ in table})[::5]:
        bundle = tuple(path for path, key in enumerate(table) if key[0] == n2)
        cases.append(Case("step", settings, batches[0], bundle))
    return cases


def measure_case(built: Built, case: Case, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """Measure a case with those who take part in it; bundles are ours alone."""
    contenders = built.trees if case.kind == "tree" else built.paths
    runs: dict[str, Callable[[], object]] = {}
    for name, contender in contenders.items():
        if name in OURS or len(case.paths) <= 1:
            mine = replace(case, paths=()) if name in WITHOUT_PATHS else case
            runs[name] = work(contender, mine, device)
    about = {"kind": case.kind, "n_samples": case.settings.n_samples, "batch": case.batch}
    about |= {"n_paths": len(case.paths), "path": case.paths[0] if len(case.paths) == 1 else None}
    return measure_in_turns(runs, about, device, min(rounds, 3) if case.kind == "tree" else rounds)


def measure_device(
    settings: Settings,
    device: torch.device,
    *,
    batches: Sequence[int],
    rounds: int,
    names: Sequence[str],
    seconds: float = math.inf,
) -> dict[str, Any]:
    """Everything that the result file holds.

    Args:
        settings: of the transform.
        device: where all contenders work.
        batches: of single steps; bundles have the first.
        rounds: turns of each contender at each case.
        names: contenders.
        seconds: no case is begun later than this after the start.

    Raises:
        AnswersDiffer: coefficients on the device are not those of the CPU.
    """
    started, table = time.monotonic(), build("exact", settings, torch.device("cpu")).paths
    built = build_all(names, settings, device)
    answers = check_answers(built.paths, settings, representative_paths(table), device)
    about: dict[str, Any] = {"kind": "optimizer", "n_paths": len(table)}
    records = measure_in_turns(optimizer_steps(len(table), device), about, device, rounds)
    cases = make_cases(table, settings, batches)
    while cases and time.monotonic() - started < seconds:
        records += measure_case(built, cases.pop(0), device, rounds)
    about = provenance(("torch", "numpy", "scrapl-jtfs", "scrapl-loss", "auraloss"), device)
    about["versions"]["cuda"] = torch.version.cuda
    return {
        "about": _ABOUT,
        **about,
        "configuration": asdict(settings),
        "left_out": built.left_out,
        "cases_left_out": len(cases),
        "answers": answers,
        "records": records,
    }


def format_results(results: dict[str, Any]) -> str:
    """Means over the cases of one kind, by contender."""
    rows = [["", "work", "batch", "ms", "MiB", "kernels", "copies", "calls", "MiB read and written", "host waits"]]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in results["records"]:
        work_ = "bundle" if record["kind"] == "step" and record["n_paths"] > 1 else record["kind"]
        groups.setdefault((work_, str(record.get("batch", "")), record["contender"]), []).append(record)
    for (kind, batch, contender), found in groups.items():
        mine = [record for record in found if "seconds" in record]
        if not mine:
            rows.append([contender, kind, batch, *[""] * 6, "out of memory"])
            continue
        ms, mib = mean(r["seconds"]["median"] for r in mine) * 1000, mean(r["bytes"] for r in mine) / 2**20
        kernels, copies = (mean(r["launches"][key] for r in mine) for key in ("kernels", "copies"))
        calls, touched = (mean(r["dispatches"][key] for r in mine) for key in ("launches", "bytes"))
        waits = next((record["host_sync"] for record in mine if record["host_sync"]), "")
        numbers = [f"{ms:.3f}", f"{mib:.1f}", f"{kernels:.0f}", f"{copies:.0f}", f"{calls:.0f}"]
        rows.append([contender, kind, batch, *numbers, f"{touched / 2**20:.1f}", waits])
    left_out = [f"{name} left out: {why}" for name, why in results["left_out"].items()]
    if results["cases_left_out"]:
        left_out.append(f"{results['cases_left_out']} cases left out: the time was up")
    return "\n".join([format_table(rows), *left_out])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=400.0, help="begin nothing later (default: %(default)s)")
    parser.add_argument("--contenders", nargs="+", choices=_CONTENDERS, default=list(_CONTENDERS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    is_cuda = options.device.type == "cuda"
    if is_cuda and not torch.cuda.is_available():
        raise BenchmarkError("this torch finds no CUDA device; nothing was measured")
    with torch.cuda.device(options.device) if is_cuda else nullcontext():
        return measure_device(
            PAPER_SETTINGS,
            options.device,
            batches=(4, 1, 32),
            rounds=options.rounds,
            names=options.contenders,
            seconds=options.seconds,
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
