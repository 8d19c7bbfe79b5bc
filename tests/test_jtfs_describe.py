"""What a transform says of itself, how one is chosen for sounds, and the warning of averages that are too long."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scrapl_jtfs import SCRAPL, Description, JTFSPath, JTFSPathLoss, commands
from scrapl_jtfs._describe import step_times
from scrapl_jtfs._describe.long_average import consequence
from scrapl_jtfs._describe.settings_for_sounds import FREQUENTIAL, OCTAVES, SECOND_ORDER
from scrapl_optim import PathAdamSAGA
from tests.support.jtfs_helpers import SMALL, noise

PAPER: dict[str, Any] = dict(n_samples=32768, J=12, Q=(8, 2), J_fr=3, Q_fr=2, T=4096, F=8, sample_rate=8192)


@pytest.fixture(scope="module")
def paper() -> JTFSPath:
    return JTFSPath(**PAPER)


def lines(summary: Description) -> dict[str, str]:
    """Its lines by what they begin with."""
    return {line.split(":")[0].strip(): line for line in str(summary).splitlines()}


# --- what it says, against the table and closed forms ---


def slowest_rate(sample_rate: float, J: int, Q2: int) -> float:
    """The closed form in the documentation of JTFSPath.describe."""
    xi = max(0.35, 1 / (1 + 2 ** (3 / Q2)))
    sigma = xi / math.sqrt(math.log(2)) * (1 - 2 ** (-1 / Q2)) / (1 + 2 ** (-1 / Q2))
    k = math.ceil(Q2 * math.log2(10 * sigma * 2**J)) - 1
    return sample_rate * xi / Q2 * 2 ** (-k / Q2)


@pytest.mark.parametrize("Q2", [1, 2, 3, 4, 6, 8, 12])
@pytest.mark.parametrize("J", [5, 8, 11])
def test_the_slowest_rate_has_a_closed_form(J: int, Q2: int) -> None:
    summary = JTFSPath(2**14, J=J, Q=(8, Q2), J_fr=2, T=0, sample_rate=16000).describe()
    assert summary.rates[0] == pytest.approx(slowest_rate(16000, J, Q2), rel=1e-12)
    if Q2 == 1:
        assert summary.rates[0] == pytest.approx(0.35 * 16000 / 2**J, rel=1e-12)
    assert summary.periods == pytest.approx(summary.rates[0] * 2**14 / 16000)


def test_rates_and_scales_are_those_of_the_table(paper: JTFSPath) -> None:
    summary = paper.describe()
    assert set(summary.rates) == {path.rate for path in paper.paths}
    assert set(summary.scales) == {path.scale for path in paper.paths}
    assert list(summary.rates) == sorted(summary.rates)
    assert (summary.n_paths, summary.n_drawn, summary.orders) == (315, 315, (2,))
    per_decade = (len(summary.rates) - 1) / math.log10(summary.rates[-1] / summary.rates[0])
    assert summary.rates_per_decade == pytest.approx(per_decade)


def test_densities_of_wavelets_an_octave_apart() -> None:
    summary = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096).describe()
    assert summary.rates_per_decade == pytest.approx(1 / math.log10(2))
    assert summary.scales_per_octave == pytest.approx(1.0)
    assert summary.scales == pytest.approx([0.0, 0.35, 0.7, 1.4, 2.8])


def test_the_first_order_reaches_from_the_lowest_to_the_highest_row() -> None:
    jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, F=0, orders=(1, 2), sample_rate=4096)
    summary, rows = jtfs.describe(), jtfs.row_frequencies(1)
    assert summary.first_order[1] == pytest.approx(float(rows[0]))
    assert float(rows[-1]) == pytest.approx(summary.first_order[0], rel=0.1)  # kymatio keeps a row beyond it
    assert summary.first_order_per_octave == 8


def test_costs_are_those_of_the_table(paper: JTFSPath) -> None:
    summary, costs = paper.describe(), [path.cost for path in paper.paths]
    assert (summary.cheapest.cost, summary.costliest.cost) == (min(costs), max(costs))
    assert summary.mean_cost == pytest.approx(1.0)
    few = paper.describe(paths=[3, 200])
    assert few.mean_cost == pytest.approx((costs[3] + costs[200]) / 2)
    assert {few.cheapest.index, few.costliest.index} == {3, 200}


def test_visits(paper: JTFSPath) -> None:
    summary = paper.describe(steps=1920)
    assert (summary.visits, summary.recommended_steps) == (pytest.approx(1920 / 315), 25 * 315)
    assert lines(summary)["steps"].startswith(
        "steps: 1920 visit each path 6.1 times on average; 25 visits of each"
    )
    unsaid = paper.describe()
    assert (unsaid.steps, unsaid.visits) == (None, None)
    assert lines(unsaid)["steps"] == "steps: 25 visits of each path take 7875 steps"


def test_former_names_warn(paper: JTFSPath) -> None:
    summary = paper.describe()
    with pytest.warns(DeprecationWarning, match=r"use Description\.costliest") as caught:
        assert summary.dearest == summary.costliest
    with pytest.warns(DeprecationWarning, match=r"use Description\.recommended_steps"):
        assert summary.wanted_steps == summary.recommended_steps
    assert caught[0].filename == __file__


def test_only_some_paths_are_drawn(paper: JTFSPath) -> None:
    keep = paper.paths.where(rate=(2, 20), spin=1)
    summary = paper.describe(steps=1000, n_parameters=1 << 20, paths=keep)
    assert (summary.n_paths, summary.n_drawn) == (315, len(keep))
    assert 2 <= summary.rates[0] <= summary.rates[-1] <= 20
    assert summary.visits == pytest.approx(1000 / len(keep))
    assert summary.bytes_per_parameter["float32"] == 8 * len(keep) + 4
    assert summary.n_rates == len(paper.paths.bundles("rate", within=keep))
    assert str(summary).startswith(f"{len(keep)} of 315 paths of order 2, ")
    assert summary == paper.describe(steps=1000, n_parameters=1 << 20, paths=[paper.paths[p] for p in keep])


@pytest.mark.parametrize(("storage", "row"), [("float32", 8.0), ("bfloat16", 4.0), ("int8", 2 + 8 / 256)])
def test_memory_is_what_the_optimizer_takes(storage: str, row: float) -> None:
    jtfs = JTFSPath(512, J=5, Q=(4, 1), J_fr=2)
    summary = jtfs.describe(n_parameters=256 * 64)
    assert summary.bytes_per_parameter[storage] == row * jtfs.n_paths + 4
    assert summary.bytes_in_all is not None
    optimizer = PathAdamSAGA([nn.Parameter(torch.ones(64, 256))], jtfs.n_paths, storage=storage)
    optimizer.materialize()
    (state,) = optimizer.state.values()
    assert summary.bytes_in_all[storage] == sum(tensor.nbytes for tensor in state.values())


def test_text_of_the_papers_transform(paper: JTFSPath) -> None:
    summary = lines(paper.describe(n_parameters=9_000_000))
    assert "315 paths of order 2, for signals of 32768 samples = 4 s" in summary
    assert summary["21 rates"].startswith("21 rates: 0.495 to 717 Hz, ")
    assert summary["average along time"] == ("average along time: T = 4096 samples = 0.5 s, 12.5 % of the signal")
    assert summary["float32 2524 (22.7 GB)"]
    assert "drawing bundles of one rate keeps 21 rows in place of 315" in summary


def test_text_without_a_sample_rate() -> None:
    text = str(JTFSPath(512, J=5, Q=(4, 1), J_fr=2).describe())
    assert "without a sample_rate no Hz are known" in text
    assert " Hz," not in text
    assert " s\n" not in text
    assert "cycles/sample" in text


def test_text_of_order_one_alone_and_of_one_scale() -> None:
    jtfs = JTFSPath(512, J=5, Q=(4, 1), J_fr=2, orders=(1, 2), sample_rate=1000)
    summary = jtfs.describe(paths=[0])
    assert (summary.orders, summary.rates, summary.periods, summary.scales, summary.scales_per_octave) == (
        (1,), (), None, (0.0,), None,
    )  # fmt: skip
    assert "rates" not in str(summary).replace("of one rate", "")
    assert "\n1 scale: 0, the low-pass\n" in str(summary)
    assert "keeps 1 row in place of 1" in str(summary)
    one = jtfs.describe(paths=[jtfs.paths.where(order=2, spin=1)[0]])
    assert (one.rates_per_decade, one.scales_per_octave) == (None, None)
    assert lines(one)["1 rate"].startswith("1 rate: ")
    assert jtfs.describe().n_rates == 1 + len(jtfs.describe().rates)


@pytest.mark.parametrize(
    ("T", "averaging", "average", "text"),
    [
        ("global", "global", 512, "over the whole signal (T='global'), 512 samples = 0.512 s"),
        (0, "none", 0, "none (T=0)"),
        (64, "local", 64, "T = 64 samples = 0.064 s, 12.5 % of the signal"),
        (12.5, "local", 12.5, "T = 12.5 samples = 0.0125 s, 2.44 % of the signal"),
    ],
)
def test_text_of_averages(T: Any, averaging: str, average: float, text: str) -> None:
    summary = JTFSPath(512, J=5, Q=(4, 1), J_fr=2, T=T, sample_rate=1000).describe()
    assert (summary.averaging, summary.average, summary.is_too_long) == (averaging, average, False)
    assert lines(summary)["average along time"] == f"average along time: {text}"


@pytest.mark.filterwarnings("ignore:T = 65 samples")
def test_text_of_a_long_average_says_what_follows() -> None:
    summary = JTFSPath(512, J=5, Q=(4, 1), J_fr=2, T=65).describe()
    assert summary.is_too_long
    line = lines(summary)["average along time"]
    assert "12.7 % of the signal, more than an eighth: it hears the signal's reflection" in line
    assert line.endswith("use T='global', or T up to 64")


def test_the_object_shows_as_its_text(paper: JTFSPath) -> None:
    assert repr(paper.describe()) == str(paper.describe())
    assert all(len(line) < 200 for line in str(paper.describe()).splitlines())


@pytest.mark.parametrize("name", ["steps", "n_parameters"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-3, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_wrong_numbers(paper: JTFSPath, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Invalid {name}: {value}"):
        paper.describe(**{name: value})


def test_wrong_paths(paper: JTFSPath) -> None:
    with pytest.raises(IndexError, match="315"):
        paper.describe(paths=[315])
    with pytest.raises(ValueError, match="Invalid paths: none"):
        paper.describe(paths=[])


# --- for_sounds ---


def test_two_to_twenty_hertz_in_a_second() -> None:
    jtfs = JTFSPath.for_sounds(1.0, 16000)
    assert jtfs.geometry.n_samples == 16000
    assert (jtfs.geometry.J, jtfs.geometry.Q, jtfs.geometry.J_fr, jtfs.geometry.Q_fr) == (12, (8, 1), 3, 1)
    assert (jtfs.n_paths, jtfs.geometry.time.averaging) == (90, "global")
    assert jtfs.sample_rate == 16000
    assert jtfs(torch.randn(16000), 89).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.05, 3.0),
    st.sampled_from([4000, 8192.0, 16000, 44100]),
    st.floats(1.0, 30.0),
    st.floats(1.0, 20.0),
    st.integers(1, 400),
    st.booleans(),
)
def test_what_was_asked_for_is_heard(
    seconds: float, sample_rate: float, periods: float, span: float, n_paths: int, both: bool
) -> None:
    slowest = periods / seconds
    rates = slowest, min(span * slowest, 0.04 * sample_rate)
    if rates[1] < slowest:
        return
    orders = (1, 2) if both else (2,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jtfs = JTFSPath.for_sounds(seconds, sample_rate, rates, n_paths, orders=orders)
    g, summary = jtfs.geometry, jtfs.describe()
    assert g.n_samples == round(seconds * sample_rate)
    assert summary.rates[0] <= rates[0] <= rates[1] <= summary.rates[-1]
    assert summary.orders == orders
    assert summary.averaging == "global" or (summary.averaging == "local" and summary.average <= g.n_samples / 8)
    if g.J > 1:  # and no J less would do
        assert slowest_rate(sample_rate, g.J - 1, g.Q[1]) > rates[0] or g.J - 1 < 3


@pytest.mark.parametrize("orders", [(2,), (1, 2)])
@pytest.mark.parametrize("n_paths", [1, 40, 70, 100, 135, 315, 1000, 5000])
def test_no_choice_has_a_number_of_paths_nearer(n_paths: int, orders: tuple[int, ...]) -> None:
    chosen = JTFSPath.for_sounds(1.0, 8000, (4, 40), n_paths, orders=orders)
    numbers = {}
    for Q2 in SECOND_ORDER:
        J = next(J for J in range(1, 13) if slowest_rate(8000, J, Q2) <= 4)
        for J_fr in (1, *OCTAVES):
            for Q_fr in FREQUENTIAL:
                table = small_table(J, Q2, J_fr, Q_fr, orders)
                numbers[J, Q2, J_fr, Q_fr] = table
    usual = [n for (_, _, J_fr, _), n in numbers.items() if J_fr > 1]
    allowed = usual if n_paths >= min(usual) else list(numbers.values())
    assert abs(chosen.n_paths - n_paths) == min(abs(n - n_paths) for n in allowed)
    g = chosen.geometry
    assert numbers[g.J, g.Q[1], g.J_fr, g.Q_fr] == chosen.n_paths


def small_table(J: int, Q2: int, J_fr: int, Q_fr: int, orders: tuple[int, ...]) -> int:
    """Number of paths by the table itself, without filters."""
    from scrapl_jtfs._transform.geometry import make_geometry
    from scrapl_jtfs.paths import list_paths, make_banks

    geometry = make_geometry(8000, J, (8, Q2), J_fr, Q_fr, "global", None)
    return len(list_paths(geometry, make_banks(geometry), 8000, orders))


def test_of_two_as_near_the_usual_scales() -> None:
    jtfs = JTFSPath.for_sounds(1.0, 16000, n_paths=100)  # 110 with J_fr=4, and with J_fr=2, Q_fr=2
    assert jtfs.describe().scales[1] == pytest.approx(0.35)


def test_a_long_sound_has_a_local_average() -> None:
    jtfs = JTFSPath.for_sounds(4.0, 8192, (2, 20))
    assert (jtfs.geometry.J, jtfs.geometry.time.averaging, jtfs.geometry.time.support) == (11, "local", 2048)
    assert "T=2048" in repr(jtfs)


def test_options_reach_the_transform() -> None:
    jtfs = JTFSPath.for_sounds(0.5, 8000, (4, 40), samples_per_bandwidth=2, smoothing=1e-4, memory=10**6)
    assert (jtfs.samples_per_bandwidth, jtfs.smoothing, jtfs.memory) == (2, 1e-4, 10**6)

    class Mine(JTFSPath):
        pass

    assert type(Mine.for_sounds(0.5, 8000, (4, 40))) is Mine


def test_a_sound_of_exactly_one_period_is_long_enough() -> None:
    assert JTFSPath.for_sounds(0.1, 16000, (10, 20)).describe().rates[0] <= 10


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(seconds=0.4), ValueError, r"Invalid seconds: 0\.4; .* least 0\.5 s, .*2 Hz; .* from 2\.5 Hz on"),
        (dict(rates=(0.5, 20)), ValueError, r"Invalid seconds: 1\.0; expected at least 2 s"),
        (dict(seconds=0), ValueError, "Invalid seconds: 0; expected a positive number"),
        (dict(seconds=math.inf), ValueError, "Invalid seconds: inf"),
        (dict(seconds=math.nan), ValueError, "Invalid seconds: nan"),
        (dict(seconds="1"), ValueError, "Invalid seconds: '1'"),
        (dict(seconds=1e9), ValueError, r"Invalid seconds: 1000000000\.0; expected 6\.25e-05 to 1\.68e\+04"),
        (dict(seconds=1e-9), ValueError, r"Invalid seconds: 1e-09; expected"),
        (dict(sample_rate=0), ValueError, "Invalid sample_rate: 0; expected a positive number of Hz"),
        (dict(sample_rate=None), ValueError, "Invalid sample_rate: None"),
        (dict(rates=(20, 2)), ValueError, r"Invalid rates: \(20, 2\); expected \(slowest, fastest\)"),
        (dict(rates=5), ValueError, "Invalid rates: 5"),
        (dict(rates=(2,)), ValueError, "Invalid rates"),
        (dict(rates=(0, 20)), ValueError, "Invalid rates"),
        (dict(rates=(None, 20)), ValueError, "Invalid rates"),
        (dict(rates=(2, math.inf)), ValueError, "Invalid rates"),
        (dict(rates=(2, 7000)), ValueError, r"Invalid rates: \(2, 7000\); expected .* 16000 samples at .* have"),
        (dict(n_paths=0), ValueError, "Invalid n_paths: 0"),
        (dict(n_paths=10.0), TypeError, r"Invalid n_paths: 10\.0"),
        (dict(orders=(1,)), ValueError, r"Invalid orders: \(1,\); .*as order 1 has no rates"),
        (dict(orders=(3,)), ValueError, r"Invalid orders: \(3,\)"),
        (dict(orders=2), TypeError, "Invalid orders: 2"),
        (dict(smoothing=-1), ValueError, "Invalid smoothing: -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        JTFSPath.for_sounds(**{"seconds": 1.0, "sample_rate": 16000} | change)


# --- seconds of a step beside a spectrogram loss ---


class Clock:
    """Time that passes only where a test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(step_times, "perf_counter", lambda: self.now)


