"""PathLog: the estimate of the full loss, visits, warnings about draws, state, and its callback for Lightning."""

from __future__ import annotations

import inspect
import io
import logging
import math
import textwrap
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from scrapl_optim import PathLog, PathSampler
from scrapl_optim.path_log import log_chance_of_missing

P = 4
histories = st.lists(st.tuples(st.integers(0, P - 1), st.floats(-1e6, 1e6)), max_size=60)


def logged(history: Any, n_paths: int = P, **options: Any) -> PathLog:
    log = PathLog(n_paths, **options)
    for path, loss in history:
        log.update(path, loss)
    return log


@settings(deadline=None)
@given(histories, st.integers(1, 4))
def test_is_what_the_history_says(history: list[tuple[int, float]], window: int) -> None:
    log = logged(history, window=window)
    by_path = [[loss for path, loss in history if path == p] for p in range(P)]
    seen = [losses for losses in by_path if losses]
    assert log.updates == len(history)
    assert log.visits.tolist() == [len(losses) for losses in by_path]
    assert log.visits.dtype == np.int64
    if seen:
        assert log.estimate() == pytest.approx(sum(losses[-1] for losses in seen) / len(seen))
    else:
        assert math.isnan(log.estimate())
    for p, losses in enumerate(by_path):
        ratio = losses[-1] / losses[0] if losses and losses[0] != 0 else math.nan
        assert log.relative(p) == pytest.approx(ratio, nan_ok=True)
        assert log.losses[p] == pytest.approx(losses[-1] if losses else math.nan, nan_ok=True)
    np.testing.assert_array_equal(log.relative(), [log.relative(p) for p in range(P)])
    order = [path for path, _ in history]
    ages = [order[::-1].index(p) if p in order else len(order) for p in range(P)]
    assert log.ages.tolist() == ages
    assert log.stalest() == ages.index(max(ages))
    rising = [
        p for p, losses in enumerate(by_path)
        if len(losses) >= 2 * window and min(losses[-window:]) > max(losses[-2 * window : -window])
    ]  # fmt: skip
    assert log.rising() == tuple(rising)
    updates, estimates = log.curve
    assert updates.tolist() == list(range(1, len(history) + 1))
    assert estimates[-1:].tolist() == ([log.estimate()] if seen else [])
    assert len(log.report().splitlines()) >= 4


def test_estimate_is_the_full_loss_where_single_losses_jump() -> None:
    """Paths a factor of 1000 apart, a loss that falls slowly, draws of unequal probability."""
    scales = torch.logspace(-3, 0, 30, dtype=torch.float64)
    sampler = PathSampler(torch.linspace(1, 5, 30).div(90), seed=1)
    log = PathLog(30)
    for step in range(2000):
        path = sampler(step)
        log.update(path, scales[path] * math.exp(-step / 20000))
    full = float(scales.mean()) * math.exp(-0.1)
    assert log.estimate() == pytest.approx(full, rel=0.01)
    updates, estimates = log.curve
    late = estimates[updates > 500]
    assert late.max() / late.min() < 1.2


@pytest.mark.parametrize("n_updates", [1023, 1024, 5000])
def test_the_curve_is_bounded_and_goes_to_the_end(n_updates: int) -> None:
    log = logged([(0, float(k)) for k in range(1, n_updates + 1)], 1)
    updates, estimates = log.curve
    assert 256 <= len(updates) < 1024
    np.testing.assert_array_equal(updates, estimates)
    steps = np.diff(updates)
    assert steps.min() == steps.max()
    assert updates[-1] > n_updates - steps[0]


def test_tensors_are_copied_cut_off_and_taken_in_order() -> None:
    log = PathLog(2)
    loss = torch.tensor([3.0], requires_grad=True)
    moved = loss * 2
    log.update(torch.tensor(1), moved)
    with torch.no_grad():
        moved.mul_(100)
    log.update(1, 5.0)
    log.update(0, torch.tensor(7, dtype=torch.int32))
    log.update(0, torch.tensor(0.5, dtype=torch.bfloat16))
    assert log.relative(1) == pytest.approx(5 / 6)
    assert log.losses.tolist() == [0.5, 5.0]
    assert log.state_dict()["updates"] == 4


