"""Measures a plan: answers, then sections with the contenders taking turns, then memory in fresh processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from benchmarks.harness.conductor import Conductor
from benchmarks.harness.dispatches import count_dispatches
from benchmarks.harness.records import percentiles
from benchmarks.harness.worker import Workers
from benchmarks.speed.answers import TOLERANCES, compare_contenders
from benchmarks.speed.cases import PAPER_SETTINGS, Case
from benchmarks.speed.contenders import CONTENDERS, OURS, WITHOUT_PATHS
from benchmarks.speed.optimizers import optimizer_steps
from benchmarks.speed.plan import Plan, Section, make_plan

_ABOUT = (
    "Seconds and bytes of one piece of work in single precision on white noise. construction: the transform "
    "from its settings; step: loss and its gradient with respect to the signal, target without gradient; "
    "forward: the loss alone; hvp: a Hessian-vector product of the loss; tree: energy of all coefficients and "
    "its gradient, orders 1 and 2 (kymatio: and 0). Each contender has a process; all have the same "
    "interpreter, torch and cores, one works at a time, and they take turns (A B C A B C). dispatches: calls "
    "of ATen that compute or copy, which a GPU would launch, the bytes of the tensors that they read or "
    "write, and calls for which its host would wait."
)


@dataclass
class SpeedConductor(Conductor):
    """The conductor of this benchmark; who has paths tells which there are."""

    module = "benchmarks.speed.worker"
    about = _ABOUT

    plan: Plan = field(init=False)
    table: list[tuple[int, int]] = field(init=False)

    def prepare(self) -> dict[str, Any]:
        teller = next((name for name in self.contenders if name not in WITHOUT_PATHS), None)
        if teller is None:
            raise ValueError(f"nobody with paths takes part (missing: {self.left_out})")
        reply = self.workers[teller].ask(do="paths", settings=asdict(PAPER_SETTINGS))
        self.table = [(n2, n_fr) for n2, n_fr in reply["paths"]]
        self.plan = make_plan(self.table, quick=self.quick)
        return {
            "contenders": list(self.contenders),
            "options": OURS,
            "configuration": asdict(PAPER_SETTINGS),
            "n_paths": len(self.table),
            "representative_paths": [
                {"path": path, "n2": self.table[path][0], "n_fr": self.table[path][1]} for path in self.plan.paths
            ],
            "tolerances": {name: asdict(tolerance) for name, tolerance in TOLERANCES.items()},
            "answers": [],
            "timings": [],
            "dispatches": [],
            "memory": [],
        }

    def measure(self, section: str) -> None:
        if section == "answers":
            self._compare()
        elif section == "memory":
            self.workers.close()  # memory is measured with the machine empty
            self._weigh()
        elif section == "dispatches":
            self._count()
        else:
            for part in (part for part in self.plan.sections if part.name == section):
                self._time(part)

    def _compare(self) -> None:
        present = [entry for entry in self.plan.comparisons if {entry[0], entry[1]} <= set(self.contenders)]
        for contender, reference, case in self.each(present, "answers"):
            found = compare_contenders(self.workers, contender, reference, case)
            self.results["answers"] += [{"kind": case.kind, **asdict(difference)} for difference in found]

    def _time(self, section: Section) -> None:
        rounds = {name: n for name, n in section.rounds.items() if name in self.contenders}
        with Workers(lambda contender: self.worker(contender, section.threads)) as others:
            workers = self.workers if section.threads == 1 else others
            self._take_turns(workers, replace(section, rounds=rounds))

    def _take_turns(self, workers: Workers, section: Section) -> None:
        samples: dict[tuple[str, Case], list[float]] = {}
        for contender, case in self.each(turns(section), section.name):
            reply = workers[contender].ask(
                do="time", case=case.to_json(), repeat=section.repeat.get(contender, 1), warm=section.warm
            )
            samples.setdefault((contender, case), []).extend(reply["seconds"])
        where = {"section": section.name, "threads": section.threads}
        self.results["timings"] += [
            {**where, **describe(contender, case, self.table), "seconds": percentiles(seconds, q1=25, q3=75)}
            for (contender, case), seconds in samples.items()
        ]

    def _count(self) -> None:
        present = [(contender, case) for contender, case in self.plan.dispatches if contender in self.contenders]
        for contender, case in self.each(present, "dispatches"):
            counts = self.workers[contender].ask(do="dispatches", case=case.to_json())
            self.results["dispatches"].append({**describe(contender, case, self.table), **counts})
        self.results["dispatches"] += [
            {"contender": name, "kind": "optimizer", **count_dispatches(step)}
            for name, step in optimizer_steps(len(self.table), torch.device("cpu")).items()
        ]

    def _weigh(self) -> None:
        present = [(contender, case) for contender, case in self.plan.memory if contender in self.contenders]
        for contender, case in self.each(present, "memory"):
            with self.worker(contender) as worker:
                reply = worker.ask(do="memory", case=case.to_json())
            self.results["memory"].append({**describe(contender, case, self.table), **reply})


def turns(section: Section) -> Iterator[tuple[str, Case]]:
    """Yield who works on what, in order: rounds over the cases, and at each case the contenders in turn."""
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
