"""Tables of matched drums: the paper's numbers, means and intervals by hand, orders, winners, Markdown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from benchmarks.sound_matching.drum_matching.levels import summarize_levels
from benchmarks.sound_matching.drum_matching.paper import LABELS, PUBLISHED, SETTINGS, TABLES
from benchmarks.sound_matching.drum_matching.summary import agreement, difference, ranking, summarize
from benchmarks.sound_matching.drum_matching.tables import (
    LEVELS,
    differences_table,
    kinds_table,
    levels_table,
    order_lines,
    page_rows,
    paper_table,
    table,
)
from benchmarks.sound_matching.drum_matching.winners import number, sentence, sentences
from benchmarks.sound_matching.metrics.decay_by_level import Band

METRICS = ("mss", "jtfs", "frechet_aisfx", "transient_loudness", "decay_loudness")


def test_the_paper_s_numbers() -> None:
    """Some of each table, typed from the text once more."""
    assert PUBLISHED["mss"]["micro"]["full_tree"] == (617, 46)
    assert PUBLISHED["mss"]["meso"]["mss"] == (615, 18)
    assert PUBLISHED["jtfs"]["meso"]["theta_is"] == (1110, 52)
    assert PUBLISHED["jtfs"]["micro"]["mss_linear"] == (779, 31)
    assert PUBLISHED["frechet"]["meso"]["mss_random"] == (6.65, 1.7)
    assert PUBLISHED["frechet"]["micro"]["mss_linear"] == (1.22, 0.082)
    assert PUBLISHED["transient_loudness"]["meso"]["mss_linear"] == (2510, 480)
    assert PUBLISHED["transient_centroid"]["micro"]["theta_is"] == (1000, 120)
    assert PUBLISHED["transient_flatness"]["meso"]["mss_revisited"] == (2640, 96)
    assert PUBLISHED["decay_loudness"]["micro"]["scrapl"] == (1810, 190)
    assert PUBLISHED["decay_loudness"]["meso"]["scrapl"] == (2210, 210)
    assert PUBLISHED["decay_centroid"]["meso"]["mss_random"] == (640, 35)
    assert PUBLISHED["decay_flatness"]["micro"]["full_tree"] == (527, 31)


def test_the_paper_s_tables_are_complete() -> None:
    assert list(PUBLISHED) == [metric for metrics in TABLES.values() for metric in metrics]
    for settings in PUBLISHED.values():
        assert tuple(settings) == SETTINGS
        for numbers in settings.values():
            assert list(numbers) == list(LABELS)
            assert all(0 < entry.reach < entry.mean for entry in numbers.values())


def result(arm: str, seed: int, **changes: float) -> dict[str, Any]:
    """A finished run whose distances depend on arm and seed; hats are missing in the test set of seed 1."""
    offset = sum(map(ord, arm)) % 7
    test = {}
    for k, metric in enumerate(METRICS):
        value = changes.get(metric, 1.0 + k + 0.1 * offset + 0.01 * seed * (1 + offset))
        test[metric] = {"all": value, "snare": 2 * value}
        if seed != 1:
            test[metric]["hi-hat"] = 3 * value
    about = {"arm": arm, "seed": seed, "hash": f"{arm}{seed}", "date": "2026-01-01", "steps": 100, "seconds": 3.0}
    return {**about, "test": test}


RUNS = [result(arm, seed) for arm in ("scrapl", "mss", "full_tree") for seed in range(4)]


def test_means_and_intervals_are_those_of_students_t() -> None:
    summary = summarize(RUNS, "scrapl")
    for arm in ("scrapl", "mss", "full_tree"):
        for metric in METRICS:
            for group, seeds in (("all", (0, 1, 2, 3)), ("hi-hat", (0, 2, 3))):
                values = np.array([result(arm, seed)["test"][metric][group] for seed in seeds])
                found = summary[arm]["test"][metric][group]
                interval = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
                assert (found["n"], found["mean"]) == (len(values), pytest.approx(values.mean()))
                assert found["interval95"] == pytest.approx(interval, rel=1e-3)  # quantiles have four digits
    assert summary["mss"]["ms_per_step"] == 30.0


def test_differences_are_paired_by_seed() -> None:
    mine, reference = RUNS[4:8], [*RUNS[1:4], result("scrapl", 9)]
    found = difference(mine, reference, "jtfs")
    by_hand = {s: mine[s]["test"]["jtfs"]["all"] - RUNS[s]["test"]["jtfs"]["all"] for s in (1, 2, 3)}
    assert found["differences"] == pytest.approx({str(seed): value for seed, value in by_hand.items()})
    values = np.array(list(by_hand.values()))
    low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
    assert found["interval95"] == pytest.approx([low, high], rel=1e-3)
    assert found["verdict"] == ("worse" if low > 0 else "better" if high < 0 else "no difference seen")
    assert set(difference(mine, reference, "jtfs", "hi-hat")["differences"]) == {"2", "3"}
    assert difference(mine, [], "jtfs") == {"n": 0, "differences": {}}
    assert "minus_reference" not in summarize(RUNS, "scrapl")["scrapl"]


def steady(**means: float) -> dict[str, Any]:
    """A summary of arms with these distances, equal in all metrics but for a hundredth of it by seed."""
    runs = [
        result(arm, seed, **dict.fromkeys(METRICS, mean * (1 + 0.01 * seed)))
        for arm, mean in means.items()
        for seed in range(3)
    ]
    return summarize(runs, "scrapl")


def test_orders_are_compared_with_the_paper_s() -> None:
    # Decay, micro, in the paper: revisited 279, JTFS 315, linear 357, SCRAPL 1810.
    summary = steady(scrapl=1.0, mss_linear=2.0, mss_revisited=3.0, rates=0.1)
    assert ranking(summary, "decay_loudness") == ["rates", "scrapl", "mss_linear", "mss_revisited"]
    found = agreement(summary, "micro", "decay_loudness")
    assert (found["agree"], found["pairs"]) == (0, 3)
    # The intervals of linear and revisited do not overlap either: 357 - 12 > 279 + 12.
    assert sorted(found["contradicted"]) == [
        ["mss_linear", "mss_revisited"],
        ["scrapl", "mss_linear"],
        ["scrapl", "mss_revisited"],
    ]
    # Transient, micro: revisited 330 +- 21, linear 381 +- 12, SCRAPL 389 +- 41, which overlaps with both.
    of_transient = agreement(summary, "micro", "transient_loudness")
    assert of_transient == {"agree": 0, "pairs": 3, "contradicted": [["mss_linear", "mss_revisited"]]}
    assert agreement(steady(full_tree=1.0, scrapl=2.0), "meso", "frechet_aisfx")["agree"] == 1
    assert "loudness of the decay (dB): 0 of 3 pairs are as in the paper; against it" in "\n".join(
        order_lines(summary, "micro")
    )


def test_sentences_name_the_closest_and_where_another_is() -> None:
    summary = steady(scrapl=4.0, mss=1.0, mss_linear=3.0, untrained=0.5)
    summary["mss_linear"]["test"]["mss"]["snare"]["mean"] = 0.1
    told = sentence(summary, "mss")
    assert told.startswith("MSS log + linear: mss is closest, 1.01 ± ")
    assert "; next is mss_linear with 3.03, further off by paired 95% intervals" in told
    assert "; scrapl is 3 of 3, 4 times as far off; by kind, mss_linear for snare." in told
    assert list(sentences(summary)) == list(METRICS)
    alike = summarize(
        [
            result(arm, s, mss=1 + shift * (s - 1))
            for arm, shift in (("scrapl", 0.1), ("mss", -0.2))
            for s in range(3)
        ],
        "scrapl",
    )
    assert "cannot be told from it" in sentence(alike, "mss")
    single = summarize([result("scrapl", 0), result("mss", 0)], "scrapl")
    assert "on too few seeds to tell them apart" in sentence(single, "mss")


def test_rows_stand_beside_the_paper_s_with_ratios_to_scrapl() -> None:
    summary = steady(scrapl=2.0, mss=1.0, rates=3.0)
    header, *rows = paper_table(summary, "micro", TABLES["Table 9: decays"])
    assert header == ["arm", "seeds", "loudness of the decay (dB)", "paper"]
    assert [row[0] for row in rows] == ["scrapl", "mss", "rates"]
    assert rows[1][2].startswith("1.01 ± ")
    assert rows[1][2].endswith(" (0.50)")
    assert rows[1][3] == f"389 ± 42 ({389 / 1810:.2f})"
    assert rows[2][3] == ""
    assert len(paper_table(summary, "micro", TABLES["Table 4: audio distances"])[0]) == 2 + 2 * 3
    assert kinds_table(summary, "mss")[0] == ["MSS log + linear", "all", "hi-hat", "snare"]
    ((arm, seeds, of_decay),) = differences_table({k: summary[k] for k in ("scrapl", "mss")}, ["decay_loudness"])[
        1:
    ]
    assert (arm, seeds) == ("mss", "3")
    assert of_decay.startswith("-1.01 ± ")
    assert of_decay.endswith(", better")


def test_pages_and_the_terminal_show_what_is_finished() -> None:
    settings = {"micro": {"arms": steady(scrapl=2.0, mss=1.0)}, "meso": {"arms": {}}}
    results = {"settings": settings, "left_out": ["No arm 'crepe': no package"], "quick": False}
    pages = page_rows(results)
    assert list(pages) == [f"micro, {title}" for title in TABLES]
    header, line, first, second = pages["micro, Table 8: transients"]
    assert line == "|---|---|---|---|"
    assert header.count("|") == first.count("|") == 5
    assert first.startswith("| scrapl (SCRAPL (no θ-IS)) | 3 | 2.02 ± ")
    assert second.startswith("| mss (MSS L+L) | 3 | 1.01 ± ")
    printed = table(results)
    assert "MICRO" in printed
    assert "MESO" not in printed
    assert "No arm 'crepe': no package" in printed
    assert "Table 9: decays" in printed


def test_levels_are_those_of_the_seeds_that_have_them() -> None:
    first = {
        "0 to 20": Band(0.5, 6.0, -4.0),
        "silence": Band(0.5, 30.0, 30.0),
        "20 to 40": Band(0.0, math.nan, 0.0),
    }
    second = {
        "0 to 20": Band(0.7, 8.0, 3.92),
        "silence": Band(0.3, 20.0, 20.0),
        "20 to 40": Band(0.0, math.nan, 0.0),
    }
    both, one = summarize_levels([first, second]), summarize_levels([second])
    assert list(both) == ["0 to 20", "silence"]
    assert both["0 to 20"]["share"] == pytest.approx(0.6)
    assert both["silence"]["error"]["mean"] == pytest.approx(25.0)
    runs = {"scrapl": {"decay_by_level": both}, "untrained": {}, "mss": {"decay_by_level": one}}
    header, *rows = levels_table(runs)
    assert header == ["dB below the peak", "seeds", "0 to 20 (60% of frames)", "silence (40% of frames)"]
    reach = float(scipy.stats.t.ppf(0.975, 1) * np.std([6, 8], ddof=1) / math.sqrt(2))
    assert rows[0][:3] == ["scrapl", "2", f"7 ± {number(reach)} (+0.0)"]
    assert rows[1] == ["mss", "1", "8 (+3.9)", "20 (+20.0)"]
    results = {"settings": {"micro": {"arms": steady(scrapl=2.0)}}}
    results["settings"]["micro"]["arms"]["scrapl"]["decay_by_level"] = both
    assert page_rows(results)[f"micro, {LEVELS}"][2].startswith("| scrapl (SCRAPL (no θ-IS)) | 2 | 7 ± ")


@pytest.mark.parametrize(
    ("value", "text"), [(0.012345, "0.0123"), (3.14159, "3.14"), (123.456, "123"), (-0.5, "-0.5"), (2510, "2510")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
    assert math.isclose(float(text), value, rel_tol=5e-3)