def test_losses_left_on_their_device_count_at_once_and_are_read_in_order() -> None:
    """As those of an accelerator, of which this one pretends to be."""
    reads: list[float] = []

    class Far(torch.Tensor):
        @property
        def device(self) -> Any:  # type: ignore[override]
            return torch.device("cuda")

        def item(self) -> Any:
            reads.append(super().item())
            return reads[-1]

    log, near = PathLog(3), PathLog(3)
    for k in range(81):
        log.update(k % 3, torch.tensor(float(k)).as_subclass(Far))
        near.update(k % 3, float(k))
        assert log.updates == k + 1
        assert len(reads) == (0 if k < 63 else 64)
    log.update(0, 5.0)
    near.update(0, 5.0)
    assert reads == [float(k) for k in range(81)]
    assert repr(log) == repr(near)
    assert log.report() == near.report()


def test_losses_that_are_not_finite_are_counted_and_change_nothing_else() -> None:
    log = logged([(0, 2.0), (0, math.nan), (0, math.inf), (1, math.nan)])
    assert log.visits.tolist() == [3, 1, 0, 0]
    assert log.estimate() == 2.0
    assert log.relative(0) == 1.0
    assert math.isnan(log.relative(1))
    assert "warning: 3 losses were inf or NaN" in log.report()


def test_report_says_how_paths_stand() -> None:
    log = logged([(0, 4.0), (1, 8.0), (0, 1.0), (1, 4.0), (3, 2.0)])
    assert log.report().splitlines() == [
        "5 updates: 3 of 4 paths seen, 0 to 2 visits, mean 1.25",
        "estimate of the full loss: 2.33; last over first loss of a path, median: 0.5",
        "stalest: path 2, never seen",
        "rising: none",
    ]
    rising = logged([(2, float(k)) for k in range(10)], 1 + 2)
    assert "rising: 2" in rising.report()
    log.update(2, 1.0)
    assert "stalest: path 0, last seen 3 updates ago" in log.report()
    assert PathLog(2).report().startswith("0 updates: 0 of 2 paths seen")


def drawn(n_paths: int, steps: Any, probs: Any = None, repeat: int = 1) -> PathLog:
    sampler = PathSampler(probs, n_paths=n_paths, seed=0)
    log = PathLog(n_paths, probs=probs)
    for step in steps:
        for _ in range(repeat):
            log.update(sampler(step), 1.0)
    return log


