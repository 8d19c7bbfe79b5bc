"""The arms of the study: the losses of the paper, and changes of SCRAPL that are meant to mend its decays."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.sound_matching.drum_matching.paper import REFERENCE, UNTRAINED


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train; what is not named is as in SCRAPL without theta-importance.

    Args:
        name: of the arm, of its folder, and in tables.
        description: of the arm, for the result file and the page.
        loss: of the sound matching benchmark, "scrapl" for those made of random paths, "none" for an encoder that
            is not trained.
        saga: strength of P-SAGA.
        pi: distribution of the paths.
        by_pi: True for a memory weighted by the probabilities of the paths, and clocks by the visits they expect.
        min_prob_frac: share of the uniform distribution in pi.
        favoured: paths that get a share of the draws: those of the slowest third of the rates, or of order 1.
        share: of the draws that goes to favoured paths, alike; pi divides the rest.
        orders: of the paths.
        by_rate: True to draw a rate, uniformly, and to take all its paths in a step.
        spectrograms: weight of the logarithm of a distance of spectrograms beside that of the path's loss; 0 for
            the path's loss alone.
        revisited: True for the distance "mss_revisited", False for "mss".
        one_window: True for the distance at one of its windows, which each step draws, as it draws its path.
        renderings: independent renderings of the controls in each step. Two need the square of the norm.
        log1p_eps: eps of rho(s) = log(1 + s / eps); None for the preset's, 1e-3, which is Table 12's.
    """

    name: str
    description: str
    loss: str = "scrapl"
    saga: float = 1.0
    pi: Literal["uniform", "theta"] = "uniform"
    by_pi: bool = False
    min_prob_frac: float = 0.0
    favoured: Literal["none", "slow", "order 1"] = "none"
    share: float = 0.0
    orders: tuple[int, ...] = (2,)
    by_rate: bool = False
    spectrograms: float = 0.0
    revisited: bool = False
    one_window: bool = False
    renderings: int = 1
    log1p_eps: float | None = None

    def decisions(self) -> dict[str, Any]:
        """Return what determines the arm's results, as JSON gives it back: no names, no defaults, no tuples."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key not in ("name", "description") and value != getattr(Arm, key, None)
        }


# Coefficients of drums are about 1e-7 at the fastest rates to 1e-5 at the slowest, and seldom above 1e-3: rho with
# the paper's eps is all but linear there, and decays count for little beside attacks. With this one they count.
_FINE_EPS = 1e-6
# A thousandth of the slowest rates' coefficients, so that what is 60 dB below the attack counts too.
_FINER_EPS = 1e-8

_PAPER = (
    Arm(name=REFERENCE, description="SCRAPL without theta-importance: P-Adam and P-SAGA, paths drawn alike"),
    Arm(name="theta_is", description="SCRAPL: paths drawn by theta-importance", pi="theta"),
    Arm(name="p_adam", description="P-Adam alone, paths drawn alike", saga=0.0),
    Arm(name="mss", description="MSS log + linear", loss="mss"),
    Arm(name="mss_linear", description="MSS linear", loss="mss_linear"),
    Arm(name="mss_random", description="MSS random", loss="mss_random"),
    Arm(name="mss_revisited", description="MSS revisited", loss="mss_revisited"),
    Arm(name=UNTRAINED, description="the encoder with its initial weights", loss="none"),
)
# Networks of packages that need not be installed.
_EMBEDDED = (
    Arm(name="aisfx", description="embedding of aiSFX", loss="aisfx"),
    Arm(name="crepe", description="embedding of CREPE", loss="crepe"),
)
_MENDED = (
    Arm(name="rates", description="all paths of one rate a step, rates drawn alike", by_rate=True),
    Arm(
        name="slow",
        description="half of the draws from the slowest third of the rates",
        favoured="slow",
        share=0.5,
    ),
    Arm(
        name="order_1",
        description="paths of order 1 as well, with a quarter of the draws",
        orders=(1, 2),
        favoured="order 1",
        share=0.25,
    ),
    Arm(name="theta_is_floor", description="theta_is with a floor of 0.5", pi="theta", min_prob_frac=0.5),
    Arm(
        name="theta_is_slow",
        description="theta_is, and half of the draws from the slowest third of the rates",
        pi="theta",
        favoured="slow",
        share=0.5,
    ),
    Arm(
        name="theta_is_by_pi",
        description="theta_is with memory and clocks by pi, so that paths have the vote that pi gives them",
        pi="theta",
        by_pi=True,
    ),
    Arm(
        name="one_mss",
        description="the logarithm of mss at one FFT size, drawn alike, without a path",
        loss="one_mss",
    ),
    Arm(name="with_mss", description="the logarithm of a path's loss and that of mss", spectrograms=1.0),
    Arm(
        name="with_some_mss",
        description="the logarithm of a path's loss and a quarter of that of mss",
        spectrograms=0.25,
    ),
    Arm(
        name="with_revisited",
        description="the logarithm of a path's loss and that of mss_revisited",
        spectrograms=1.0,
        revisited=True,
    ),
    Arm(
        name="with_one_mss",
        description="the logarithm of a path's loss and that of mss at one FFT size, drawn alike",
        spectrograms=1.0,
        one_window=True,
    ),
    Arm(
        name="with_one_revisited",
        description="the logarithm of a path's loss and that of mss_revisited at one window, drawn alike",
        spectrograms=1.0,
        revisited=True,
        one_window=True,
    ),
    Arm(
        name="two_renderings",
        description="two renderings of the noise in each step, squared norm",
        renderings=2,
    ),
    Arm(
        name="fine_log",
        description="rho with eps 1e-6, the scale of the coefficients, in place of 1e-3",
        log1p_eps=_FINE_EPS,
    ),
    Arm(name="finer_log", description="rho with eps 1e-8 in place of 1e-3", log1p_eps=_FINER_EPS),
    Arm(
        name="rates_fine_log",
        description="all paths of one rate a step, and rho with eps 1e-6",
        by_rate=True,
        log1p_eps=_FINE_EPS,
    ),
    Arm(
        name="rates_with_mss",
        description="all paths of one rate a step, and the logarithm of mss",
        by_rate=True,
        spectrograms=1.0,
    ),
)
# Their steps take many times as long as SCRAPL's.
_COSTLY = (
    Arm(name="time_scattering", description="time scattering of orders 1 and 2", loss="time_scattering"),
    Arm(name="full_tree", description="the JTFS on all paths", loss="full_tree"),
)

GROUPS = {
    name: tuple(arm.name for arm in arms)
    for name, arms in {"paper": _PAPER, "mended": _MENDED, "embeddings": _EMBEDDED, "costly": _COSTLY}.items()
}
"""Names of arms by what they are for, in the order in which they are trained."""

ARMS = {arm.name: arm for arm in (*_PAPER, *_MENDED, *_EMBEDDED, *_COSTLY)}
