"""The arms of the study: losses, optimizers and distributions of paths."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Source = Literal["uniform", "theta", "theta-squared", "released", "predicted", "rms"]

SPECTROGRAMS = ("mss", "mss_linear", "mss_random", "mss_revisited")
"""Distances of spectrograms, under the names of the sound matching benchmark's losses."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train; what is not named is as in SCRAPL without theta-importance.

    Args:
        name: of the arm, of its folder, and in tables.
        description: of the arm, for the result file.
        loss: the distance on random paths, on the full tree, one of `SPECTROGRAMS`, or the controls themselves.
        one_mss: True to add the logarithms of the paths' loss and of mss at one FFT size, which each step draws.
        path_adam: P-Adam in place of Adam.
        saga: strength of P-SAGA.
        pi: distribution of the paths.
        min_prob_frac: share of the uniform distribution in pi.
        cover_first: True to visit every path once before any is drawn again.
        memory_by_pi: True to weigh P-SAGA's memory by pi, not each visited path alike.
        clocks_by_pi: True to let moments decay by the visits expected under pi.
        squared: square of the norm in training; None for the preset's choice.
        renderings: independent renderings of the controls in each step.
        warmup: steps over which the learning rate rises, in multiples of the number of paths.
        path_warmup: visits over which the updates of each path grow to full size; 0 for none.
        final_lr: the last learning rate over the first.
        final_saga: strength of P-SAGA at the last step over that at the first; it falls linearly.
        paths_per_step: paths in a step, drawn in strata; each on its part of the batch.
        by_rate: True to draw a rate, and to take all its paths in a step.
        boundary: continuation of sounds at their ends in the transform.
        exact_rates: True for sub-bands at kymatio's rates where the preset's are compact.
        lr_of: the arm whose learning rate is taken over; None for a choice of its own.
    """

    name: str
    description: str
    loss: Literal["path", "full", "mss", "mss_linear", "mss_random", "mss_revisited", "controls"] = "path"
    one_mss: bool = False
    path_adam: bool = True
    saga: float = 1.0
    pi: Source = "uniform"
    min_prob_frac: float = 0.0
    cover_first: bool = False
    memory_by_pi: bool = False
    clocks_by_pi: bool = False
    squared: bool | None = None
    renderings: int = 1
    warmup: int = 0
    path_warmup: float = 0.0
    final_lr: float = 1.0
    final_saga: float = 1.0
    paths_per_step: int = 1
    by_rate: bool = False
    boundary: Literal["reflect", "even"] = "reflect"
    exact_rates: bool = False
    lr_of: str | None = None

    def transform_options(self) -> dict[str, Any]:
        """Return what the arm changes in the preset's transform."""
        return {"boundary": self.boundary} | ({"samples_per_bandwidth": None} if self.exact_rates else {})

    def decisions(self) -> dict[str, Any]:
        """Return what determines the arm's results, besides its learning rate: no names, no defaults."""
        return {
            key: value
            for key, value in asdict(self).items()
            if key not in ("name", "description", "lr_of") and value != getattr(Arm, key, None)
        }


