"""What the page on drums says is in the result file, and is so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sound_matching.drum_matching.paper import PUBLISHED
from benchmarks.sound_matching.drum_matching.summary import difference
from benchmarks.sound_matching.drum_matching.tables import page_rows
from benchmarks.sound_matching.drum_matching.winners import number
from benchmarks.studies.drums.arms import GROUPS
from benchmarks.studies.drums.plots import draw_figure

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
        assert all("transient_loudness" in in_which(arms, arm, "worse") for arms in (MICRO, MESO))
    linear, random, mss, revisited = (off(MESO, arm, "transient_loudness") for arm in SPECTROGRAMS)
    assert f"`mss_linear` {linear}, `mss_random` {random}, `mss` {mss}, and `mss_revisited`" in TOLD
    assert f"aligned sounds ({off(MICRO, 'mss_revisited', 'transient_loudness')}), {revisited}; all four" in TOLD
    paper = PUBLISHED["transient_loudness"]["micro"]
    assert all(paper["scrapl"].mean > paper[arm].mean for arm in ("mss_linear", "mss_revisited"))


def test_decays() -> None:
    assert "SCRAPL misses the decay, by {} and {} dB".format(*both("scrapl", "decay_loudness")) in TOLD
    for arms in (MICRO, MESO):
        of_scrapl = arms["scrapl"]["test"]["decay_loudness"]["all"]["mean"]
        for arm in (*SPECTROGRAMS, *SUMS):
            assert "decay_loudness" in in_which(arms, arm, "better")
        assert all(6.5 < float(off(arms, arm, "decay_loudness")) < 9 for arm in SPECTROGRAMS)
        silence = arms["scrapl"]["decay_by_level"]["silence"]
        assert 2 / 5 < silence["share"] * silence["error"]["mean"] / of_scrapl < 1 / 2
    assert f"SCRAPL's matches are {at(MICRO, 'scrapl', 'silence')} dB above it" in TOLD
    assert f"at about {float(at(MICRO, 'scrapl', 'silence')) - 80.7:.0f} LKFS" in TOLD
    silent = [at(MICRO, arm, "silence") for arm in ("mss", "mss_linear")]
    assert "({} dB; `mss_linear` {})".format(*silent) in TOLD
    heard = [at(MICRO, arm, "0 to 20") for arm in ("scrapl", "mss", "mss_revisited", "mss_linear")]
    assert "({} dB) as `mss` ({}); `mss_revisited` ({}) and `mss_linear` ({}) are closer".format(*heard) in TOLD


def test_orders() -> None:
    micro, meso = (
        {metric: found["agree"] for metric, found in RESULTS["settings"][name]["order"].items()}
        for name in ("micro", "meso")
    )
    for of in RESULTS["settings"].values():
        assert {found["pairs"] for found in of["order"].values()} == {15}
    transient, decay = "transient_loudness", "decay_loudness"
    assert f"{micro[transient]} stand in the paper's order" in TOLD
    assert f"aligned and {meso[transient]} shifted, and {micro[decay]} and {meso[decay]} in that" in TOLD
    assert f"only {meso['transient_flatness']}, of the Frechet distance" in TOLD
    assert f"(aiSFX) shifted {meso['frechet_aisfx']}." in TOLD


def test_arms_of_few_seeds() -> None:
    assert "no gain in the decay ({} and {} dB)".format(*both("fine_log", "decay_loudness")) in TOLD
    for arms in (MICRO, MESO):
        assert len(arms["fine_log"]["runs"]) == 3
        assert "decay_loudness" not in in_which(arms, "fine_log", "better")
    first = MICRO["scrapl"]["runs"][0]
    assert first["seed"] == 0
    assert f"where SCRAPL's is off by {first['test']['decay_loudness']['all']:.1f}" in TOLD
    said = {
        "finer_log": "ε = 1e-8 {} dB",
        "slow": "(`slow`) {},",
        "order_1": "order 1 {},",
        "two_renderings": "two renderings {},",
        "theta_is_floor": "(`theta_is_floor`) {},",
        "theta_is_by_pi": "(`theta_is_by_pi`) {},",
        "rates": "(`rates`) {}. One seed",
    }
    for arm, form in said.items():
        assert [run["seed"] for run in MICRO[arm]["runs"]] == [0]
        assert form.format(off(MICRO, arm, "decay_loudness")) in TOLD


def test_parts_of_scrapl() -> None:
    assert [in_which(arms, "theta_is", "better") for arms in (MICRO, MESO)] == [set(), set()]
    assert [len(in_which(arms, "theta_is", "worse")) for arms in (MICRO, MESO)] == [2, 0]
    shifted = MESO["theta_is"]["minus_reference"]["decay_loudness"]
    paper = PUBLISHED["decay_loudness"]["meso"]
    of_scrapl = MESO["scrapl"]["test"]["decay_loudness"]["all"]["mean"]
    assert shifted["interval95"][0] / of_scrapl < paper["theta_is"].mean / paper["scrapl"].mean - 1
    assert [verdicts(arms, "p_adam") for arms in (MICRO, MESO)] == [{}, {}]


@pytest.mark.parametrize("arm", ["scrapl", "mss", "mss_linear", "mss_revisited", *SUMS])
def test_the_table_of_sums(arm: str) -> None:
    metrics = [" and ".join(both(arm, f"{part}_loudness")) for part in ("transient", "decay")]
    heard = " and ".join(at(arms, arm, "0 to 20") for arms in (MICRO, MESO))
    assert " | ".join([f"| `{arm}`", *metrics, f"{heard} |"]) in PAGE


def test_what_a_step_takes() -> None:
    took = {arm: MICRO[arm]["ms_per_step"] for arm in ("with_one_mss", "with_one_revisited", "scrapl")}
    assert "takes {:.0f} and {:.0f} ms where SCRAPL's takes {:.0f}".format(*took.values()) in TOLD
    whole = [MICRO[arm]["ms_per_step"] for arm in ("with_mss", "with_revisited")]
    assert "at all sizes in every step, take {:.0f} and {:.0f}".format(*whole) in TOLD
    assert 1.6 < whole[1] / took["scrapl"] < 1.75


def test_sums_beside_scrapl() -> None:
    transient, decay = "transient_loudness", "decay_loudness"
    shares = [
        gain(arms, arm, "scrapl", decay) / arms["scrapl"]["test"][decay]["all"]["mean"]
        for arms in (MICRO, MESO)
        for arm in SUMS
    ]
    assert f"falls by {100 * min(shares):.0f} to {100 * max(shares):.0f}% in the four sums" in TOLD
    lost = [-gain(MESO, arm, "scrapl", transient) for arm in ("with_one_revisited", "with_one_mss")]
    assert "is worse by {:.1f} dB, `with_one_mss` by {:.1f}, and in the JTFS too".format(*lost) in TOLD
    for arm, worse in (("with_one_mss", {transient, "jtfs"}), ("with_one_revisited", {transient})):
        assert in_which(MICRO, arm, "worse") == set()
        assert in_which(MESO, arm, "worse") == worse


def test_sums_beside_their_spectrograms() -> None:
    transient = "transient_loudness"
    mss, revisited = ("with_one_mss", "mss"), ("with_one_revisited", "mss_revisited")
    gains = [gain(MESO, *pair, transient) for pair in (mss, revisited)]
    assert "gain {:.1f} dB (`with_one_mss`) and {:.1f} dB of the transient of shifted".format(*gains) in TOLD
    assert f"`with_one_revisited` gains {gain(MICRO, *revisited, transient):.1f} dB and pays" in TOLD
    assert f"pays {-gain(MICRO, *revisited, 'decay_loudness'):.1f} dB of the decay;" in TOLD
    assert all(transient in in_which(MESO, arm, "better", alone) for arm, alone in (mss, revisited))
    assert transient in in_which(MICRO, revisited[0], "better", revisited[1])
    assert in_which(MICRO, mss[0], "worse", mss[1]) == {"mss"}
    assert in_which(MICRO, revisited[0], "worse", revisited[1]) == {"decay_loudness"}
    for arms in (MICRO, MESO):
        assert in_which(arms, "with_revisited", "better", "mss_revisited")
        assert not in_which(arms, "with_revisited", "worse", "mss_revisited")


def test_the_two_sums_at_one_size() -> None:
    pair = ("with_one_mss", "with_one_revisited")
    for arms in (MICRO, MESO):
        assert {"mss", "transient_centroid", "decay_centroid"} <= in_which(arms, pair[0], "better", pair[1])
        assert "jtfs" in in_which(arms, pair[1], "better", pair[0])
        assert "transient_loudness" not in in_which(arms, pair[1], "better", pair[0])
        assert float(at(arms, pair[1], "0 to 20")) < float(at(arms, pair[0], "0 to 20"))
        assert float(at(arms, pair[0], "silence")) < 0.5 * float(at(arms, pair[1], "silence"))
    assert "decay_loudness" in in_which(MICRO, pair[0], "better", pair[1])
    assert gain(MESO, pair[1], pair[0], "transient_loudness") > 0


def test_all_sizes_in_every_step() -> None:
    for whole, one in (("with_mss", "with_one_mss"), ("with_revisited", "with_one_revisited")):
        found = [in_which(arms, whole, "better", one) for arms in (MICRO, MESO)]
        assert found == [{"mss"} if whole == "with_revisited" else set(), set()]
    assert f"one gain alone, of {gain(MICRO, 'with_revisited', 'with_one_revisited', 'mss'):.2f} in MSS" in TOLD


def test_one_size_without_a_path() -> None:
    assert "is off by {} and {} dB in the transient".format(*both("one_mss", "transient_loudness")) in TOLD
    assert "transient_loudness" in in_which(MICRO, "with_one_mss", "better", "one_mss")


def test_the_choice_of_one_size_does_not_rest_on_the_seed_it_was_made_on() -> None:
    for arms in (MICRO, MESO):
        others = [run for run in arms["with_one_mss"]["runs"] if run["seed"] > 0]
        assert len(others) == 4
        for metric in ("mss", "decay_loudness", "decay_centroid"):
            assert difference(others, arms["scrapl"]["runs"], metric)["verdict"] == "better"


def test_other_pages_say_of_sums_what_this_one_does() -> None:
    pages = ("README.md", "notebooks/pages/faq.md", "notebooks/pages/training.md")
    told = [" ".join((ROOT / page).read_text(encoding="utf-8").split()) for page in pages]
    assert all("two fifths to a half off" in text for text in told)
    assert "falls by 39 to 53%" in TOLD
    lost = [-gain(MESO, arm, "scrapl", "transient_loudness") for arm in ("with_one_revisited", "with_one_mss")]
    assert [round(value) for value in lost] == [1, 3]
    assert all("1 to 3 dB of the attack" in text for text in told[1:])
    textures = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text(encoding="utf-8"))
    beside = textures["problems"]["scaled"]["arms"]["with one mss"]["minus_reference"]["mean"]["differences"]
    assert "ended higher than SCRAPL alone for each of five seeds" in told[2]
    assert [difference > 0 for difference in beside.values()] == [True] * 5


@pytest.mark.filterwarnings("error")
def test_the_picture_has_a_row_for_each_arm_and_bears_the_reference_alone() -> None:
    labels = draw_figure(RESULTS).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == [arm for arm in MICRO if arm != "scrapl"]
    alone = {"micro": {**RESULTS["settings"]["micro"], "arms": {"scrapl": MICRO["scrapl"]}}}
    assert draw_figure({**RESULTS, "settings": alone}).axes


def test_pi_is_that_of_four_drums() -> None:
    assert {of["theta_importance"]["n_examples"] for of in RESULTS["settings"].values()} == {4}
