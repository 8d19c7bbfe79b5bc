"""SCRAPL, four objects in one: paths and losses of the parts by hand, one path per optimizer step, resume."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import pickle
import weakref
from collections import UserList
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scrapl_jtfs import SCRAPL, JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler, save_probs
from tests.support.optimizer_helpers import assert_bitwise, clones

N = 2048
SETTINGS: dict[str, Any] = {"J": 8, "Q": (8, 1), "J_fr": 2, "sample_rate": 2048}
P = 42
PI = np.arange(1, P + 1) / np.arange(1, P + 1).sum()


def make(**options: Any) -> SCRAPL:
    return SCRAPL(N, **(SETTINGS | options))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(N, 4), nn.Linear(4, N))


def batch(k: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or (2,)), N, generator=torch.Generator().manual_seed(k))


def train(scrapl: SCRAPL, net: nn.Module, optimizer: Any, steps: range) -> list[tuple[int, float]]:
    seen = []
    for k in steps:
        loss = scrapl(net(batch(k)), batch(k))
        seen.append((scrapl.path, loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return seen


@pytest.mark.parametrize("unbiased", [False, True])
def test_equals_the_parts_by_hand(unbiased: bool) -> None:
    pi = PI
    scrapl, net = make(seed=3, probs=pi.tolist(), min_prob_frac=0.2, unbiased=unbiased), model()
    optimizer = scrapl.optimizer(net.parameters(), lr=0.01, saga=0.5)
    seen = train(scrapl, net, optimizer, range(5))

    twin, loss_fn = model(), JTFSPathLoss(JTFSPath(N, **SETTINGS))
    by_hand = PathAdamSAGA(twin.parameters(), loss_fn.jtfs.n_paths, lr=0.01, saga=0.5, unbiased=unbiased)
    sampler = PathSampler(pi, seed=3, min_prob_frac=0.2)
    expected = []
    for k in range(5):
        path = sampler(k)
        loss = loss_fn(twin(batch(k)), batch(k), path)
        expected.append((path, loss.item()))
        by_hand.zero_grad()
        loss.backward()
        by_hand.step(path_idx=path, weight=sampler.weight(path) if unbiased else None)
    assert seen == expected
    assert_bitwise(clones(net.parameters()), clones(twin.parameters()))


def test_evaluation_is_the_full_tree_and_draws_nothing() -> None:
    scrapl, (x, y) = make(seed=1), batch(0, 2, 3)
    full = JTFSPathLoss(JTFSPath(N, **SETTINGS)).full(x, y)
    assert torch.equal(scrapl.eval()(x, y), full)  # no optimizer is needed
    assert torch.equal(scrapl.full(x, y), full)
    assert scrapl.step == 0


@pytest.mark.parametrize("unit", ["path", "rate", "scale", "spin"])
@pytest.mark.parametrize("options", [{}, {"rates": [4, 100], "spins": [1, -1]}], ids=["all", "some"])
def test_losses_of_the_units_average_to_what_evaluation_gives(unit: str, options: dict[str, Any]) -> None:
    """Value and gradient; and the draws, weighted, have that mean: what unbiased training rests on."""
    scrapl = make(unit=unit, probs=PI.tolist(), **options).double()
    x, y = batch(0).double().requires_grad_(), batch(1).double()
    (expected,) = torch.autograd.grad(scrapl.full(x, y), x)
    kept = [b for b, members in enumerate(scrapl.units) if set(members) <= set(scrapl.kept)]
    losses = [scrapl.unit_loss(x, y, b) for b in kept]
    mean = torch.stack(losses).sum() / scrapl.n_paths
    torch.testing.assert_close(mean, scrapl.full(x, y), rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(mean, x)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert [b for b in range(scrapl.n_paths) if scrapl.sampler.probs[b] > 0] == kept
    weighted = sum(
        scrapl.sampler.probs[b] * scrapl.sampler.weight(b) * loss.item()
        for b, loss in zip(kept, losses, strict=True)
    )
    assert weighted == pytest.approx(scrapl.full(x, y).item(), rel=1e-10)
    assert scrapl.kept == tuple(sorted(p for b in kept for p in scrapl.units[b]))


def test_probability_of_a_bundle_is_that_of_its_paths() -> None:
    pi = PI
    scrapl = make(unit="rate", probs=pi.tolist(), rates=(4, None))
    share = pi[list(scrapl.kept)].sum()
    expected = [pi[list(members)].sum() / share for members in scrapl.units]
    np.testing.assert_allclose(scrapl.sampler.probs, expected, rtol=1e-12)
    assert scrapl.optimizer([nn.Parameter(torch.zeros(1))]).defaults["n_paths"] == len(scrapl.units) < 10


def test_a_file_of_probabilities(tmp_path: Any) -> None:
    pi = PI
    save_probs(torch.as_tensor(pi), tmp_path / "pi.pt")
    assert make(probs=str(tmp_path / "pi.pt")).sampler == PathSampler(make(probs=pi.tolist()).sampler.probs)


# ---------------------------------------------------------------- one path per optimizer step


def test_a_path_lasts_until_the_optimizer_has_stepped() -> None:
    scrapl, net = make(seed=2), model()
    optimizer = scrapl.optimizer(net.parameters(), lr=0.01)
    paths = PathSampler(n_paths=P, seed=2)
    for step in range(4):
        for micro in range(3):
            assert scrapl.path == paths(step)
            assert scrapl.path_ids == (paths(step),)
            scrapl(net(batch(micro)), batch(micro)).backward()
        scrapl(net(batch(9)), batch(9))  # logged, not trained on
        optimizer.step()
        optimizer.zero_grad()
        assert scrapl.step == step + 1
    assert optimizer.state[next(net.parameters())]["step"].max() == 4


def test_a_step_that_gradscaler_skips_keeps_the_path() -> None:
    scrapl, net = make(seed=2), model()
    optimizer, scaler = scrapl.optimizer(net.parameters(), lr=0.01), torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflows in (False, True, True, False):
        before = scrapl.path, scrapl.step
        loss = scaler.scale(scrapl(net(batch(0)), batch(0)))
        (loss * float("inf") if overflows else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert (scrapl.path, scrapl.step) == before if overflows else scrapl.step == before[1] + 1


def test_closures_and_schedulers() -> None:
    scrapl, net = make(seed=4), model()
    optimizer = scrapl.optimizer(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = scrapl(net(batch(0)), batch(0))
        loss.backward()
        return loss

    for _ in range(3):
        assert torch.is_tensor(optimizer.step(closure))
        scheduler.step()
    expected = [PathSampler(n_paths=P, seed=4)(k) for k in range(3)]
    assert sorted(optimizer.state[next(net.parameters())]["step"].nonzero().flatten().tolist()) == sorted(
        set(expected)
    )


@pytest.mark.parametrize("unbiased", [False, True])
def test_any_optimizer_of_torch(unbiased: bool) -> None:
    pi = PI.tolist()
    scrapl, net = make(seed=5, probs=pi, unbiased=unbiased), model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scrapl.attach(optimizer)
    seen = train(scrapl, net, optimizer, range(3))
    sampler = PathSampler(pi, seed=5)
    assert [path for path, _ in seen] == [sampler(k) for k in range(3)]
    plain = JTFSPathLoss(JTFSPath(N, **SETTINGS))(model()(batch(0)), batch(0), sampler(0)).item()
    assert seen[0][1] == pytest.approx(plain * (sampler.weight(sampler(0)) if unbiased else 1), rel=1e-6)


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.scrapl, self.seen = model(), make(seed=6, unit="rate"), []

    def training_step(self, index: int) -> Tensor:
        self.seen.append(self.scrapl.path)
        return self.scrapl(self.net(batch(index)), batch(index))

    def validation_step(self, index: int) -> None:
        assert not self.scrapl.training
        self.log("full", self.scrapl(self.net(batch(index)), batch(index)), batch_size=2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.scrapl.optimizer(self.net.parameters(), lr=1e-3)


def fit(module: Module, folder: Any, epochs: int, **options: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    loader = torch.utils.data.DataLoader(range(6), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader, torch.utils.data.DataLoader(range(1), batch_size=None), **{})  # type: ignore[arg-type]
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_lightning_with_accumulation_and_resume(tmp_path: Any) -> None:
    whole = Module()
    fit(whole, tmp_path / "whole", 2, accumulate_grad_batches=2)
    steps = [make(seed=6, unit="rate").sampler(k) for k in range(6)]
    assert whole.seen == [path for path in steps for _ in range(2)]
    first = Module()
    trainer = fit(first, tmp_path / "first", 1, accumulate_grad_batches=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = Module()
    again = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        default_root_dir=tmp_path / "second",
    )
    loader: Any = torch.utils.data.DataLoader(range(6), batch_size=None)  # type: ignore[arg-type]
    check: Any = torch.utils.data.DataLoader(range(1), batch_size=None)  # type: ignore[arg-type]
    again.fit(second, loader, check, ckpt_path=str(tmp_path / "half.ckpt"), weights_only=False)
    assert second.seen == whole.seen[6:]
    assert_bitwise(clones(second.net.parameters()), clones(whole.net.parameters()))
    fit(second, tmp_path / "third", 1)  # a second fit makes a second optimizer
    assert second.scrapl.step == 12


def test_the_log_holds_one_loss_for_each_step() -> None:
    scrapl, net = make(seed=2, unit="rate"), model()
    optimizer = scrapl.optimizer(net.parameters(), lr=0.01)
    last = {}
    for step in range(5):
        losses = [scrapl(net(batch(micro)), batch(micro)) for micro in range(2)]
        sum(losses).backward()  # type: ignore[union-attr]
        last[scrapl.path] = torch.stack(losses).mean().item()
        with torch.no_grad():
            scrapl(100 * net(batch(0)), batch(1))  # looked at, not trained on
        optimizer.step()
        assert scrapl.log.updates == step + 1
    assert scrapl.log.estimate() == pytest.approx(np.mean(list(last.values())))
    other = make(seed=2, unit="rate")
    other.load_state_dict(scrapl.state_dict())
    assert other.log.estimate() == scrapl.log.estimate()
    with pytest.raises(ValueError, match="paths"):
        make(seed=2).load_state_dict(scrapl.state_dict())


@pytest.mark.parametrize("options", [{}, {"rates": (4, 20)}, {"rates": (4, 20), "unit": "rate"}])
def test_the_log_estimates_the_full_loss(options: dict[str, Any]) -> None:
    """Exactly so once all were seen and nothing moves: also where some paths are excluded."""
    scrapl, x, y = make(cover_first=True, **options), nn.Parameter(batch(0)), batch(1)
    optimizer = scrapl.optimizer([x], lr=0.0, weight_decay=0.0)
    for _ in range(scrapl.n_drawn):
        scrapl(x, y).backward()
        optimizer.step()
    assert scrapl.log.estimate() == pytest.approx(scrapl.full(x, y).item(), rel=1e-5)
    assert scrapl.n_drawn == len(set(scrapl.kept) if "unit" not in options else scrapl.units)


def test_paths_of_probability_zero_are_not_kept() -> None:
    scrapl = make(probs=[0.0] * 7 + [1 / 35] * 35)
    assert scrapl.kept == tuple(range(7, 42))


# ---------------------------------------------------------------- state, copies, shapes, files


def test_resume_is_exact() -> None:
    scrapl, net = make(seed=7), model()
    optimizer = scrapl.optimizer(net.parameters(), lr=0.01)
    train(scrapl, net, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"scrapl": scrapl.state_dict(), "net": net.state_dict(), "opt": optimizer.state_dict()}, file)
    expected = train(scrapl, net, optimizer, range(4, 8))
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, copied = make(seed=7), model()
    resumed = other.optimizer(copied.parameters(), lr=0.01)
    for part, state in ((other, saved["scrapl"]), (copied, saved["net"]), (resumed, saved["opt"])):
        part.load_state_dict(state)
    assert train(other, copied, resumed, range(4, 8)) == expected
    assert_bitwise(clones(copied.parameters()), clones(net.parameters()))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda scrapl: pickle.loads(pickle.dumps(scrapl))])
def test_copies_do_not_speak_to_the_optimizer_of_the_original(way: Any) -> None:
    scrapl, net = make(), model()
    optimizer = scrapl.optimizer(net.parameters())
    train(scrapl, net, optimizer, range(2))
    copied = way(scrapl)
    assert copied.step == 2
    with pytest.raises(RuntimeError, match="no optimizer is attached"):
        copied(batch(0), batch(1))
    assert torch.equal(copied.full(batch(0), batch(1)), scrapl.full(batch(0), batch(1)))
    other = copy.deepcopy(optimizer)
    copied.attach(other)
    copied(batch(0), batch(1))


def test_nothing_is_kept_alive() -> None:
    scrapl, net = make(), model()
    optimizer = scrapl.optimizer(net.parameters())
    train(scrapl, net, optimizer, range(1))
    gc.collect()
    gc.disable()
    alive, owner = weakref.ref(optimizer), weakref.ref(scrapl)
    del optimizer
    assert alive() is None
    with pytest.raises(RuntimeError, match="no optimizer is attached"):
        scrapl(batch(0), batch(1))
    optimizer = scrapl.optimizer(net.parameters())
    del scrapl
    assert owner() is None
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step(path_idx=0)  # which nobody watches any more
    gc.enable()


@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (2, 2, 2)])
def test_any_batch_shape(shape: tuple[int, ...]) -> None:
    scrapl = make()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scrapl.attach(optimizer)
    x, y = batch(0, 2, *shape)
    for loss in (scrapl(x, y), scrapl.full(x, y), scrapl(x, scrapl.loss_fn.prepare(y))):
        assert loss.shape == ()
    flat = scrapl(x.reshape(-1, N), y.reshape(-1, N))
    torch.testing.assert_close(scrapl(x, y), flat)


class Listed(UserList):
    """A sequence that is no list, as configuration libraries make them."""


@pytest.mark.parametrize("kind", [list, tuple, Listed])
def test_lists_of_any_kind(kind: Any) -> None:
    options = {
        "Q": [8, 1],
        "orders": [2],
        "rates": [4, 100],
        "scales": [0.5, None],
        "spins": [1],
        "probs": PI.tolist(),
    }
    scrapl = make(**{name: kind(value) for name, value in options.items()}, paths=kind(range(20)))
    assert scrapl.kept == make(rates=(4, 100), scales=(0.5, None), spins=1, paths=range(20)).kept


def test_arguments_of_a_file() -> None:
    """Numbers, strings and lists, as YAML has them; each is a named argument with its annotation."""
    options = {
        "n_samples": 2048,
        "J": 8,
        "Q": [8, 1],
        "J_fr": 2,
        "T": "global",
        "sample_rate": 2048,
        "orders": [2],
        "rates": [4, None],
        "scales": [0.5, 3],
        "spins": [1, -1],
        "unit": "rate",
        "log1p_eps": 0.001,
        "seed": 1,
    }
    scrapl = SCRAPL(**options)  # type: ignore[arg-type]
    assert all(scrapl.jtfs.paths[p].rate >= 4 and scrapl.jtfs.paths[p].spin for p in scrapl.kept)
    signature = inspect.signature(SCRAPL)
    assert {name for name, p in signature.parameters.items() if p.annotation is inspect.Parameter.empty} == set()
    assert "rates=(4, None)" in repr(scrapl)
    assert not [kind for kind, p in signature.parameters.items() if p.kind is inspect.Parameter.VAR_KEYWORD]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rates": (500, 900)}, ValueError, r"rate.*500"),
        ({"rates": "fast"}, (TypeError, ValueError), "rate"),
        ({"spins": 2}, ValueError, "spin"),
        ({"paths": [42]}, IndexError, "42"),
        ({"paths": []}, ValueError, "paths"),
        (
            {"paths": [0], "rates": (2, 4)},
            ValueError,
            r"Invalid paths: \(0,\); expected one that meets rates=\(2, 4\)",
        ),
        ({"unit": "octave"}, ValueError, r"Invalid unit: 'octave'; expected 'path', 'rate', 'scale' or 'spin'"),
        ({"probs": [0.5, 0.5]}, ValueError, r"Invalid probs: 2 entries; expected one for each of 42 paths"),
        ({"probs": "no such file"}, FileNotFoundError, "no such file"),
        ({"unbiased": 1}, TypeError, "Invalid unbiased: 1"),
        ({"seed": -1}, ValueError, "seed"),
        ({"J": 99}, ValueError, "Invalid J"),
        ({"squared": 2}, TypeError, "squared"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(**options)


def test_bad_optimizers() -> None:
    scrapl, params = make(), list(model().parameters())
    with pytest.raises(RuntimeError, match=r"no optimizer is attached; expected .*scrapl.optimizer"):
        scrapl(batch(0), batch(1))
    with pytest.raises(TypeError, match=r"Invalid n_paths: 5; expected no such option"):
        scrapl.optimizer(params, n_paths=5)
    with pytest.raises(TypeError, match="pass unbiased to SCRAPL"):
        scrapl.optimizer(params, unbiased=True)
    with pytest.raises(ValueError, match=r"n_paths=5.*expected n_paths=42"):
        scrapl.attach(PathAdamSAGA(params, 5))
    with pytest.raises(ValueError, match=r"unbiased=True; expected n_paths=42, unbiased=False"):
        scrapl.attach(PathAdamSAGA(params, P, unbiased=True))
    with pytest.raises(TypeError, match=r"Invalid optimizer: str; expected a torch.optim.Optimizer"):
        scrapl.attach("adam")  # type: ignore[arg-type]


def test_one_optimizer_of_two_scrapls() -> None:
    first, second, net = make(), make(seed=5), model()
    optimizer = first.optimizer(net.parameters())
    with pytest.raises(ValueError, match=r"attached to another SCRAPL.*add_path"):
        second.attach(optimizer)
    first(net(batch(0)), batch(0)).backward()
    optimizer.step()
    plain = torch.optim.SGD(net.parameters(), lr=0.1)  # which is told no path
    first.attach(plain)
    second.attach(plain)
    (first(net(batch(0)), batch(0)) + second(net(batch(0)), batch(0))).backward()
    plain.step()
    assert (first.step, second.step) == (2, 1)


def test_a_wrapped_optimizer_is_refused_and_the_earlier_one_stays() -> None:
    scrapl, net = make(), model()
    optimizer = scrapl.optimizer(net.parameters())
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    wrapped = accelerate.Accelerator(cpu=True).prepare(torch.optim.AdamW(net.parameters()))
    with pytest.raises(TypeError, match="the inner one where a trainer wraps it"):
        scrapl.attach(wrapped)
    scrapl(net(batch(0)), batch(0)).backward()
    optimizer.step()
    assert scrapl.step == 1


def test_two_optimizers_on_one_scrapl() -> None:
    scrapl, net = make(), model()
    parts: Any = list(net.children())
    first = scrapl.optimizer(parts[0].parameters())
    second = scrapl.optimizer(parts[1].parameters())
    scrapl(net(batch(0)), batch(0)).backward()
    before = clones(net.parameters())
    with pytest.raises(RuntimeError, match=r"Invalid optimizer: another one.*groups of one optimizer"):
        first.step(path_idx=0)
    assert_bitwise(clones(net.parameters()), before)
    second.step()
    assert scrapl.step == 1


def test_attaching_again_counts_steps_once() -> None:
    scrapl, net = make(), model()
    first = scrapl.optimizer(net.parameters())
    second = torch.optim.SGD(net.parameters(), lr=0.1)
    for optimizer in (first, second, first, first):
        scrapl.attach(optimizer)
    scrapl(net(batch(0)), batch(0)).backward()
    first.step()
    assert scrapl.step == 1


@pytest.mark.parametrize("state", [None, {}, {"step": -1}, {"step": True}, {"step": 1.5}, 3])
def test_bad_states(state: Any) -> None:
    with pytest.raises(ValueError, match="Invalid state of SCRAPL"):
        make().set_extra_state(state)


def test_lists_of_any_kind_for_the_transform() -> None:
    assert JTFSPath(N, J=8, Q=Listed([8, 1]), J_fr=2).geometry.Q == (8, 1)  # type: ignore[arg-type]
    chosen = JTFSPath.for_sounds(1, 4096, rates=Listed([2, 20]))  # type: ignore[arg-type]
    assert chosen.paths.where(rate=Listed([2, None])) == chosen.paths.where(rate=(2, None))  # type: ignore[arg-type]


def test_paths_of_the_table_and_of_another() -> None:
    table, other = make().jtfs.paths, make(sample_rate=4096).jtfs.paths
    assert make(paths=table[3:5]).kept == (3, 4)
    with pytest.raises(ValueError, match=r"of another transform; expected .*: path 3 here has rate=.*, not"):
        make(paths=other[3:5])


def test_an_old_storage_warns_at_the_callers_line() -> None:
    with pytest.warns(DeprecationWarning, match=r'use nearest\("int8"\)') as caught:
        make().optimizer(model().parameters(), storage="int8-nearest")
    assert [warning.filename for warning in caught] == [__file__]