@pytest.mark.parametrize("n_batches", [1, 2, 5, 64])
def test_a_batch_index_as_step_is_seen_by_the_paths_missed(n_batches: int) -> None:
    log = drawn(99, [i for _ in range(640 // n_batches) for i in range(n_batches)])
    seen = int((log.visits > 0).sum())
    text = " ".join(log.warnings())
    if n_batches == 1:
        assert "all 640 updates are of path" in text
    else:
        assert f"{seen} of 99 paths in 640 updates" in text
        assert "is the step a batch index" in text
    assert f"warning: {log.warnings()[0]}" in log.report().splitlines()


@pytest.mark.parametrize("n_batches", [150, 1000])
def test_a_batch_index_as_step_is_seen_by_draws_that_come_again(n_batches: int) -> None:
    sampler = PathSampler(n_paths=20, seed=0)
    log = drawn(20, [*range(n_batches), *range(40)])
    assert log.visits.min() > 0
    (text,) = log.warnings()
    changes = [step for step in range(100) if step == 0 or sampler(step) != sampler(step - 1)]
    assert f"at update {n_batches + changes[31] + 1} the first 32 draws had come again" in text


SOUND: dict[str, Any] = {
    "uniform": lambda: drawn(99, range(3000)),
    "few draws": lambda: drawn(300, range(64)),
    "uneven": lambda: drawn(50, range(2000), probs=[0.951, *[0.001] * 49]),
    "some never": lambda: drawn(50, range(2000), probs=[0.0] * 40 + [0.1] * 10),
    "accumulation": lambda: drawn(99, range(40), repeat=32),
    "one path": lambda: drawn(1, range(500)),
    "two paths": lambda: drawn(2, range(500)),
    "the likeliest path alone": lambda: logged([(0, 1.0)] * 500, 2, probs=[0.999, 0.001]),
    "in turn": lambda: logged([(k % 10, 1.0) for k in range(500)], 10),
    "in turn, accumulated": lambda: logged([(k // 3 % 10, 1.0) for k in range(500)], 10),
    "shuffled passes": lambda: logged([
        (int(p), 1.0) for k in range(20) for p in np.random.default_rng(k).permutation(40)
    ], 40),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOUND)
def test_sound_draws_raise_no_alarm(kind: str) -> None:
    assert SOUND[kind]().warnings() == ()


def test_uneven_draws_without_their_probabilities_name_the_remedy() -> None:
    sampler = PathSampler([0.0] * 40 + [0.1] * 10, seed=0)
    log = logged([(sampler(step), 1.0) for step in range(1000)], 50)
    (text,) = log.warnings()
    assert "PathLog(n_paths, probs=sampler.probs)" in text
    assert log.stalest() < 40
    informed = logged([(sampler(step), 1.0) for step in range(1000)], 50, probs=sampler.probs)
    assert informed.stalest() >= 40
    assert "10 of 10 paths seen" in informed.report()


@pytest.mark.parametrize(("n_paths", "draws"), [(5, 20), (30, 60), (99, 640)])
def test_the_chance_of_missing_paths_is_a_bound(n_paths: int, draws: int) -> None:
    """Above the literal probability, found by the recurrence over draws for the number of paths seen."""
    seen = np.zeros(n_paths + 1)
    seen[0] = 1.0
    for _ in range(draws):
        k = np.arange(n_paths + 1)
        stay, go = seen * k / n_paths, seen * (1 - k / n_paths)
        seen = stay + np.concatenate([[0.0], go[:-1]])
    expected = n_paths * (1 - 1 / n_paths) ** draws
    for missed in range(1, n_paths):
        literal = seen[: n_paths - missed + 1].sum()
        assert literal <= math.exp(log_chance_of_missing(missed, expected)) * (1 + 1e-9)
    assert log_chance_of_missing(3, 0.0) == -math.inf


def test_goes_on_from_its_state_as_if_uninterrupted() -> None:
    sampler = PathSampler(n_paths=7, seed=3)
    history = [(sampler(step % 200), math.sin(step) ** 2) for step in range(2500)]
    whole, first = logged(history, 7, window=3), logged(history[:1200], 7, window=3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = PathLog(7, window=3)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert repr(second) == repr(first)
    for path, loss in history[1200:]:
        second.update(path, loss)
    assert second.report() == whole.report()
    assert "warning" in whole.report()
    for name, value in whole.state_dict().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)
        else:
            assert second.state_dict()[name] == value
    assert first.updates == 1200


def state(**changes: Any) -> dict[str, Any]:
    return {**logged([(0, 1.0), (1, 2.0)]).state_dict(), **changes}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (3, TypeError, "Invalid state: a int"),
        ({}, ValueError, "Invalid state: it lacks curve, first"),
        (PathLog(5).state_dict(), ValueError, r"Invalid visits of the state: shape \(5,\); expected \(4,\)"),
        (PathLog(4, window=2).state_dict(), ValueError, "another window"),
        (state(visits=torch.ones(4)), TypeError, "Invalid visits of the state: torch.float32"),
        (state(visits=-torch.ones(4, dtype=torch.int64)), ValueError, "Invalid visits"),
        (state(opening=torch.tensor([9])), ValueError, "Invalid opening"),
        (state(curve=torch.ones(3, dtype=torch.float64)), ValueError, "Invalid curve"),
        (state(updates=-1), ValueError, "Invalid updates"),
        (state(stride=0), ValueError, "Invalid stride"),
        (state(runs=1.5), TypeError, "Invalid runs of the state: .*; expected an integer"),
    ],
)
def test_a_wrong_state_is_named_and_changes_nothing(wrong: Any, error: type[Exception], message: str) -> None:
    log = logged([(2, 1.0), (3, 4.0)])
    before = log.report(), repr(log)
    with pytest.raises(error, match=message):
        log.load_state_dict(wrong)
    assert (log.report(), repr(log)) == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda log: log.update(4, 1.0), IndexError, r"Invalid path_idx: 4; expected an id in \[0, 4\)"),
        (lambda log: log.update(-1, 1.0), IndexError, "path_idx"),
        (lambda log: log.update(0.0, 1.0), TypeError, "Invalid path_idx: .*; expected an integer"),
        (lambda log: log.update([0, 1], 1.0), TypeError, "for several, call it for each"),
        (lambda log: log.update(0, "1"), TypeError, "Invalid loss: '1'"),
        (lambda log: log.update(0, torch.ones(3)), ValueError, r"Invalid loss: shape \(3,\).*mean"),
        (lambda log: log.update(0, torch.ones(1, device="meta")), TypeError, "Invalid loss: .*meta"),
        (lambda log: log.update(0, torch.ones(1) * 1j), TypeError, "Invalid loss: torch.complex64"),
        (lambda log: log.relative(4), IndexError, "path_idx"),
        (lambda _: PathLog(0), ValueError, "Invalid n_paths: .*; expected at least 1"),
        (lambda _: PathLog([1, 2]), TypeError, "Invalid n_paths: a list"),  # type: ignore[arg-type]
        (lambda _: PathLog(2, probs=[1.0]), ValueError, "1 entries; expected .* n_paths=2"),
        (lambda _: PathLog(2, window=0), ValueError, "Invalid window: 0"),
    ],
)
def test_wrong_calls_are_named_and_change_nothing(call: Any, error: type[Exception], message: str) -> None:
    log = logged([(0, 1.0)])
    with pytest.raises(error, match=message):
        call(log)
    assert log.updates == 1
    assert log.visits.tolist() == [1, 0, 0, 0]


def test_draws_its_curve() -> None:
    log = logged([(0, 4.0), (1, 2.0), (2, 3.0), (3, 1.0), (0, 0.5)])
    axes = Figure().subplots()
    line = log.draw(axes)
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [4, 3, 3, 2.5, 1.625])
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3, 4, 5]
    assert axes.get_yscale() == "log"
    assert np.asarray(axes.lines[1].get_xdata()).tolist() == [4, 4]
    empty = Figure().subplots()
    PathLog(2).draw(empty)
    assert len(empty.lines) == 1