def take(monkeypatch: pytest.MonkeyPatch, path: Any, spectrogram: Any) -> list[int | None]:
    """Let each step take the seconds that are said, and return what is computed: a path's id, or None."""
    clock, calls, forward, distance = Clock(monkeypatch), [], JTFSPathLoss.forward, step_times.spectrogram_loss

    def on_path(self: JTFSPathLoss, x: torch.Tensor, target: torch.Tensor, path_idx: int) -> torch.Tensor:
        calls.append(path_idx)
        clock.now += path(path_idx, calls.count(path_idx))
        return forward(self, x, target, path_idx)

    def on_spectrogram(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(None)
        clock.now += spectrogram
        return distance(x, target)

    monkeypatch.setattr(JTFSPathLoss, "forward", on_path)
    monkeypatch.setattr(step_times, "spectrogram_loss", on_spectrogram)
    return calls


def test_no_time_is_taken_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = take(monkeypatch, lambda *_: 1.0, 1.0)
    summary = JTFSPath(**SMALL).describe()
    assert summary.measured is None
    assert not calls
    assert "measure=True" in lines(summary)["time of a step"]
    assert "measured here" not in str(summary)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_timed(dtype: torch.dtype) -> None:
    summary = JTFSPath(**SMALL).to(dtype).describe(measure=True)
    times = summary.measured
    assert times is not None
    assert times.path > 0
    assert times.spectrogram > 0
    assert times.ratio == times.path / times.spectrogram
    assert (times.batch, times.dtype, times.device) == (4, dtype, torch.device("cpu"))
    (line,) = [line for line in str(summary).splitlines() if "measured here" in line]
    assert line == str(times)
    assert "time of a step" not in str(summary)


def test_times_are_medians_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    jtfs = JTFSPath(**SMALL)
    costs = {path.index: path.cost for path in jtfs.paths}
    slow = {1: 5.0, 4: 1.0}  # the first visit is warm-up; the third round is disturbed
    calls = take(monkeypatch, lambda path, visit: costs[path] * 3e-3 + slow.get(visit, 0.0), 2e-3)
    times = jtfs.describe(measure=True).measured
    assert times is not None
    timed = calls[:4]
    assert timed[3] is None
    assert calls == timed * 8  # in turn
    assert times.path == pytest.approx(3e-3 * sum(costs[p] for p in timed[:3] if p is not None) / 3)
    assert times.spectrogram == pytest.approx(2e-3)
    assert str(times).startswith("a step, measured here (batch of 4, float32, cpu): 3")
    assert str(times).endswith("times that of a spectrogram loss of three resolutions (2 ms)")


def test_slow_steps_are_not_repeated_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = take(monkeypatch, lambda *_: 6.0, 7.0)
    times = JTFSPath(**SMALL).describe(measure=True).measured
    assert times is not None
    assert len(calls) == 2 * 4
    assert str(times).endswith(": 6 s, 0.857 times that of a spectrogram loss of three resolutions (7 s)")


def test_only_drawn_paths_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = take(monkeypatch, lambda *_: 1e-3, 1e-3)
    JTFSPath(**SMALL).describe(paths=[3, 7], measure=True)
    assert set(calls) == {3, 7, None}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 90, 315])
