"""Runs a plan: answers first, then steps with the contenders taking turns, then memory and drift."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

from ..speed.processes import Worker, cores_for
from .contenders import OURS, PEER, TORCH
from .models import MODELS
from .plan import STEP_SECTIONS, Plan, StepCase, Turn, available_bytes, peer_bytes, unfit
from .workers import OptimizerWorker

__all__ = ["Conductor", "spread"]

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
class Conductor:
    """Holds what a run has found so far.

    Args:
        python: interpreter of the workers.
        plan: what to measure.
        sections: names of what is measured, of `plan.SECTIONS`.
        quick: whether the plan is the small selection.
        partial: where to keep what there is after each part.
    """

    python: str
    plan: Plan
    sections: Sequence[str]
    quick: bool
    partial: Path | None = None
    results: dict[str, Any] = field(default_factory=dict)
    _missing: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Measure everything; returns the content of the result file, without ratios.

        Raises:
            WorkerError: a worker failed, or answers differ.
            ValueError: the machine has too little memory.
        """
        self.results = self._header()
        with tqdm(total=self._n_parts(), unit="part", dynamic_ncols=True) as bar:
            self._compare(bar)
            for section in STEP_SECTIONS:
                with self._workers(section) as workers:
                    for case in self._cases(section):
                        self._time(workers, case, bar)
            self._weigh_states(bar)  # memory is measured with the machine empty
            self._weigh_peaks(bar)
            self._drift(bar)
        self.results["complete"] = True
        return self.results

    @contextmanager
    def _workers(self, section: str) -> Iterator[dict[str, Worker]]:
        """Processes for those who take part in a section, closed together."""
        workers: dict[str, Worker] = {}
        names = {name: case for case in self._cases(section) for name in case.contenders}
        try:
            for name, case in names.items():
                workers[name] = OptimizerWorker(self.python, name, case.threads, case.allocator)
            yield workers
        finally:
            for worker in workers.values():
                worker.close()

    def _cases(self, section: str) -> list[StepCase]:
        if section not in self.sections:
            return []
        return [case.without(self._missing) for case in self.plan.steps if case.section == section]

    def _n_parts(self) -> int:
        return (
            ("answers" in self.sections)
            + sum(len(self._cases(section)) for section in STEP_SECTIONS)
            + len(self.plan.state) * ("state" in self.sections)
            + len(self.plan.peak) * ("peak" in self.sections)
            + len(self.plan.drift) * len(self.plan.drift_marks) * ("drift" in self.sections)
        )

    def _header(self) -> dict[str, Any]:
        with OptimizerWorker(self.python, PEER) as worker:
            hello = worker.ask(do="hello")
        if hello["missing"] is not None:
            self._missing.add(PEER)
        names = {m for case in self.plan.steps for m in (case.model,)} | {
            self.plan.state_model,
            self.plan.peak_model,
        }
        models = [model for name, model in MODELS.items() if name in names]
        return {
            "about": _ABOUT,
            "complete": False,
            "quick": self.quick,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": {
                **machine(torch.device("cpu")),
                "threads": "1, and 2 where a record says so",
                "worker_cores": cores_for(1),
                "load_average_at_start": list(os.getloadavg()),
            },
            "versions": {
                "conductor": versions(("torch", "numpy", "scrapl-jtfs", "matplotlib")),
                "workers": hello["versions"],
            },
            "units": {"seconds": "s", "bytes": "bytes", "bytes_per_parameter": "bytes"},
            "left_out": {PEER: hello["missing"]} if hello["missing"] is not None else {},
            "configuration": {
                "contenders": {
                    **{name: f"torch.optim, {options}" for name, options in TORCH.items()},
                    **{name: f"PathAdamSAGA, {options}" for name, options in OURS.items()},
                    PEER: "gradient hooks of SCRAPLLoss and torch.optim.SGD",
                },
                "models": {model.name: _describe(model.shapes()) for model in models},
                "turns": {kind: asdict(turn) for kind, turn in _TURNS.items()},
                "cases": [asdict(case) for case in self.plan.steps],
            },
            "answers": [],
            "timings": [],
            "does_not_fit": [],
            "state": [],
            "peak": [],
            "drift": [],
        }

    def _compare(self, bar: "tqdm[Any]") -> None:
        if "answers" not in self.sections:
            return
        bar.set_description("answers")
        for name in ("float32", PEER):
            if name not in self._missing:
                with OptimizerWorker(self.python, name) as worker:
                    self.results["answers"] += worker.ask(do="answers")["answers"]
        self._keep(bar)

    def _time(self, workers: dict[str, Worker], case: StepCase, bar: "tqdm[Any]") -> None:
        n_parameters = sum(prod(shape) for shape in MODELS[case.model].shapes())
        label = f"{case.model}, P={case.n_paths}, {case.threads} thread{'s' * (case.threads > 1)}"
        for worker in workers.values():  # lets go of the last case, so that what is free is known
            worker.ask(do="build", model="0.1M", n_paths=1, row_budget=0)
        reason = unfit(case, n_parameters, available_bytes()) if PEER in case.contenders else None
        if reason is not None:
            self.results["does_not_fit"].append(
                {"contender": PEER, "model": case.model, "n_paths": case.n_paths, "reason": reason}
                | {"bytes": peer_bytes(n_parameters, case.n_paths)}
            )
            case = case.without({PEER})
        built = {}
        bar.set_description(f"{label}: build")
        for name in case.contenders:
            request = {"model": case.model, "n_paths": case.n_paths, "row_budget": case.row_budget}
            built[name] = workers[name].ask(do="build", **request)
        samples = self._take_turns(workers, case, label, bar)
        self.results["timings"] += [
            {
                "kind": kind,
                "contender": name,
                "model": case.model,
                "n_parameters": n_parameters,
                "n_paths": case.n_paths,
                "threads": case.threads,
                "allocator": case.allocator,
                "paths_cycled": built[name]["drawable"],
                "row_bytes": built[name]["row_bytes"],
                "seconds": spread(seconds),
            }
            for (kind, name), seconds in samples.items()
            if seconds
        ]
        self._keep(bar)

    def _take_turns(
        self, workers: dict[str, Worker], case: StepCase, label: str, bar: "tqdm[Any]"
    ) -> dict[tuple[str, str], list[float]]:
        samples: dict[tuple[str, str], list[float]] = {}
        lazy = [name for name in case.contenders if name in OURS]
        bar.set_description(f"{label}: first visits")
        while lazy:
            for name in list(lazy):
                reply = workers[name].ask(do="first", seconds=0.25)
                samples.setdefault(("first", name), []).extend(reply["seconds"])
                if not reply["left"]:
                    lazy.remove(name)
        for kind, rounds in (("steady", case.rounds), ("evicted", case.evicted_rounds)):
            bar.set_description(f"{label}: {kind}")
            for turn in range(rounds):
                for name in case.contenders:
                    if name == PEER and turn % 2 and rounds > 4:
                        continue  # its steps take so long that half the turns must do
                    wanted = _TURNS[kind] if name != PEER else replace(_TURNS[kind], at_least=1)
                    reply = workers[name].ask(do="steps", turn=asdict(wanted))
                    samples.setdefault((kind, name), []).extend(reply["seconds"])
        return samples

    def _weigh_states(self, bar: "tqdm[Any]") -> None:
        if "state" not in self.sections:
            return
        n_parameters = sum(prod(shape) for shape in MODELS[self.plan.state_model].shapes())
        for name, drawn in self.plan.state.items():
            if name not in self._missing:
                bar.set_description(f"state: {name}")
                request = {"model": self.plan.state_model, "n_paths": self.plan.state_paths, "drawn": drawn}
                with OptimizerWorker(self.python, name) as worker:
                    sizes = worker.ask(do="state", **request)["bytes"]
                self.results["state"] += [
                    {"contender": name, "model": self.plan.state_model, "n_paths": self.plan.state_paths}
                    | {"drawn": k, "bytes": size, "bytes_per_parameter": size / n_parameters}
                    for k, size in zip(drawn, sizes, strict=True)
                ]
            self._keep(bar)

    def _weigh_peaks(self, bar: "tqdm[Any]") -> None:
        if "peak" not in self.sections:
            return
        n_parameters = sum(prod(shape) for shape in MODELS[self.plan.peak_model].shapes())
        for name, earlier in self.plan.peak:
            bar.set_description(f"peak: {name}")
            request = {"model": self.plan.peak_model, "n_paths": 315, "earlier_steps": earlier}
            with OptimizerWorker(self.python, name) as worker:
                reply = worker.ask(do="peak", **request)
            per_parameter = reply["bytes"] / n_parameters
            self.results["peak"].append(
                {"contender": name, **request, **reply, "bytes_per_parameter": per_parameter}
            )
            self._keep(bar)

    def _drift(self, bar: "tqdm[Any]") -> None:
        if "drift" not in self.sections:
            return
        with OptimizerWorker(self.python, "float32") as worker:
            for n_paths, path_adam in self.plan.drift:
                for before, mark in pairwise((0, *self.plan.drift_marks)):
                    bar.set_description(f"drift: P={n_paths}, P-Adam {'on' if path_adam else 'off'}, {mark} steps")
                    request = {"n_paths": n_paths, "path_adam": path_adam, "steps": mark - before}
                    reply = worker.ask(do="drift", **request)
                    self.results["drift"].append({**request, **reply})
                    self._keep(bar)

    def _keep(self, bar: "tqdm[Any]") -> None:
        bar.update()
        if self.partial is not None:
            write_text(self.partial, json.dumps(self.results, indent=1) + "\n")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile and number of some timings."""
    p10, median, p90 = np.percentile(np.asarray(values, dtype=float), [10, 50, 90]).tolist()
    return {"median": median, "p10": p10, "p90": p90, "n": len(values)}


def _describe(shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    return {
        "n_parameters": sum(prod(s) for s in shapes),
        "n_tensors": len(shapes),
        "shapes": [list(s) for s in shapes],
    }
