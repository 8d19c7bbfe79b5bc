"""The study of alignment: its ranks, the cells it reads, and slopes of the losses that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.sound_matching.presets import PRESETS
from benchmarks.studies.alignment import (
    LOSSES,
    MEASURED,
    Trained,
    choices,
    draw,
    ranking,
    slopes,
    table,
    trained_cells,
)

QUICK = replace(PRESETS["quick"], n_samples=1024, J=7, Q=(4, 1), n_grains=4, grain_samples=128)


def results() -> dict[str, Any]:
    def scores(first: float, second: float) -> dict[str, Any]:
        return {"correlation": [first, second], "heard": [-first, second], "interval": [[0, 0], [1, 1]]}

    losses = {name: scores(0.1 * i, 0.1 * i + 0.05) for i, name in enumerate(LOSSES)}
    problems = {"small": {"losses": losses, "aligned": scores(0.9, 0.9)}}
    cells = [Trained("small", name, [200.0 - 20 * i, 190.0 - 20 * i], "x") for i, name in enumerate(LOSSES)]
    told = {"ranking": ranking(problems, cells), "choices": choices(problems, cells)}
    return {"problems": problems, "trained": [c._asdict() for c in cells], **told}


def test_ranks_are_those_of_scores_and_errors() -> None:
    ranks = results()["ranking"]
    assert ranks["cells"] == len(LOSSES)
    assert ranks["correlation"] == {"controls": pytest.approx(1.0), "worst control": pytest.approx(1.0)}
    assert ranks["heard"]["worst control"] == pytest.approx(-1.0)


def test_choices_between_two_losses_are_counted_for_each_control() -> None:
    n = len(LOSSES)
    assert results()["choices"] == {"right": n * (n - 1), "wrong": 0}  # two controls of n (n - 1) / 2 pairs
    problems = results()["problems"]
    cells = [
        Trained("small", name, [error, 100.0], "x") for name, error in zip(LOSSES, (1.0, 2.0, 0.0), strict=False)
    ]
    assert choices(problems, cells) == {"right": 2, "wrong": 1}  # and three whose errors are the same


def test_table_and_picture_show_each_loss() -> None:
    lines = table(results()).splitlines()
    assert [line.split("  ")[0] for line in lines[1 : len(LOSSES) + 1]] == [f"small, {name}" for name in LOSSES]
    assert len(draw({**results(), "quick": True}).axes) == 2


def test_trained_cells_are_measured() -> None:
    cells = list(trained_cells())
    assert {cell.problem for cell in cells} <= set(MEASURED)
    assert {cell.loss for cell in cells} <= set(LOSSES)
    assert all(0 < error < 500 for cell in cells for error in cell.errors)


@pytest.mark.study
def test_slopes_of_all_kinds_have_the_same_pairs() -> None:
    kinds = [slopes(QUICK, kind, 4) for kind in dict.fromkeys(loss.measured for loss in LOSSES.values())]
    assert all(torch.equal(kind.theta_hat, kinds[0].theta_hat) for kind in kinds)
    assert {kind.n_paths for kind in kinds} == {1, QUICK.transform().n_paths}
