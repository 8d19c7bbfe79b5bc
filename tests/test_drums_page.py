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
SUMS = ("with_mss", "with_one_mss", "with_revisited", "with_one_revisited")
FIVE = {*GROUPS["paper"], *SUMS, "one_mss"}


def off(arms: dict[str, Any], arm: str, metric: str) -> str:
    return number(arms[arm]["test"][metric]["all"]["mean"])


def both(arm: str, metric: str) -> list[str]:
    return [off(arms, arm, metric) for arms in (MICRO, MESO)]


def at(arms: dict[str, Any], arm: str, band: str) -> str:
    return number(arms[arm]["decay_by_level"][band]["error"]["mean"])


def verdicts(arms: dict[str, Any], arm: str, other: str = "scrapl") -> dict[str, str]:
    """Return the metrics in which an arm differs from another by paired intervals."""
    runs, others = arms[arm]["runs"], arms[other]["runs"]
    found = {metric: difference(runs, others, metric)["verdict"] for metric in arms[arm]["test"]}
    assert set(found.values()) <= {"better", "worse", "no difference seen"}
    return {metric: verdict for metric, verdict in found.items() if verdict != "no difference seen"}


def in_which(arms: dict[str, Any], arm: str, verdict: str, other: str = "scrapl") -> set[str]:
    return {metric for metric, found in verdicts(arms, arm, other).items() if found == verdict}


def gain(arms: dict[str, Any], arm: str, other: str, metric: str) -> float:
    return -difference(arms[arm]["runs"], arms[other]["runs"], metric)["mean"]


def test_the_page_names_every_arm() -> None:
    assert [name for name in GROUPS["mended"] if f"`{name}`" not in PAGE] == []


def test_tables_are_those_of_the_result_file() -> None:
    for title, rows in page_rows(RESULTS).items():
        assert "\n".join(rows) in PAGE, title
    assert not RESULTS["quick"]


def test_seeds_are_as_many_as_the_page_says() -> None:
    counts = [{arm: len(summary["runs"]) for arm, summary in arms.items()} for arms in (MICRO, MESO)]
    assert [{count[arm] for arm in FIVE} for count in counts] == [{5}, {5}]
    assert counts[1].keys() == FIVE | {"fine_log"}
    assert {n for arm, n in counts[0].items() if arm not in FIVE | {"fine_log"}} == {1}


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
        for arm in (*SPECTROGRAMS, *SUMS):
            assert verdicts(arms, arm)["decay_loudness"] == "better"
        assert all(6.5 < float(off(arms, arm, "decay_loudness")) < 9 for arm in SPECTROGRAMS)
        silence = arms["scrapl"]["decay_by_level"]["silence"]
        whole = arms["scrapl"]["test"]["decay_loudness"]["all"]["mean"]
        assert 2 / 5 < silence["share"] * silence["error"]["mean"] / whole < 1 / 2
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
        assert verdicts(arms, "fine_log").get("decay_loudness") != "better"


def test_parts_of_scrapl() -> None:
    for arms in (MICRO, MESO):
        assert not in_which(arms, "theta_is", "better")
        assert verdicts(arms, "p_adam") == {}


@pytest.mark.parametrize("arm", ["scrapl", "mss", "mss_revisited", *SUMS])
def test_the_table_of_sums(arm: str) -> None:
    metrics = [" and ".join(both(arm, f"{part}_loudness")) for part in ("transient", "decay")]
    heard = " and ".join(at(arms, arm, "0 to 20") for arms in (MICRO, MESO))
    assert " | ".join([f"| `{arm}`", *metrics, f"{heard} |"]) in PAGE


def test_sums_with_one_resolution_beside_scrapl() -> None:
    transient = "transient_loudness"
    for arm, worse in (("with_one_mss", {transient, "jtfs"}), ("with_one_revisited", {transient})):
        assert in_which(MICRO, arm, "worse") == set()
        assert in_which(MESO, arm, "worse") == worse
    assert "mss" in in_which(MICRO, "with_one_mss", "better", "with_one_revisited")
    assert gain(MICRO, "with_one_revisited", "with_one_mss", "jtfs") > 0
    for arms in (MICRO, MESO):
        assert float(at(arms, "with_one_mss", "silence")) < 0.5 * float(at(arms, "with_one_revisited", "silence"))
        assert float(at(arms, "with_one_revisited", "0 to 20")) < float(at(arms, "with_one_mss", "0 to 20"))
    took = {arm: MICRO[arm]["ms_per_step"] for arm in ("with_one_mss", "with_one_revisited", "scrapl")}
    assert "takes {:.0f} and {:.0f} ms where SCRAPL's takes {:.0f}".format(*took.values()) in TOLD
    assert max(took.values()) / took["scrapl"] < 7 / 6


def test_sums_with_one_resolution_beside_their_spectrograms() -> None:
    pairs = {"with_one_mss": "mss", "with_one_revisited": "mss_revisited"}
    shifted = [gain(MESO, *pair, "transient_loudness") for pair in pairs.items()]
    assert "gain {:.0f} and {:.1f} dB of the transient of shifted sounds".format(*shifted) in TOLD
    assert all("transient_loudness" in in_which(MESO, *pair[:1], "better", pair[1]) for pair in pairs.items())
    pair = ("with_one_revisited", "mss_revisited")
    transient, decay = (gain(MICRO, *pair, f"{part}_loudness") for part in ("transient", "decay"))
    assert f"`with_one_revisited` {transient:.1f} dB on aligned ones" in TOLD
    assert f"`with_one_revisited` {-decay:.1f} dB of the decay aligned" in TOLD
    assert "transient_loudness" in in_which(MICRO, pair[0], "better", pair[1])
    assert in_which(MICRO, "with_one_mss", "worse", "mss") == {"mss"}
    assert {"mss", "decay_loudness"} <= in_which(MICRO, *pair[:1], "worse", pair[1])
    assert in_which(MESO, "with_one_mss", "worse", "mss") == in_which(MESO, pair[0], "worse", pair[1]) == set()


def test_it_is_the_path_that_keeps_the_attack() -> None:
    assert "the transient is off by {} and {} dB".format(*both("one_mss", "transient_loudness")) in TOLD
    assert "transient_loudness" in in_which(MICRO, "with_one_mss", "better", "one_mss")
    assert gain(MESO, "with_one_mss", "one_mss", "transient_loudness") > 0


def test_all_resolutions_are_no_better_than_one() -> None:
    for one, whole in (("with_one_mss", "with_mss"), ("with_one_revisited", "with_revisited")):
        assert not any(in_which(arms, whole, "better", one) for arms in (MICRO, MESO))
        assert f"{MICRO[whole]['ms_per_step']:.0f}" in TOLD


def test_pi_is_that_of_four_drums() -> None:
    assert {of["theta_importance"]["n_examples"] for of in RESULTS["settings"].values()} == {4}