def test_copies_given_away_are_the_callers() -> None:
    log = logged([(0, 1.0)])
    log.visits[:] = 7
    log.losses[:] = 7
    log.ages[:] = 7
    log.state_dict()["visits"][:] = 7
    assert log.visits.tolist() == [1, 0, 0, 0]
    assert log.estimate() == 1.0


def callback_class() -> Any:
    """The callback that the docstring shows."""
    lightning = pytest.importorskip("lightning")
    text = inspect.getdoc(PathLog) or ""
    code = textwrap.dedent(text[text.index("    class LogPaths") :])
    names: dict[str, Any] = {"lightning": lightning, "PathLog": PathLog}
    exec(code, names)
    return names["LogPaths"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_callback_of_the_docstring_logs_and_resumes(accumulate: int, tmp_path: Any) -> None:
    lightning = pytest.importorskip("lightning")
    log_paths = callback_class()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sampler = PathSampler(n_paths=5, seed=0)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(1.0))
            self.told: list[tuple[int, float]] = []

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            self.path = sampler(self.global_step)
            loss = (self.weight - batch.mean()).square() * 10.0**self.path
            self.told.append((self.path, float(loss)))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-6)

    data: Any = torch.utils.data.DataLoader(list(torch.arange(16.0)), batch_size=2)  # type: ignore[arg-type]

    def fit(callback: Any, epochs: int, ckpt_path: Any = None) -> Any:
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[callback],
            enable_model_summary=False, enable_checkpointing=False, accumulate_grad_batches=accumulate,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, data, ckpt_path=ckpt_path)
        return trainer, module

    callback = log_paths(5)
    trainer, module = fit(callback, 1)
    expected = logged(module.told, 5)
    assert callback.paths.visits.tolist() == expected.visits.tolist()
    assert callback.paths.estimate() == pytest.approx(expected.estimate())
    assert float(trainer.callback_metrics["estimated_full_loss"]) == pytest.approx(expected.estimate())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    resumed = log_paths(5)
    _, again = fit(resumed, 2, tmp_path / "one.ckpt")
    assert resumed.paths.updates == 16
    assert resumed.paths.visits.tolist() == logged([*module.told, *again.told], 5).visits.tolist()
