"""The conductor of a benchmark beside a peer: a process for each contender, and one of them at work at a time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tqdm import tqdm

from benchmarks.harness.files import write_json
from benchmarks.harness.provenance import provenance
from benchmarks.harness.worker import Worker, Workers, cores_for

Item = TypeVar("Item")


@dataclass
class Conductor(ABC):
    """The conductor of a run, which measures section after section and holds what was found so far.

    Args:
        python: the interpreter of the workers.
        contenders: who is asked first; `left_out` has those who cannot take part.
        sections: names of what is measured.
        quick: whether it is the small selection.
        partial: where to keep what there is after each part.

    Attributes:
        module: that serves a contender (`python -m`).
        about: for the result file: what its numbers mean.
        environment: variables of the workers.
    """

    module: ClassVar[str]
    about: ClassVar[Any]
    environment: ClassVar[Mapping[str, str]] = {}

    python: str
    contenders: Sequence[str]
    sections: Sequence[str]
    quick: bool
    partial: Path
    results: dict[str, Any] = field(default_factory=dict, init=False)
    left_out: dict[str, str] = field(default_factory=dict, init=False)

    @classmethod
    def from_options(cls, options: Namespace, contenders: Sequence[str], **fields: Any) -> Any:
        """Build the conductor from what `Program` parsed."""
        return cls(options.python, contenders, options.only, options.quick, options.partial, **fields)

    @abstractmethod
    def prepare(self) -> dict[str, Any]:
        """Plan the run, now that it is known who is left out; returns what the result file says of it."""

    @abstractmethod
    def measure(self, section: str) -> None:
        """Add what a section measures to the results."""

    def run(self) -> dict[str, Any]:
        """Measure everything; returns the content of the result file.

        Raises:
            AnswersDiffer: the contenders disagree.
            WorkerError: one of them failed.
        """
        with Workers(self.worker) as self.workers:
            self._introduce()
            self.results |= self.prepare()
            for section in self.sections:
                self.measure(section)
                self.keep()
        self.results["complete"] = True
        return self.results

    def _introduce(self) -> None:
        """Ask everybody for versions, and leave out by name those whose package is missing."""
        replies = {name: self.workers[name].ask(do="hello") for name in self.contenders}
        self.left_out = {name: reply["missing"] for name, reply in replies.items() if reply["missing"] is not None}
        self.workers.close(self.left_out)
        self.contenders = [name for name in self.contenders if name not in self.left_out]
        about = provenance(("torch", "numpy", "scrapl-jtfs", "matplotlib", "nnaudio2"))
        about["machine"] |= {"worker_cores": cores_for(1), "load_average_at_start": list(os.getloadavg())}
        about["versions"] = {"conductor": about["versions"], "workers": next(iter(replies.values()))["versions"]}
        self.results = {"about": self.about, "complete": False, "quick": self.quick, **about}
        self.results |= {"sections": list(self.sections), "left_out": self.left_out}

    def worker(self, contender: str, threads: int = 1, environment: Mapping[str, str] | None = None) -> Worker:
        """Start a process of a contender beside those of `self.workers`."""
        return Worker(self.python, self.module, contender, threads, {**self.environment, **(environment or {})})

    def each(self, items: Iterable[Item], label: str) -> Iterator[Item]:
        """Go through the parts of a section with a progress bar."""
        parts = list(items)
        yield from tqdm(parts, desc=label, unit="part", dynamic_ncols=True, disable=not parts)

    def keep(self) -> None:
        """Write what there is."""
        write_json(self.partial, self.results)
