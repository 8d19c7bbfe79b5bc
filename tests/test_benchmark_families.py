"""The benchmark of path families: what it compares, what it makes of timings, and a quick run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks import families
from benchmarks.families import FAMILIES, QUICK, Contest, main, page_rows
from benchmarks.harness.records import AnswersDiffer

pytest.importorskip("kymatio")
ROOT = Path(__file__).parents[1]
PAIRS = QUICK["time, pairs of wavelets"]


def test_a_quick_run_has_every_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "_N_PATHS", 3)
    assert main(["--quick", "--rounds", "2", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "families.json").read_text())
    assert set(results["families"]) == set(QUICK) == set(FAMILIES)
    for family in results["families"].values():
        for kind in ("forward", "step"):
            times = family["milliseconds"][kind]
            assert set(times) == {"path", "full", "kymatio"}
            assert {len(values) for values in times.values()} == {2}
            quotients = [a / b for a, b in zip(times["full"], times["path"], strict=True)]
            assert family["ratios"][kind]["full / path"] == pytest.approx(sum(quotients) / 2, abs=0.01)
    printed = capsys.readouterr().out
    assert all(f"{name}, step" in printed for name in QUICK)


def test_paths_are_spread_over_all_and_their_mean_is_that_of_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_N_PATHS", 3)
    contest = Contest(PAIRS)
    last = contest.transform.n_paths - 1
    assert contest.paths == [0, round(last / 2), last]
    seconds = iter(range(1, 1000))
    monkeypatch.setattr(Contest, "seconds", lambda self, name, kind: 1e-3 * next(seconds))
    found = families.measure({"toy": PAIRS}, 1)["toy"]["milliseconds"]
    times = [value for of in found.values() for value in (*[of["path"][0]] * 3, of["full"][0], of["kymatio"][0])]
    # Ten jobs to warm up, then the ten of the round in some order: 11 to 20.
    assert sum(times) == pytest.approx(sum(range(11, 21)))


@pytest.mark.parametrize(("factor", "what"), [(1.001, "coefficients"), (-1.0, "coefficients")])
def test_wrong_answers_are_not_timed(factor: float, what: str) -> None:
    right = PAIRS.peer(PAIRS.transform())

    def peer(x: Tensor) -> list[Tensor]:
        return [factor * phi for phi in right(x)]

    with pytest.raises(AnswersDiffer, match=f"{what}, full from kymatio: a relative difference of"):
        Contest(replace(PAIRS, peer=lambda ours: peer)).check()


def test_a_wrong_gradient_is_found() -> None:
    right = PAIRS.peer(PAIRS.transform())

    def peer(x: Tensor) -> list[Tensor]:
        first, *others = right(x)
        return [first.detach(), *others]

    with pytest.raises(AnswersDiffer, match="gradient, full from kymatio"):
        Contest(replace(PAIRS, peer=lambda ours: peer)).check()


def test_rounds_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--rounds", "0"]) == 2
    assert "Invalid --rounds: 0; expected 1 or more" in capsys.readouterr().err


def test_the_page_quotes_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/families.json").read_text())
    assert set(results["families"]) == set(FAMILIES)
    for name, family in results["families"].items():
        assert family["description"] == FAMILIES[name].description
        assert family["differences"]["coefficients, full from kymatio"] <= 1e-5
    page = (ROOT / "notebooks/pages/benchmarks.md").read_text()
    section = page[page.index("## Other families of paths") :].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows[1:] == page_rows(results)
