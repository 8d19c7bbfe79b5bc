"""The verdict on a run: what it has shown, in one sentence computed from its results."""

from __future__ import annotations

from typing import Any

import numpy as np

USUAL_VISITS = 25
"""Steps per path that a run of SCRAPL should have before its error is judged."""

_REFERENCE = "p_loss"  # it is told the true controls, so that it has no part in the contest
_UNIT = "thousandths of the controls' range"


def controls_of(results: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the controls: those that errors are given of, besides their mean."""
    tests = [loss["test"] for loss in results["losses"].values()]
    return tuple(name for name in tests[0] if name != "mean") if tests else ()


def control_label(control: str) -> str:
    """Return the name of a control as a text has it."""
    return control.upper() if control in ("am", "fm") else control


def verdict(results: dict[str, Any]) -> str:
    """Tell how SCRAPL fares beside the spectrogram loss, chance and supervision, and if the run is too short."""
    if not results["losses"]:
        return "No loss was trained to the end."
    rivals = [name for name in results["losses"] if name != _REFERENCE]
    has_reference = _REFERENCE in results["losses"]
    parts = [_comparison(results, rivals or [_REFERENCE])]
    parts += _controls_found(results, rivals)
    if rivals and has_reference:
        parts.append(f"{_label(results, _REFERENCE)} reaches {_error(results, _REFERENCE):.0f}")
    if has_reference and _error(results, _REFERENCE) >= results["chance"] / 2:
        parts.append("where even that fails, no loss can be judged" if rivals else "which judges no loss")
    return _caution(results) + "; ".join(parts) + "."


def _comparison(results: dict[str, Any], names: list[str]) -> str:
    """Compare one loss with chance, or the first with the second."""
    where = f"where chance gives {results['chance']:.0f}"
    errors = [f"{_error(results, name):.0f}" for name in names[:2]]
    labels = [_label(results, name) for name in names[:2]]
    beat_chance = [_is_below(results, name, None) for name in names[:2]]
    if len(names) == 1:
        if beat_chance[0]:
            return f"{labels[0]} has an error of {errors[0]} {_UNIT}, {where}"
        return f"{labels[0]} does no better than chance: an error of {errors[0]} {_UNIT}, {where}"
    if not any(beat_chance):
        return (
            f"Neither {labels[0]} nor {labels[1]} does better than chance: errors of {errors[0]} and {errors[1]} "
            f"{_UNIT}, {where}"
        )
    numbers = f"an error of {errors[0]} against {errors[1]} {_UNIT}, {where}"
    if _is_below(results, names[0], names[1]):
        return f"{labels[0]} does better than {labels[1]}: {numbers}"
    if _is_below(results, names[1], names[0]):
        return f"{labels[0]} loses to {labels[1]}: {numbers}"
    n = results["configuration"]["n_test"]
    return f"{labels[0]} and {labels[1]} cannot be told apart by {n} textures: {numbers}"


def _controls_found(results: dict[str, Any], rivals: list[str]) -> list[str]:
    """Tell where a mean over both controls hides that one of them was not found."""
    parts = []
    for name in rivals[:2]:
        test, chance = results["losses"][name]["test"], results["chance"]
        controls = controls_of(results)
        for found, missed in (controls, controls[::-1]):
            if test[found] < chance / 2 and test[missed] > 0.8 * chance:
                parts.append(
                    f"{_label(results, name)} finds the {control_label(found)} ({test[found]:.0f}) and not the "
                    f"{control_label(missed)} ({test[missed]:.0f})"
                )
    return parts


def _caution(results: dict[str, Any]) -> str:
    counts = results["losses"].get("scrapl", {}).get("path_counts")
    if not counts or sum(counts) >= USUAL_VISITS * len(counts):
        return ""
    visits = sum(counts) / len(counts)
    return f"Too short a run to judge by ({visits:.0f} visits of each path, {USUAL_VISITS} are usual): "


def _label(results: dict[str, Any], name: str) -> str:
    return results["losses"][name]["label"]


def _error(results: dict[str, Any], name: str) -> float:
    return results["losses"][name]["test"]["mean"]


def _is_below(results: dict[str, Any], name: str, other: str | None) -> bool:
    """Test if the error of one loss is below another's, or chance's, by two standard errors or more.

    Results that keep no guesses have the standard error of two losses that guess at random, which is larger.
    """
    if "evaluation" in results:
        mine, others = _errors(results, name), _errors(results, other)
        margin = 2 * float(np.std(mine - others)) / np.sqrt(len(mine))
        return float(np.mean(others - mine)) > margin
    margin = 2 * 1000 / np.sqrt(48 * results["configuration"]["n_test"])
    bound = results["chance"] if other is None else _error(results, other)
    return bound - _error(results, name) > margin


def _errors(results: dict[str, Any], name: str | None) -> np.ndarray:
    """Return the error of each texture (n,), in thousandths; that of always answering 0.5 for None."""
    theta = results["evaluation"]["theta"]
    target = np.array(theta["target"])
    guess = np.full_like(target, 0.5) if name is None else np.array(theta[name])
    return 1000 * np.abs(guess - target).mean(1)
