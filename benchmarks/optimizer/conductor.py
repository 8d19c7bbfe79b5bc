"""Measures a plan: answers first, then steps with the contenders taking turns, then memory and drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from math import prod
from typing import Any

from benchmarks.harness.conductor import Conductor
from benchmarks.harness.records import percentiles
from benchmarks.harness.worker import Worker, Workers
from benchmarks.optimizer.contenders import OURS, PEER, TORCH
from benchmarks.optimizer.models import MODELS
from benchmarks.optimizer.plan import ALLOCATORS, Plan, StepCase, Turn, available_bytes, peer_bytes, unfit

_ABOUT = {
    "steps": (
        "Seconds of one step on float32 parameters with constant gradients (noise of 1e-6). kind steady: visits "
        "of paths drawn before, cycling through paths_cycled of them, so that a row is as cold as the others make "
        "it; kind first: first visits, which allocate a row (the first two paths are not counted); kind evicted: "
        "steady, with 128 MiB written before each step, as forward and backward would. Each contender has a "
        "process; all have the same interpreter, torch and cores, one works at a time, and they take turns "
        "(A B C A B C)."
    ),
    PEER: (
        "SCRAPLLoss.grad_hook called for each parameter on a fresh copy of its gradient (copied untimed), as "
        "backward would (checked: the same bits), then torch.optim.SGD(lr).step(). Its transform is left out: "
        "curr_path_idx, path_counts and scrapl_t are set as its forward does, n_paths before attach_params. "
        "Every path counts as drawn and its state is written once before: untouched pages of zeros read cheaply."
    ),
    "allocator": (
        "retaining: MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ of glibc keep freed memory in the process, "
        "so that temporaries of a step (Adam's with foreach are as large as the parameters) are not faulted in "
        "again; default: as the C library comes, where that depends on what was allocated before."
    ),
    "torch": "Adam, AdamW and SGD step with foreach=True; they know no paths and are measured again at each P.",
    "state": "Bytes of all tensors of the state, each storage once, over the number of parameters.",
    "peak": "Peak resident memory in bytes that one step needs above what the process holds before it.",
    "drift": (
        "sum: relative 2-norm distance of the running sum from the float64 sum of the stored rows; mean: of the "
        "running mean from that of a float64 twin. 256 entries, uniform paths, fixed means plus noise."
    ),
}
_TURNS = {"steady": Turn(), "evicted": Turn(evict=True, at_most=4)}  # a sweep takes longer than most steps


@dataclass
class OptimizerConductor(Conductor):
    """The conductor of this benchmark; scrapl-loss alone is asked whether it can take part.

    Args:
        plan: what to measure.
    """

    module = "benchmarks.optimizer.worker"
    about = _ABOUT

    plan: Plan = field(kw_only=True)

    def prepare(self) -> dict[str, Any]:
        names = {case.model for case in self.plan.steps} | {self.plan.state_model, self.plan.peak_model}
        return {
            "units": {"seconds": "s", "bytes": "bytes", "bytes_per_parameter": "bytes"},
            "configuration": {
                "contenders": {
                    **{name: f"torch.optim, {options}" for name, options in TORCH.items()},
                    **{name: f"PathAdamSAGA, {options}" for name, options in OURS.items()},
                    PEER: "gradient hooks of SCRAPLLoss and torch.optim.SGD",
                },
                "models": {name: _describe(model.shapes()) for name, model in MODELS.items() if name in names},
                "turns": {kind: asdict(turn) for kind, turn in _TURNS.items()},
                "cases": [asdict(case) for case in self.plan.steps],
            },
            **{key: [] for key in ("answers", "timings", "does_not_fit", "state", "peak", "drift")},
        }

    def measure(self, section: str) -> None:
        parts = {"answers": self._compare, "state": self._weigh_states, "peak": self._weigh_peaks}
        if section in parts:
            self.workers.close()  # memory is measured with the machine empty
            parts[section]()
        elif section == "drift":
            self._drift()
        else:
            self._time_section(section)

    def _compare(self) -> None:
        for name in self.each(["float32", *self.contenders], "answers"):
            self.results["answers"] += self.workers[name].ask(do="answers")["answers"]

    def _time_section(self, section: str) -> None:
        cases = [case.without(set(self.left_out)) for case in self.plan.steps if case.section == section]
        if not cases:
            return
        threads, environment = cases[0].threads, ALLOCATORS[cases[0].allocator]
        with Workers(lambda name: self.worker(name, threads, environment)) as workers:
            present = {name: workers[name] for case in cases for name in case.contenders}
            for case in self.each(cases, section):
                self._time(present, case)
                self.keep()

    def _time(self, workers: dict[str, Worker], case: StepCase) -> None:
        n_parameters = _n_parameters(case.model)
        for worker in workers.values():  # lets go of the last case, so that what is free is known
            worker.ask(do="build", model="0.1M", n_paths=1, row_budget=0)
        reason = unfit(case, n_parameters, available_bytes()) if PEER in case.contenders else None
        if reason is not None:
            self.results["does_not_fit"].append(
                {"contender": PEER, "model": case.model, "n_paths": case.n_paths, "reason": reason}
                | {"bytes": peer_bytes(n_parameters, case.n_paths)}
            )
            case = case.without({PEER})
        request = {"model": case.model, "n_paths": case.n_paths, "row_budget": case.row_budget}
        built = {name: workers[name].ask(do="build", **request) for name in case.contenders}
        about = {"model": case.model, "n_parameters": n_parameters, "n_paths": case.n_paths}
        about |= {"threads": case.threads, "allocator": case.allocator}
        for (kind, name), seconds in _take_turns(workers, case).items():
            rows = {"paths_cycled": built[name]["drawable"], "row_bytes": built[name]["row_bytes"]}
            record = {"kind": kind, "contender": name, **about, **rows}
            if seconds:
                record["seconds"] = percentiles(seconds, p10=10, p90=90)
                self.results["timings"].append(record)

    def _weigh_states(self) -> None:
        present = {name: drawn for name, drawn in self.plan.state.items() if name not in self.left_out}
        about = {"model": self.plan.state_model, "n_paths": self.plan.state_paths}
        for name, drawn in self.each(present.items(), "state"):
            with self.worker(name) as worker:
                sizes = worker.ask(do="state", **about, drawn=drawn)["bytes"]
            for k, size in zip(drawn, sizes, strict=True):
                record = {"contender": name, **about, "drawn": k, "bytes": size}
                record["bytes_per_parameter"] = size / _n_parameters(self.plan.state_model)
                self.results["state"].append(record)

    def _weigh_peaks(self) -> None:
        for name, earlier in self.each(self.plan.peak, "peak"):
            request = {"model": self.plan.peak_model, "n_paths": 315, "earlier_steps": earlier}
            with self.worker(name) as worker:
                record = {"contender": name, **request, **worker.ask(do="peak", **request)}
            record["bytes_per_parameter"] = record["bytes"] / _n_parameters(self.plan.peak_model)
            self.results["peak"].append(record)

    def _drift(self) -> None:
        marks = list(pairwise((0, *self.plan.drift_marks)))
        for n_paths, path_adam in self.each(self.plan.drift, "drift"):
            for before, mark in marks:
                request = {"n_paths": n_paths, "path_adam": path_adam, "steps": mark - before}
                self.results["drift"].append({**request, **self.workers["float32"].ask(do="drift", **request)})
            self.keep()


def _take_turns(workers: dict[str, Worker], case: StepCase) -> dict[tuple[str, str], list[float]]:
    """Seconds of each kind of step and contender: first visits, steady steps, steps with swept caches."""
    samples: dict[tuple[str, str], list[float]] = {}
    lazy = [name for name in case.contenders if name in OURS]
    while lazy:
        for name in list(lazy):
            reply = workers[name].ask(do="first", seconds=0.25)
            samples.setdefault(("first", name), []).extend(reply["seconds"])
            if not reply["left"]:
                lazy.remove(name)
    for kind, rounds in (("steady", case.rounds), ("evicted", case.evicted_rounds)):
        for turn in range(rounds):
            for name in case.contenders:
                if name == PEER and turn % 2 and rounds > 4:
                    continue  # its steps take so long that half the turns must do
                wanted = _TURNS[kind] if name != PEER else replace(_TURNS[kind], at_least=1)
                reply = workers[name].ask(do="steps", turn=asdict(wanted))
                samples.setdefault((kind, name), []).extend(reply["seconds"])
    return samples


def _n_parameters(model: str) -> int:
    return sum(prod(shape) for shape in MODELS[model].shapes())


def _describe(shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    return {
        "n_parameters": sum(prod(s) for s in shapes),
        "n_tensors": len(shapes),
        "shapes": [list(s) for s in shapes],
    }