def _arms(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


def _rung(name: str, text: str, **changes: Any) -> Arm:
    """Return theta-is with a change, at the same learning rate."""
    return Arm(
        name=f"theta-is, {name}", description=f"theta-is with {text}", pi="theta", lr_of="theta-is", **changes
    )


REFERENCE = "scrapl"
"""The arm that the others are compared with: P-Adam and P-SAGA, paths drawn uniformly."""

ARMS = _arms(
    # Table 2 and 6 of the paper, from the bottom up
    Arm(name="adam", description="Adam on the loss of a random path", path_adam=False, saga=0.0),
    Arm(name="p-adam", description="P-Adam", saga=0.0),
    Arm(name=REFERENCE, description="P-Adam and P-SAGA: SCRAPL without theta-importance"),
    Arm(
        name="theta-is",
        description="and pi of theta-importance: unsquared loss, fresh encoder, no floor, no weights",
        pi="theta",
    ),
    Arm(
        name="released",
        description="and the shape of the pi that the paper's authors released for the problem at full size",
        pi="released",
    ),
    Arm(name="full tree", description="Adam on the loss of all paths", loss="full", path_adam=False, saga=0.0),
    Arm(name="mss", description="Adam on spectrograms of several sizes, log and linear", loss="mss", saga=0.0),
    Arm(
        name="mss linear",
        description="Adam on spectrograms of several sizes, linear",
        loss="mss_linear",
        saga=0.0,
        lr_of="mss",
    ),
    Arm(
        name="mss random",
        description="Adam on spectrograms of sizes that every step draws",
        loss="mss_random",
        saga=0.0,
        lr_of="mss",
    ),
    Arm(
        name="mss revisited",
        description="Adam on compressed spectrograms with flat top windows of prime lengths",
        loss="mss_revisited",
        saga=0.0,
        lr_of="mss",
    ),
    Arm(name="controls", description="Adam on the error of the controls: supervised", loss="controls", saga=0.0),
    # the ladder: what may turn the effect of theta-importance
    _rung("floor", "a floor of 0.25", min_prob_frac=0.25),
    _rung("cover first", "every path visited once at first", cover_first=True),
    _rung("no saga", "P-Adam alone", saga=0.0),
    _rung("half saga", "half the strength of P-SAGA", saga=0.5),
    _rung("decayed saga", "P-SAGA's strength falling to nothing over training", final_saga=0.0),
    _rung("memory by pi", "P-SAGA's memory weighted by pi", memory_by_pi=True),
    _rung("clocks by pi", "decay by the visits expected under pi", clocks_by_pi=True),
    _rung(
        "memory and clocks by pi",
        "memory weighted by pi, and decay by the visits under pi",
        memory_by_pi=True,
        clocks_by_pi=True,
    ),
    _rung("squared", "the squared norm in training", squared=True),
    _rung("warm-up", "a warm-up over twice P steps", warmup=2),
    Arm(
        name="theta-is of squares",
        description="theta-is with pi of the squared norm",
        pi="theta-squared",
        lr_of="theta-is",
    ),
    Arm(name="squared", description="scrapl with the squared norm in training", squared=True, lr_of=REFERENCE),
    Arm(name="half saga", description="scrapl with half the strength of P-SAGA", saga=0.5, lr_of=REFERENCE),
    Arm(
        name="decayed saga",
        description="scrapl with P-SAGA's strength falling to nothing over training",
        final_saga=0.0,
        lr_of=REFERENCE,
    ),
    # ideas beyond the paper
    Arm(name="warm-up", description="scrapl with a warm-up over twice P steps", warmup=2, lr_of=REFERENCE),
    Arm(
        name="path warm-up",
        description="scrapl with updates of each path that grow over its first four visits",
        path_warmup=4.0,
        lr_of=REFERENCE,
    ),
    Arm(
        name="two renderings",
        description="two renderings of the controls in each step, squared norm",
        squared=True,
        renderings=2,
        lr_of=REFERENCE,
    ),
    Arm(
        name="two renderings, warm-up",
        description="two renderings, and a warm-up over twice P steps",
        squared=True,
        renderings=2,
        warmup=2,
        lr_of=REFERENCE,
    ),
    Arm(
        name="four paths",
        description="four paths a step, drawn in strata, each on a quarter of the batch",
        paths_per_step=4,
        lr_of=REFERENCE,
    ),
    Arm(name="rates", description="all paths of one rate a step, drawn uniformly", by_rate=True, lr_of=REFERENCE),
    Arm(
        name="with one mss",
        description="the logarithms of the losses of scrapl and of mss at one FFT size, which each step draws",
        one_mss=True,
        lr_of=REFERENCE,
    ),
    # ways to compute the transform
    Arm(name="even", description="scrapl with sounds continued evenly", boundary="even", lr_of=REFERENCE),
    Arm(name="exact rates", description="scrapl at kymatio's rates", exact_rates=True, lr_of=REFERENCE),
    Arm(
        name="predicted",
        description="a subset of the paths, drawn alike, chosen for the alignment of the worst control",
        pi="predicted",
        lr_of=REFERENCE,
    ),
    Arm(
        name="predicted, memory and clocks by pi",
        description="predicted with memory weighted by pi, and decay by the visits under pi",
        pi="predicted",
        memory_by_pi=True,
        clocks_by_pi=True,
        lr_of=REFERENCE,
    ),
    Arm(
        name="rms slopes",
        description="pi from the root mean square over examples of the slopes in each control",
        pi="rms",
        lr_of=REFERENCE,
    ),
)