def test_paths_that_are_timed_are_of_typical_cost(n: int, paper: JTFSPath) -> None:
    paths = paper.paths[:n]
    chosen = step_times.typical_paths(paths)
    costs = sorted(path.cost for path in paths)
    assert len({path.index for path in chosen}) == min(n, 3)
    thirds = [costs[round(part * n / len(chosen)) :][: -(-n // len(chosen))] for part in range(len(chosen))]
    assert all(min(third) <= path.cost <= max(third) for third, path in zip(thirds, chosen, strict=True))
    mean = sum(path.cost for path in chosen) / len(chosen)
    assert mean == pytest.approx(sum(costs) / n, rel=0.1)


def test_measuring_leaves_everything_as_it_was() -> None:
    jtfs = JTFSPath(**SMALL)
    before = torch.get_rng_state(), {name: buffer.clone() for name, buffer in jtfs.named_buffers()}
    settings = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), dict(vars(jtfs))
    jtfs.describe(measure=True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(buffer, before[1][name]) for name, buffer in jtfs.named_buffers())
    assert settings == (
        torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), dict(vars(jtfs)),
    )  # fmt: skip
    assert not any(buffer.requires_grad for buffer in jtfs.buffers())


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
)
def test_a_step_is_timed_in_any_mode(context: Any) -> None:
    jtfs = JTFSPath(**SMALL)
    with context():
        times = jtfs.describe(measure=True).measured
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    with context():
        assert modes == (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
        )  # fmt: skip
    assert times is not None
    assert times.path > 0


