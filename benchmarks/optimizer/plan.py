"""The plan of a run: what it measures, and what is left out because it does not fit in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.optimizer.contenders import CONTENDERS, OURS, PEER

SECTIONS = ("answers", "steps", "threads", "allocator", "state", "peak", "drift")
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    # Never hand freed memory back to the system (glibc; others ignore it).
    "retaining": {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**40)},
}

GB = 10**9
_PEER_LIMIT = 10 * GB
_PEER_ROW_BYTES = 12  # two moments and the memory, float32, for each path and parameter
_SPARE = 2 * GB


@dataclass(frozen=True)
class Turn:
    """The time that a contender works when it is its turn.

    Args:
        seconds: timed steps go on until they took this long,
        at_least: but this many are taken,
        at_most: and no more than this.
        warm: untimed steps before: another contender had the caches in between.
        evict: sweep the caches before each step, as forward and backward do between steps of a training.
    """

    seconds: float = 0.08
    at_least: int = 2
    at_most: int = 40
    warm: int = 1
    evict: bool = False


@dataclass(frozen=True)
class StepCase:
    """A model and a number of paths at which contenders take turns.

    Args:
        model: of `models.MODELS`.
        n_paths: P.
        contenders: who takes part, in the order of turns.
        rounds: turns of each contender.
        evicted_rounds: turns of each with caches swept, after those.
        threads: of torch, on as many cores.
        row_budget: bytes that rows of paths may take in each process.
        allocator: "retaining": freed memory stays with the process, so that a step's temporaries are pages it has;
            "default": as the C library comes, which may hand them back and fault them in again at each step.
        section: whose case it is; those of one section have the same threads and allocator.
    """

    model: str
    n_paths: int
    contenders: tuple[str, ...]
    rounds: int
    evicted_rounds: int = 0
    threads: int = 1
    row_budget: int = GB // 2
    allocator: str = "retaining"
    section: str = "steps"

    def without(self, contenders: set[str]) -> StepCase:
        return replace(self, contenders=tuple(c for c in self.contenders if c not in contenders))


@dataclass(frozen=True)
class Plan:
    """Everything that a run measures.

    Args:
        steps: what is timed.
        state: contender -> numbers of drawn paths after which the state is weighed, at `state_paths` paths.
        state_paths: P of those.
        state_model: whose parameters they are.
        peak: (contender, steps before the one weighed), each in a fresh process.
        peak_model: whose parameters they are.
        drift: (P, whether P-Adam is on).
        drift_marks: numbers of steps after which the drift is measured.
    """

    steps: tuple[StepCase, ...]
    state: dict[str, tuple[int, ...]]
    state_paths: int
    state_model: str
    peak: tuple[tuple[str, int], ...]
    peak_model: str
    drift: tuple[tuple[int, bool], ...]
    drift_marks: tuple[int, ...]


def make_plan(*, quick: bool) -> Plan:
    """The whole, or a selection for two minutes that exercises every section."""
    models, paths = (("0.1M", "0.6M"), (1, 32)) if quick else (("0.1M", "0.6M", "3M", "10M"), (1, 32, 315, 1024))
    typical = 32 if quick else 315
    budget = GB // 10 if quick else GB // 2  # many times any cache, and the least time for first visits
    rounds, evicted = (3, 2) if quick else (12, 8)
    steps = [
        StepCase(model, n, CONTENDERS, rounds, evicted if n == typical else 0, 1, budget)
        for model in models
        for n in paths
    ]
    few = ("adam", "float32", "bfloat16", "int8")
    steps += [StepCase(model, typical, few, rounds, 0, 2, budget, section="threads") for model in models]
    steps += [StepCase(model, typical, few, rounds, 0, 1, budget, "default", "allocator") for model in models]
    drawn = (0, 1, 10, typical) if quick else (0, 1, 10, 100, typical)
    weighed = ("adam", "float32", "int8")
    return Plan(
        tuple(steps),
        {name: (0, 1) if name in ("adam", "sgd") else drawn for name in ("adam", "sgd", *OURS, PEER)},
        typical,
        "0.1M",
        tuple((name, earlier) for name in (*weighed, "bfloat16") for earlier in (0, 3)),
        "0.6M" if quick else "10M",
        tuple((n, on) for on in (True, False) for n in ((2, 16) if quick else (2, 16, 64, 315, 1024))),
        (100, 1000) if quick else (1000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000),
    )


def peer_bytes(n_parameters: int, n_paths: int) -> int:
    """State that scrapl-loss allocates when parameters are attached."""
    return _PEER_ROW_BYTES * n_parameters * n_paths


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that could be allocated now, None where the system does not tell."""
    if not meminfo.exists():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return 1024 * int(fields["MemAvailable"].split()[0]) if "MemAvailable" in fields else None


def unfit(case: StepCase, n_parameters: int, available: int | None) -> str | None:
    """Tell why scrapl-loss sits a case out, None if it does not.

    Raises:
        ValueError: not even the others fit.
    """
    needed = peer_bytes(n_parameters, case.n_paths)
    others = sum(c in OURS for c in case.contenders) * min(case.row_budget, 8 * n_parameters * case.n_paths)
    others += len(case.contenders) * 32 * n_parameters + _SPARE
    if available is not None and others > available:
        raise ValueError(
            f"{case.model}, P={case.n_paths} needs {others / GB:.1f} GB, {available / GB:.1f} GB are free"
        )
    if needed > _PEER_LIMIT:
        return f"does not fit: {needed / GB:.3g} GB (limit {_PEER_LIMIT / GB:g} GB)"
    if available is not None and needed + others > available:
        free = f"{available / GB:.3g} GB are free, the others need {others / GB:.3g} GB"
        return f"does not fit: {needed / GB:.3g} GB ({free})"
    return None
