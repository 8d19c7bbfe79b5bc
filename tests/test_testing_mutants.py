"""Every mutant of the estimators is caught by the kit, with a counter-example that can be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.mutants import CHECKS, MUTANTS, Mutant, counter_example, table

# What the strategies shrink to; where P is a transform's own there is nothing to shrink.
MOST_PATHS = 3


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_has_the_property(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_caught(mutant: Mutant) -> None:
    found = counter_example(mutant)
    assert found is not None, f"{mutant.name} survived {mutant.check.__name__}"
    assert "biased" in found.message or "parts from its twin" in found.message or "came up" in found.message
    centers = found.arguments.partition("curvatures")[0]
    assert centers.count("(0,)") + centers.count("(1,)") <= MOST_PATHS
    assert "PathLosses(" in found.arguments or "pi=array(" in found.arguments
    assert len(found.arguments) < 120


def test_the_table_has_a_row_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.mutants.MUTANTS", MUTANTS[5:6])
    header, _, row = table().splitlines()
    assert header.count("|") == row.count("|") == 5
    assert "floor applied before normalising" in row
