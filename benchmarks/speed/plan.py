"""The plan of a run: sections of cases, how often each contender takes its turn, and the memory cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.speed.cases import PAPER_SETTINGS, Case, Settings, representative_paths
from benchmarks.speed.contenders import LITERAL, OURS

SECTIONS = (
    *("answers", "construction", "paths", "bundles", "tree", "hvp", "sizes", "threads", "dispatches", "memory"),
)

_EXACT, _COMPACT, _FINE, _EVEN, _EVEN_COMPACT = OURS
_MAIN = (_EXACT, _COMPACT, _EVEN, _EVEN_COMPACT)  # of the finer compact transform there are steps and memory alone
_MSS, _PEER = "mss", "scrapl-loss"
# The literal transform of a whole tree takes minutes at the paper's size.
_SMALL = replace(PAPER_SETTINGS, n_samples=512, J=7, T=128)


@dataclass(frozen=True)
class Section:
    """Cases timed in one go: rounds over all cases, the contenders taking turns at each case.

    Args:
        name: of `SECTIONS`.
        cases: in the order of a round.
        rounds: contender -> rounds it takes part in; absent contenders take no part.
        repeat: contender -> runs per turn, 1 unless given.
        threads: of torch, on as many cores.
        warm: whether the first turn at a case is preceded by an untimed run.
    """

    name: str
    cases: tuple[Case, ...]
    rounds: dict[str, int]
    repeat: dict[str, int]
    threads: int = 1
    warm: bool = True


@dataclass(frozen=True)
class Plan:
    """Everything that a run measures.

    Args:
        comparisons: (contender, reference, case) whose answers must agree.
        sections: what is timed.
        memory: (contender, case), each in a fresh process.
        paths: the representative paths.
        dispatches: (contender, case) whose calls of ATen are counted.
    """

    comparisons: tuple[tuple[str, str, Case], ...]
    sections: tuple[Section, ...]
    memory: tuple[tuple[str, Case], ...]
    paths: tuple[int, ...]
    dispatches: tuple[tuple[str, Case], ...] = ()


def make_plan(table: Sequence[tuple[int, int]], *, quick: bool) -> Plan:
    """Choose what to measure.

    Args:
        table: (n2, n_fr) of every path of the paper's configuration.
        quick: a selection for under three minutes, which exercises every section.
    """
    settings, chosen = PAPER_SETTINGS, representative_paths(table)
    if quick:
        chosen = [path for path in chosen if table[path][0] in (10, 13, 17, 24)]
    tree = Case("tree", settings.resized(8192) if quick else settings, 1)
    sections = [
        _construction(settings, quick),
        *_path_sections(settings, chosen, quick),
        _bundles(settings, table, quick),
        Section("tree", (tree,), {"kymatio": 1 if quick else 2, **dict.fromkeys(_MAIN, 3)}, {}, warm=False),
        *_size_sections(settings, chosen, table, quick),
    ]
    return Plan(
        _comparisons(settings, table, chosen, quick),
        tuple(sections),
        _memory(settings, table, tree, quick),
        tuple(chosen),
        _dispatches(settings, chosen, tree),
    )


def _comparisons(
    settings: Settings, table: Sequence[tuple[int, int]], chosen: Sequence[int], quick: bool
) -> tuple[tuple[str, str, Case], ...]:
    """The costly small n2 are compared at batch 1, and products at a few paths, which costs less than timing.

    Both even ones are compared with the exact transform as well, for how far the boundary moves coefficients.
    """
    every = tuple(chosen)
    few = every[:1] if quick else tuple(chosen[2::6])
    literal = every[:1] if quick else tuple(chosen[::4])
    tree = Case("tree", settings.resized(8192), 1)
    all_paths = every if quick else tuple(range(len(table)))
    return (
        (_EXACT, _PEER, Case("step", settings, 1, every)),
        (_EXACT, _PEER, Case("hvp", settings, 1, few)),
        (_EXACT, "kymatio", tree),
        (_COMPACT, _EXACT, Case("step", settings, 1, all_paths)),
        (_COMPACT, _EXACT, Case("hvp", settings, 1, few)),
        (_FINE, _EXACT, Case("step", settings, 1, all_paths)),
        (_EVEN, LITERAL, Case("step", settings, 1, literal)),
        (_EVEN, LITERAL, Case("hvp", settings, 1, few[:1])),
        (_EVEN, LITERAL, Case("tree", _SMALL, 1)),
        (_EVEN_COMPACT, _EVEN, Case("step", settings, 1, all_paths)),
        (_EVEN_COMPACT, _EVEN, Case("hvp", settings, 1, few)),
        (_EVEN, _EXACT, Case("step", settings, 1, all_paths)),
        (_EVEN_COMPACT, _EXACT, Case("step", settings, 1, all_paths)),
        (_COMPACT, _EXACT, tree),
        (_EVEN_COMPACT, _EVEN, tree),
    )


def _construction(settings: Settings, quick: bool) -> Section:
    """At the paper's length, and at eleven seconds of 44.1 kHz, where it took the package half a minute once."""
    lengths = (8192,) if quick else (settings.n_samples, 470723)
    cases = tuple(Case("construction", settings.resized(n), 1) for n in lengths)
    peers = dict.fromkeys((_PEER, "kymatio"), 1 if quick else 2)
    return Section("construction", cases, {**peers, **dict.fromkeys(_MAIN, 1 if quick else 5)}, {})