@pytest.mark.parametrize("measure", [1, None, "yes"])
def test_measure_is_a_bool(measure: Any) -> None:
    with pytest.raises(TypeError, match=r"Invalid measure: .*; expected True or False$"):
        JTFSPath(**SMALL).describe(measure=measure)


def test_there_is_nothing_to_measure_on_meta() -> None:
    with pytest.raises(ValueError, match=r"Invalid measure: True; .* not on meta; .* leave measure out"):
        JTFSPath(**SMALL).to("meta").describe(measure=True)


def test_the_spectrogram_loss_is_auraloss() -> None:
    freq = pytest.importorskip("auraloss.freq")
    x, y = noise(2, 4, 5000, dtype=torch.float32)
    y *= torch.linspace(0, 1e-4, 5000)  # to below the smallest magnitude
    theirs = freq.MultiResolutionSTFTLoss(w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0)(x[:, None], y[:, None])
    torch.testing.assert_close(step_times.spectrogram_loss(x, y), theirs)


@pytest.mark.parametrize("n_samples", [2, 60, 300, 1500])
def test_short_signals_shorten_the_windows(n_samples: int) -> None:
    x, y = noise(2, 3, n_samples)
    expected = []
    for n_fft, hop, support in step_times.RESOLUTIONS:
        size, support = min(n_fft, n_samples), min(support, n_samples)
        window = torch.zeros(size, dtype=x.dtype)
        left = (size - support) // 2
        window[left : left + support] = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(support) / support)
        padded = nn.functional.pad(torch.stack([x, y]), (size // 2, size // 2), mode="reflect")
        a, b = torch.fft.rfft(padded.unfold(-1, size, hop) * window).abs().clamp(min=1e-4)
        expected.append((a - b).abs().mean() + (a / b).log().abs().mean())
    torch.testing.assert_close(step_times.spectrogram_loss(x, y), sum(expected) / 3)
    assert step_times.spectrogram_loss(x, x) == 0


def test_the_command_measures(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["describe", "--samples", "512", "--J", "5", "--Q", "4", "--J-fr", "2"]
    assert commands.main([*options, "--measure"]) == 0
    measured = capsys.readouterr().out.splitlines()
    assert commands.main(options) == 0
    plain = capsys.readouterr().out.splitlines()
    (different,) = [pair for pair in zip(measured, plain, strict=True) if pair[0] != pair[1]]
    assert different[0].startswith("a step, measured here (batch of 4, float32, cpu): ")
    assert "(--measure)" in different[1]


# --- the warning ---


@contextmanager
def warned() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@pytest.mark.parametrize("options", [dict(T=65), dict(T=64.5), dict(J=7), dict(T=512)])
def test_a_long_local_average_warns_once_where_it_is_made(options: dict[str, Any]) -> None:
    with warned() as caught:
        jtfs = JTFSPath(**SMALL | options)
    (warning,) = caught
    assert warning.category is UserWarning
    assert Path(warning.filename) == Path(__file__)
    assert str(warning.message).endswith("use T='global', or T up to 64.")
    assert str(warning.message).startswith(f"T = {jtfs.geometry.time.support:g} samples, ")
    with warned() as caught:  # not again for what is made of it
        for made in (copy.deepcopy(jtfs), pickle.loads(pickle.dumps(jtfs)), jtfs.double(), jtfs.to("meta")):
            made.describe()
    assert not caught


def test_it_points_at_the_caller_of_whatever_makes_one() -> None:
    class Mine(JTFSPath):
        def __init__(self) -> None:
            super().__init__(512, J=7, Q=(4, 1), J_fr=2)

    for make in (Mine, lambda: SCRAPL(512, J=7, Q=(4, 1), J_fr=2)):
        with warned() as caught:
            make()
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


@pytest.mark.parametrize("options", [dict(T=64), dict(), dict(J=6), dict(J=7, T="global"), dict(J=7, T=0)])
def test_no_other_average_warns(options: dict[str, Any]) -> None:
    with warned() as caught:
        JTFSPath(**SMALL | options)
    assert not caught


def test_the_papers_transform_is_silent() -> None:
    with warned() as caught:
        JTFSPath(**PAPER)
    assert not caught


def test_errors_come_before_the_warning() -> None:
    with warned() as caught, pytest.raises(ValueError, match="Invalid J_fr"):
        JTFSPath(512, J=7, Q=(1, 1), J_fr=9)
    assert not caught


def test_a_signal_under_eight_samples_is_not_told_of_a_shorter_average() -> None:
    with pytest.raises(ValueError, match=r"Invalid J: 2 .* there is none"):
        JTFSPath(7, J=2, Q=(1, 1), J_fr=1)
    assert consequence(7).endswith("use T='global'")
    assert consequence(8).endswith("use T='global', or T up to 1")
