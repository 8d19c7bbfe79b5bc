"""The plan of a run, in full (about 26 minutes) or quickly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.importance.problem import SCALES, Scale

SECTIONS = ("agreement", "speed", "mass")

# Section 4.3: ranges of AM in Hz and FM in octaves per second.
_RANGES = (
    ((1.0, 2.0), (0.5, 1.0)),
    ((1.0, 2.0), (2.0, 4.0)),
    ((2.8, 8.4), (2.0, 4.0)),
    ((2.8, 8.4), (4.0, 12.0)),
)


@dataclass(frozen=True)
class Sized:
    """A size at which scrapl-loss's pi is extrapolated from pieces, and ours too unless it is computed.

    Attributes:
        scale: with the batch that the whole is for.
        batch: examples that pieces are measured with, or for which ours is computed.
        n_ours, n_peer: evenly spaced paths to measure.
        peer_products: products measured of each path, all alike.
        whole: whether ours computes the whole pi on `batch` examples.
    """

    scale: Scale
    batch: int
    n_ours: int
    n_peer: int
    peer_products: int
    whole: bool


@dataclass(frozen=True)
class Plan:
    """A selection.

    Attributes:
        agreement: problem with float64 weights on which values are compared.
        n_agreement: evenly spaced paths of it.
        long_steps: power iterations that should have converged.
        whole: problems on which both sides compute the whole pi.
        n_ours: how often ours does, spread over scrapl-loss's time.
        sized: extrapolations.
        mass: one problem for each configuration of section 4.3.
        tolerance: residual that ours stops at.
        mass_options: of our transform there.
    """

    agreement: Scale
    n_agreement: int
    long_steps: int
    whole: tuple[Scale, ...]
    n_ours: int
    sized: tuple[Sized, ...]
    mass: tuple[Scale, ...]
    tolerance: float = 1e-2
    mass_options: dict[str, float] = field(default_factory=lambda: {"samples_per_bandwidth": 2.0})


def make_plan(*, quick: bool) -> Plan:
    """The full selection, or one of some minutes whose times mean little."""
    small, slow = SCALES["small"], SCALES["slow"]
    mass = tuple(replace(slow, am=am, fm=fm, batch=16) for am, fm in _RANGES)  # with 4, one is below uniform
    if quick:
        tiny = SCALES["tiny"]
        return Plan(
            agreement=tiny,
            n_agreement=8,
            long_steps=60,
            whole=(replace(tiny, double=False),),
            n_ours=2,
            sized=(Sized(replace(SCALES["paper"], batch=2), 1, 1, 1, 2, False),),
            mass=tuple(replace(scale, batch=2) for scale in mass[-1:]),
        )
    return Plan(
        agreement=replace(small, double=True),
        n_agreement=2,
        long_steps=40,
        whole=(small, replace(slow, batch=2)),
        n_ours=3,
        sized=(Sized(SCALES["paper"], 4, 8, 2, 3, True), Sized(SCALES["tr808"], 1, 2, 1, 2, False)),
        mass=mass,
    )