def _path_sections(settings: Settings, chosen: Sequence[int], quick: bool) -> list[Section]:
    """Single paths at batch 4: steps, forward only, and products with the Hessian."""
    steps = tuple(Case("step", settings, 4, (path,)) for path in chosen)
    forward = tuple(Case("forward", settings, 4, (path,)) for path in chosen[:: 2 if quick else 1])
    products = tuple(Case("hvp", settings, 4, (path,)) for path in (chosen[2:3] if quick else chosen[3::4]))
    n, peer = (2, 1) if quick else (6, 3)
    twice = dict.fromkeys((*OURS, _MSS), 2)
    return [
        Section("paths", steps, {_PEER: peer, **dict.fromkeys((*OURS, _MSS), n)}, twice),
        Section("paths", forward, {_PEER: 1 if quick else 2, **dict.fromkeys((*_MAIN, _MSS), 3)}, twice),
        Section("hvp", products, {_PEER: 1 if quick else 2, **dict.fromkeys(_MAIN, 3)}, {}),
    ]


def _bundles(settings: Settings, table: Sequence[tuple[int, int]], quick: bool) -> Section:
    """Every path of ours, each n2 followed by the bundle of its paths: cost by path, and bundle over path."""
    cases = []
    for n2 in sorted({n2 for n2, _ in table}):
        paths = tuple(path for path, key in enumerate(table) if key[0] == n2)
        if not quick or n2 in (10, 17):
            cases += [Case("step", settings, 4, (path,)) for path in paths]
            cases += [Case("step", settings, 4, paths)]
    rounds = 1 if quick else 2
    return Section("bundles", tuple(cases), dict.fromkeys(_MAIN, rounds), {}, warm=not quick)


def _size_sections(
    settings: Settings, chosen: Sequence[int], table: Sequence[tuple[int, int]], quick: bool
) -> list[Section]:
    """Length and batch on two paths (an n2 whose cost is above the mean, and one below), then two threads.

    scrapl-loss sits out the largest case, 131072 samples by 32, which takes it minutes and most of the memory.
    """
    if quick:
        paths, sizes, large = [p for p in chosen if table[p][0] == 17], [(8192, 4), (32768, 4), (32768, 1)], []
    else:
        paths = [p for p in chosen if table[p][0] in (10, 17)]
        sizes = [(8192, 4), (16384, 4), (32768, 4), (65536, 4), (131072, 4)]
        sizes += [(8192, 1), (8192, 32), (32768, 1), (32768, 32), (131072, 1)]
        sizes.sort()
        large = [(131072, 32)]
    cases, largest = (
        tuple(Case("step", settings.resized(n), batch, (path,)) for n, batch in group for path in paths)
        for group in (sizes, large)
    )
    n = 2 if quick else 4
    ours = dict.fromkeys((*_MAIN, _MSS), n)
    threaded = tuple(Case("step", settings, 4, (path,)) for path in (chosen[-1:] if quick else chosen[1::2]))
    return [
        Section("sizes", cases, {_PEER: 1 if quick else 2, **ours}, {}),
        Section("sizes", largest, dict.fromkeys((*_MAIN, _MSS), 2), {}),
        Section("threads", threaded, {_PEER: 1 if quick else 2, **ours}, {}, threads=2),
    ]


def _memory(
    settings: Settings, table: Sequence[tuple[int, int]], tree: Case, quick: bool
) -> tuple[tuple[str, Case], ...]:
    temporal = (17,) if quick else (4, 6, 10, 13, 17, 24)
    steps = [Case("step", settings, 4, (table.index((n2, 1)),)) for n2 in temporal]
    bundles = [
        Case("step", settings, 4, tuple(path for path, key in enumerate(table) if key[0] == n2))
        for n2 in ((17,) if quick else (4, 10, 17))
    ]
    cases = [(contender, case) for case in steps for contender in (_PEER, *OURS)]
    cases += [(contender, case) for case in bundles for contender in _MAIN]
    cases += [(_MSS, Case("step", settings, 4))] * (1 if quick else 3)
    return (*cases, *((contender, tree) for contender in ("kymatio", *_MAIN)))


def _dispatches(settings: Settings, chosen: Sequence[int], tree: Case) -> tuple[tuple[str, Case], ...]:
    """Steps on single paths, and the full tree: every run of a case makes the same calls."""
    steps = [Case("step", settings, 4, (path,)) for path in chosen]
    cases = [(contender, case) for case in steps for contender in (*_MAIN, _PEER)]
    return (*cases, (_MSS, Case("step", settings, 4)), *((contender, tree) for contender in _MAIN))
