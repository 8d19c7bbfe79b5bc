"""What the page on drums says is in the result file, and is so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sound_matching.drum_matching.summary import difference
from benchmarks.sound_matching.drum_matching.tables import page_rows
from benchmarks.sound_matching.drum_matching.winners import number
from benchmarks.studies.drums.arms import GROUPS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "notebooks/pages/drums.md").read_text(encoding="utf-8")
TOLD = " ".join(PAGE.split())
RESULTS = json.loads((ROOT / "benchmarks/results/drums.json").read_text(encoding="utf-8"))
MICRO, MESO = (RESULTS["settings"][name]["arms"] for name in ("micro", "meso"))
SPECTROGRAMS = ("mss_linear", "mss_random", "mss", "mss_revisited")
SEVERAL = [arm for arm, summary in MICRO.items() if len(summary["runs"]) > 1]


def off(arms: dict[str, Any], arm: str, metric: str) -> str:
    return number(arms[arm]["test"][metric]["all"]["mean"])


def both(arm: str, metric: str) -> list[str]:
    return [off(arms, arm, metric) for arms in (MICRO, MESO)]


def at(arms: dict[str, Any], arm: str, band: str) -> str:
    return number(arms[arm]["decay_by_level"][band]["error"]["mean"])


def verdicts(arms: dict[str, Any], arm: str) -> dict[str, str]:
    return {metric: found["verdict"] for metric, found in arms[arm]["minus_reference"].items()}


def test_the_page_names_every_arm() -> None:
    assert [name for name in GROUPS["mended"] if f"`{name}`" not in PAGE] == []


def test_tables_are_those_of_the_result_file() -> None:
    for title, rows in page_rows(RESULTS).items():
        assert "\n".join(rows) in PAGE, title
    assert not RESULTS["quick"]


def test_transients() -> None:
    aligned, shifted = both("scrapl", "transient_loudness")
    assert f"its transients are off by {aligned} dB" in TOLD
    assert f"SCRAPL keeps that ({shifted} dB)" in TOLD
    for arm in SPECTROGRAMS:
        before, after = (float(value) for value in both(arm, "transient_loudness"))
        assert before < after
        assert verdicts(MESO, arm)["transient_loudness"] == "worse"
    linear, random, mss, revisited = (off(MESO, arm, "transient_loudness") for arm in SPECTROGRAMS)
    assert f"`mss_linear` {linear}, `mss_random` {random}, `mss` {mss}, and `mss_revisited`" in TOLD
    assert f"({off(MICRO, 'mss_revisited', 'transient_loudness')}), {revisited}; all four are worse" in TOLD


def test_decays() -> None:
    assert "SCRAPL misses the decay in both, by {} and {} dB".format(*both("scrapl", "decay_loudness")) in TOLD
    for arms in (MICRO, MESO):
        for arm in (*SPECTROGRAMS, "with_mss", "with_revisited"):
            assert verdicts(arms, arm)["decay_loudness"] == "better"
        assert all(6.5 < float(off(arms, arm, "decay_loudness")) < 8.5 for arm in SPECTROGRAMS)
        silence = arms["scrapl"]["decay_by_level"]["silence"]
        whole = arms["scrapl"]["test"]["decay_loudness"]["all"]["mean"]
        assert 1 / 3 < silence["share"] * silence["error"]["mean"] / whole < 1 / 2
    assert f"SCRAPL's matches are {at(MICRO, 'scrapl', 'silence')} dB above the floor" in TOLD
    assert f"at about {float(at(MICRO, 'scrapl', 'silence')) - 80.7:.0f} LKFS" in TOLD
    heard = [at(MICRO, arm, "0 to 20") for arm in ("scrapl", "mss", "mss_revisited", "mss_linear")]
    assert "({} dB) as `mss` ({}); there `mss_revisited` ({}) and `mss_linear` ({}) are".format(*heard) in TOLD


def test_orders() -> None:
    micro, meso = (
        {metric: found["agree"] for metric, found in RESULTS["settings"][name]["order"].items()}
        for name in ("micro", "meso")
    )
    assert {found["pairs"] for found in RESULTS["settings"]["micro"]["order"].values()} == {15}
    transient, decay, frechet = "transient_loudness", "decay_loudness", "frechet_aisfx"
    assert f"{micro[transient]} stand in the paper's order" in TOLD
    assert f"aligned and {meso[transient]} shifted, and {micro[decay]} and {meso[decay]} in that" in TOLD
    assert f"{micro[frechet]} aligned and only {meso[frechet]} shifted" in TOLD


def test_a_finer_logarithm_does_not_mend_decays() -> None:
    assert "the decay is off by {} and {} dB".format(*both("fine_log", "decay_loudness")) in TOLD
    for arms in (MICRO, MESO):
        assert len(arms["fine_log"]["runs"]) == 3
        assert verdicts(arms, "fine_log")["decay_loudness"] == "no difference seen"


def test_parts_of_scrapl() -> None:
    for arms in (MICRO, MESO):
        assert "better" not in verdicts(arms, "theta_is").values()
        assert set(verdicts(arms, "p_adam").values()) == {"no difference seen"}


@pytest.mark.parametrize(("arm", "alone"), [("with_revisited", "mss_revisited"), ("with_mss", "mss")])
def test_sums(arm: str, alone: str) -> None:
    found = {
        setting: {
            metric: difference(arms[arm]["runs"], arms[alone]["runs"], metric)["verdict"]
            for metric in arms[arm]["test"]
        }
        for setting, arms in (("micro", MICRO), ("meso", MESO))
    }
    assert set(found["micro"].values()) == {"no difference seen"}
    assert found["meso"]["transient_loudness"] == "better"
    assert "worse" not in found["meso"].values()
    assert {verdicts(arms, arm)["transient_loudness"] for arms in (MICRO, MESO)} == {"no difference seen"}
    for metric in ("decay_loudness", "transient_loudness"):
        first, second = both(arm, metric)
        assert any(form.format(first, second) in TOLD for form in ("{} dB aligned and {} shifted", "{} and {}"))


def test_the_sum_with_the_revisited_distance_is_nowhere_worse_than_scrapl() -> None:
    for arms in (MICRO, MESO):
        assert "worse" not in verdicts(arms, "with_revisited").values()
        assert verdicts(arms, "with_revisited")["decay_loudness"] == "better"


def test_pi_is_that_of_four_drums() -> None:
    assert {of["theta_importance"]["n_examples"] for of in RESULTS["settings"].values()} == {4}


def test_the_closest_in_the_jtfs_is_the_sum() -> None:
    for arms in (MICRO, MESO):
        means = {arm: arms[arm]["test"]["jtfs"]["all"]["mean"] for arm in SEVERAL}
        assert min(means, key=means.__getitem__) == "with_revisited"
