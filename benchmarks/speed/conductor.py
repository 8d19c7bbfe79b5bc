"""Runs a plan: answers first, then sections with the contenders taking turns, then memory in fresh processes."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

from .answers import TOLERANCES, compare_contenders
from .cases import PAPER_SETTINGS, Case
from .contenders import CONTENDERS, OURS, WITHOUT_PATHS
from .plan import Plan, Section, make_plan
from .processes import Worker, Workers, cores_for
from .summary import spread

__all__ = ["Conductor", "turns"]

_ABOUT = (
    "Seconds and bytes of one piece of work in single precision on white noise. step: loss and its gradient with "
    "respect to the signal, target without gradient; forward: the loss alone; hvp: a Hessian-vector product of "
    "the loss; tree: energy of all coefficients and its gradient, orders 1 and 2 (kymatio: and 0). Each contender "
    "has a process; all have the same interpreter, torch and cores, one works at a time, and they take turns "
    "(A B C A B C)."
)


@dataclass
class Conductor:
    """Holds what a run has found so far.

    Args:
        python: interpreter of the workers.
        contenders: who takes part.
        sections: names of what is measured.
        quick: the small selection.
        partial: where to keep what there is after each section.
    """

    python: str
    contenders: Sequence[str]
    sections: Sequence[str]
    quick: bool
    partial: Path | None = None
    results: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure everything; returns the content of the result file, without ratios.

        Raises:
            AnswersDiffer: contenders disagree.
            WorkerError: one of them failed.
        """
        with Workers(self.python, threads=1) as workers:
            table, missing = self._introduce(workers)
            plan = make_plan(table, quick=self.quick)
            self.results = self._header(workers, table, missing, plan)
            with tqdm(total=self._n_turns(plan), unit="turn", dynamic_ncols=True) as bar:
                self._compare(workers, plan, bar)
                for section in plan.sections:
                    self._time(workers, section, table, bar)
                workers.close()  # memory is measured with the machine empty
                self._weigh(plan, table, bar)
        self.results["complete"] = True
        return self.results

    def _introduce(self, workers: Workers) -> tuple[list[tuple[int, int]], dict[str, str]]:
        """Leave out, by name, who cannot take part; returns the table of paths and the reasons."""
        hello = {name: workers[name].ask(do="hello") for name in self.contenders}
        missing = {name: reply["missing"] for name, reply in hello.items() if reply["missing"] is not None}
        workers.close(missing)
        self.contenders = [name for name in self.contenders if name not in missing]
        teller = next((name for name in self.contenders if name not in WITHOUT_PATHS), None)
        if teller is None:
            raise ValueError(f"nobody with paths takes part (missing: {missing})")
        reply = workers[teller].ask(do="paths", settings=asdict(PAPER_SETTINGS))
        return [(n2, n_fr) for n2, n_fr in reply["paths"]], missing

    def _header(
        self, workers: Workers, table: Sequence[tuple[int, int]], missing: dict[str, str], plan: Plan
    ) -> dict[str, Any]:
        return {
            "about": _ABOUT,
            "complete": False,
            "quick": self.quick,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": {
                **machine(torch.device("cpu")),
                "threads": "1, and 2 in section threads",
                "worker_cores": cores_for(1),
                "load_average_at_start": list(os.getloadavg()),
            },
            "versions": {
                "conductor": versions(("torch", "numpy", "scrapl-jtfs", "matplotlib")),
                "workers": workers[self.contenders[0]].ask(do="hello")["versions"],
            },
            "contenders": list(self.contenders),
            "oversampling": OURS,
            "left_out": missing,
            "configuration": asdict(PAPER_SETTINGS),
            "n_paths": len(table),
            "representative_paths": [
                {"path": path, "n2": table[path][0], "n_fr": table[path][1]} for path in plan.paths
            ],
            "tolerances": {name: asdict(tolerance) for name, tolerance in TOLERANCES.items()},
            "answers": [],
            "timings": [],
            "memory": [],
        }

    def _wanted(self, section: str) -> bool:
        return section in self.sections

    def _n_turns(self, plan: Plan) -> int:
        sections = [self._with_present(section) for section in plan.sections if self._wanted(section.name)]
        return (
            sum(section.n_turns for section in sections)
            + (len(self._comparisons(plan)) if self._wanted("answers") else 0)
            + (len(self._memory_cases(plan)) if self._wanted("memory") else 0)
        )

    def _comparisons(self, plan: Plan) -> list[tuple[str, str, Case]]:
        return [entry for entry in plan.comparisons if {entry[0], entry[1]} <= set(self.contenders)]

    def _memory_cases(self, plan: Plan) -> list[tuple[str, Case]]:
        return [entry for entry in plan.memory if entry[0] in self.contenders]

    def _with_present(self, section: Section) -> Section:
        rounds = {name: n for name, n in section.rounds.items() if name in self.contenders}
        return replace(section, rounds=rounds)

    def _compare(self, workers: Workers, plan: Plan, bar: "tqdm[Any]") -> None:
        for contender, reference, case in self._comparisons(plan) if self._wanted("answers") else []:
            bar.set_description(f"answers of {contender}")
            found = compare_contenders(workers, contender, reference, case)
            self.results["answers"] += [{"kind": case.kind, **asdict(difference)} for difference in found]
            bar.update()
        self._keep()

    def _time(
        self, workers: Workers, section: Section, table: Sequence[tuple[int, int]], bar: "tqdm[Any]"
    ) -> None:
        section = self._with_present(section)
        if not self._wanted(section.name) or not section.rounds:
            return
        if section.threads == workers.threads:
            self._take_turns(workers, section, table, bar)
        else:
            with Workers(self.python, section.threads) as others:
                self._take_turns(others, section, table, bar)
        self._keep()

    def _take_turns(
        self, workers: Workers, section: Section, table: Sequence[tuple[int, int]], bar: "tqdm[Any]"
    ) -> None:
        samples: dict[tuple[str, Case], list[float]] = {}
        for contender, case in turns(section):
            bar.set_description(f"{section.name}: {contender}")
            reply = workers[contender].ask(
                do="time", case=case.to_json(), repeat=section.repeat.get(contender, 1), warm=section.warm
            )
            samples.setdefault((contender, case), []).extend(reply["seconds"])
            bar.update()
        self.results["timings"] += [
            {
                "section": section.name,
                "threads": section.threads,
                **describe(contender, case, table),
                "seconds": spread(seconds),
            }
            for (contender, case), seconds in samples.items()
        ]

    def _weigh(self, plan: Plan, table: Sequence[tuple[int, int]], bar: "tqdm[Any]") -> None:
        for contender, case in self._memory_cases(plan) if self._wanted("memory") else []:
            bar.set_description(f"memory: {contender}")
            with Worker(self.python, contender) as worker:
                reply = worker.ask(do="memory", case=case.to_json())
            self.results["memory"].append({**describe(contender, case, table), **reply})
            bar.update()
        self._keep()

    def _keep(self) -> None:
        if self.partial is not None:
            write_text(self.partial, json.dumps(self.results, indent=1) + "\n")


def turns(section: Section) -> Iterator[tuple[str, Case]]:
    """Who works on what, in order: rounds over the cases, and at each case the contenders in turn."""
    for turn in range(max(section.rounds.values(), default=0)):
        for case in section.cases:
            for contender in sorted(section.rounds, key=CONTENDERS.index):
                if turn < section.rounds[contender]:
                    # Without paths every path is the same case, so that its samples come together.
                    yield contender, replace(case, paths=()) if contender in WITHOUT_PATHS else case


def describe(contender: str, case: Case, table: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """A case as fields of a record."""
    temporal = {table[path][0] for path in case.paths}
    return {
        "contender": contender,
        "kind": case.kind,
        "n_samples": case.settings.n_samples,
        "batch": case.batch,
        "n_paths": len(case.paths),
        "path": case.paths[0] if len(case.paths) == 1 else None,
        "n2": temporal.pop() if len(temporal) == 1 else None,
        "n_fr": table[case.paths[0]][1] if len(case.paths) == 1 else None,
    }
