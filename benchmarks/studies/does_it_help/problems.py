"""The cells of the study: which arms are trained on which problems, and with what learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.studies.does_it_help.arms import REFERENCE

GRANULAR, CHIRPLETS = "scaled", tuple(f"scaled-chirplet-{name}" for name in ("lo-lo", "lo-med", "hi-med", "hi-hi"))
_SHORT = "scaled-short"
_SHORT_EPOCHS = 8
_HI_MED = PRESETS[CHIRPLETS[2]]
# Controls over three and five octaves; and one wavelet per octave of rate and scale: 63 paths, not 225.
VARIANTS = {
    preset.name: preset
    for preset in (
        replace(_HI_MED, name="scaled-chirplet-wide", am=(8.0, 64.0), fm=(4.0, 128.0)),
        replace(_HI_MED, name="scaled-chirplet-few-paths", Q=(8, 1), Q_fr=1),
    )
}


class Group(NamedTuple):
    """Arms that are trained on the same problem and compared with one of them.

    Attributes:
        problem: name of the preset.
        arms: their names.
        reference: the arm that the others are compared with.
    """

    problem: str
    arms: tuple[str, ...]
    reference: str = REFERENCE


ABLATION = ("adam", "p-adam", REFERENCE, "theta-is", "mss", "controls")
LADDER = (
    "theta-is, floor",
    "theta-is, cover first",
    "theta-is, no saga",
    "theta-is, half saga",
    "theta-is, decayed saga",
    "theta-is, memory by pi",
    "theta-is, clocks by pi",
    "theta-is, memory and clocks by pi",
    "theta-is, squared",
    "theta-is, warm-up",
    "theta-is of squares",
    "squared",
    "half saga",
    "decayed saga",
)
IDEAS = (
    "warm-up",
    "path warm-up",
    "two renderings",
    "two renderings, warm-up",
    "four paths",
    "rates",
    "predicted",
    "rms slopes",
)

GROUPS = {
    "ablation": (Group(GRANULAR, ABLATION),),
    "chirplets": tuple(Group(problem, (REFERENCE, "theta-is", "released")) for problem in CHIRPLETS),
    # the problems that uniform draws cannot finish
    "hard": (
        Group(
            CHIRPLETS[2],
            (
                "adam",
                "p-adam",
                REFERENCE,
                "theta-is",
                "released",
                "predicted",
                "rms slopes",
                "theta-is, floor",
                "theta-is, no saga",
            ),
        ),
        Group(CHIRPLETS[1], (REFERENCE, "theta-is", "released", "predicted", "rms slopes")),
    ),
    "ladder": (Group(CHIRPLETS[2], (REFERENCE, "theta-is", *LADDER)), Group(GRANULAR, (REFERENCE, *LADDER[:8]))),
    "ideas": (Group(GRANULAR, (REFERENCE, *IDEAS)), Group(CHIRPLETS[2], (REFERENCE, *IDEAS))),
    "pi": tuple(Group(problem, (REFERENCE, "predicted", "rms slopes")) for problem in CHIRPLETS),
    # synthesizers with randomness
    "renderings": (Group(GRANULAR, (REFERENCE, "two renderings", "two renderings, warm-up")),),
    "subset": (Group(GRANULAR, (REFERENCE, "predicted")),),
    "modes": (Group(GRANULAR, (REFERENCE, "even", "exact rates")),),
    # whose vote counts: that of paths alike, of rates alike, or of paths as pi has it
    "votes": (
        Group(CHIRPLETS[2], (REFERENCE, "theta-is", "rates", *LADDER[5:8], "predicted, memory and clocks by pi")),
    ),
    # other controls and other paths
    "variants": tuple(Group(name, (REFERENCE, "theta-is", "predicted", LADDER[7])) for name in VARIANTS),
    # pi that votes, on problems that it was not found on
    "voting": tuple(
        Group(problem, (REFERENCE, "theta-is", "predicted", LADDER[7]))
        for problem in (CHIRPLETS[0], CHIRPLETS[1], CHIRPLETS[3], GRANULAR)
    ),
    # the spectrograms that the paper compares with, and the sum with a path
    "spectrograms": tuple(
        Group(problem, (REFERENCE, "mss", "mss linear", "mss random", "mss revisited", "with one mss"))
        for problem in (GRANULAR, CHIRPLETS[2])
    ),
    "full": (Group(_SHORT, ("full tree", REFERENCE, "controls")),),
}


PROBLEMS = (GRANULAR, *CHIRPLETS, *VARIANTS, _SHORT)


def preset_of(problem: str) -> Preset:
    """Return the preset of a problem."""
    if problem == _SHORT:
        return replace(PRESETS[GRANULAR], name=_SHORT, epochs=_SHORT_EPOCHS)
    return VARIANTS[problem] if problem in VARIANTS else PRESETS[problem]


def quick(preset: Preset) -> Preset:
    """Make a problem of four steps: to see that everything runs."""
    return replace(preset, name=f"{preset.name}-quick", n_train=16, n_val=8, n_test=8, batch_size=8, epochs=2)


def arms_by_problem(names: Sequence[str]) -> dict[str, tuple[list[str], str]]:
    """Return the arms of each problem in the groups of these names, each once, with the reference."""
    found: dict[str, tuple[list[str], str]] = {}
    for group in (group for name in names for group in GROUPS[name]):
        arms, _ = found.setdefault(group.problem, ([], group.reference))
        arms += [arm for arm in group.arms if arm not in arms]
    return found


def lr_problem(problem: str) -> str:
    """Return the problem on which learning rates for this one are chosen: the first chirplets for all of them."""
    return CHIRPLETS[0] if problem in (*CHIRPLETS, *VARIANTS) else problem
