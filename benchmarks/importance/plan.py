"""What a run measures, in full (about a quarter of an hour) or quickly."""

from dataclasses import dataclass, field, replace

from .problem import SCALES, Scale

__all__ = ["SECTIONS", "Plan", "Sized", "make_plan"]

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
    """A size at which pieces are measured and the whole pi is extrapolated.

    Attributes:
        scale: with the batch that the whole is for.
        n_ours, n_peer: evenly spaced paths to measure.
        peer_batch: examples that scrapl-loss is measured with.
        peer_products: products measured of each path, all alike.
        chunk: examples that ours takes at a time.
        whole_path: whether one path is computed in full as well, for the number of products.
    """

    scale: Scale
    n_ours: int
    n_peer: int
    peer_batch: int
    peer_products: int
    chunk: int
    whole_path: bool


@dataclass(frozen=True)
class Plan:
    """A selection.

    Attributes:
        agreement: problem with float64 weights on which values are compared.
        n_agreement: evenly spaced paths of it.
        long_steps: power iterations that should have converged.
        small: problem on which both sides compute the whole pi.
        n_small: how many evenly spaced paths of it, None for all (only then is there a pi).
        sized: extrapolations.
        mass: one problem for each configuration of section 4.3.
        tolerance: residual that ours stops at.
        n_pieces: paths of the small problem of which the pieces are timed.
        mass_options: of our transform there.
    """

    agreement: Scale
    n_agreement: int
    long_steps: int
    small: Scale
    n_small: int | None
    sized: tuple[Sized, ...]
    mass: tuple[Scale, ...]
    tolerance: float = 1e-2
    n_pieces: int = 4
    mass_options: dict[str, float] = field(default_factory=lambda: {"oversampling": 2.0})


def make_plan(*, quick: bool) -> Plan:
    """The full selection, or one of about two minutes whose figures mean little."""
    small, slow = SCALES["small"], SCALES["slow"]
    if quick:
        tiny = SCALES["tiny"]
        slow = replace(slow, batch=2)
        return Plan(
            agreement=tiny,
            n_agreement=2,
            long_steps=60,
            small=replace(tiny, double=False),
            n_small=None,
            sized=(Sized(replace(SCALES["paper"], batch=2), 1, 1, 1, 2, 2, False),),
            mass=tuple(replace(slow, am=am, fm=fm) for am, fm in _RANGES[-1:]),
            n_pieces=2,
        )
    return Plan(
        agreement=replace(small, double=True),
        n_agreement=2,
        long_steps=40,
        small=small,
        n_small=None,
        sized=(
            Sized(SCALES["paper"], 2, 2, 4, 3, 8, True),
            Sized(SCALES["tr808"], 1, 1, 1, 2, 4, False),
        ),
        mass=tuple(replace(slow, am=am, fm=fm) for am, fm in _RANGES),
    )
