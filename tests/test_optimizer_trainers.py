"""PathAdamSAGA under schedulers, mixed precision, averaging and Accelerate.

Each trainer is held to the plain loop: the same paths and gradients give the same weights, bit for bit.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import Variant, every_device, every_storage, every_variant
from tests.support.plain_training import (
    N_PATHS,
    SAMPLER,
    assert_same_weights,
    make_data,
    make_model,
    make_optimizer,
    path_loss,
    plain_loop,
)

# ---------------------------------------------------------------- learning rate schedulers

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda k: 0.9**k),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda k: 0.8),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 3, gamma=0.5),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5], gamma=0.5),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, factor=0.5, total_iters=4),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, total_iters=6),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt, total_iters=3), lr_scheduler.ExponentialLR(opt, 0.9)], milestones=[4]
    ),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 6),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, 0.5, 3), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, patience=1),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 4),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=20),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, total_iters=8, power=2.0),
    "SWALR": lambda opt: swa_utils.SWALR(opt, swa_lr=0.02, anneal_epochs=5),
}


def test_every_public_scheduler_is_tried() -> None:
    assert set(SCHEDULERS) == {*lr_scheduler.__all__, "SWALR"} - {"LRScheduler"}


@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name: str, tensor_lr: bool) -> None:
    """The learning rate goes the way it goes with PyTorch's optimizers, and the step uses it."""
    lr = torch.tensor(0.05, dtype=torch.float64) if tensor_lr else 0.05
    params = make_params()
    ours = PathAdamSAGA([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], 3, lr=copy.deepcopy(lr))
    twins = make_params()
    twin = PathAdamSAGA([{"params": twins[:2]}, {"params": twins[2:], "lr": 0.02}], 3, lr=0.0)
    others = make_params(shapes=[(2,), (2,)])
    groups: list[Any] = [{"params": others[:1]}, {"params": others[1:], "lr": 0.02}]
    sgd = torch.optim.SGD(groups, lr=copy.deepcopy(lr), momentum=0.9)
    adamw = torch.optim.AdamW(
        [{"params": others[:1]}, {"params": others[1:], "lr": 0.02}], lr=copy.deepcopy(lr), foreach=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SequentialLR and ReduceLROnPlateau of PyTorch itself
        optimizers, seen = (ours, sgd, adamw), set()
        schedulers = [SCHEDULERS[name](optimizer) for optimizer in optimizers]
        for k in range(12):
            set_grads(params, k)
            set_grads(twins, k)
            for group, source in zip(twin.param_groups, ours.param_groups, strict=True):
                group["lr"], group["betas"] = float(source["lr"]), source["betas"]
            ours.step(path_idx=k % 3)
            twin.step(path_idx=k % 3)
            sgd.step()
            adamw.step()
            for scheduler in schedulers:
                scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            for group, theirs, moments in zip(
                ours.param_groups, sgd.param_groups, adamw.param_groups, strict=True
            ):
                assert float(group["lr"]) == float(theirs["lr"])
                assert group["betas"] == moments["betas"]
                assert group.get("initial_lr") == theirs.get("initial_lr")
                seen.add(group["betas"])
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert (len(seen) > 1) == (name in ("CyclicLR", "OneCycleLR"))  # these two cycle the momentum as well


def test_scheduler_resumes() -> None:
    model, data = make_model(), make_data()
    optimizer = make_optimizer(model)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for k, batch in enumerate(data):
        if k == 6:
            saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
            model = make_model()
            optimizer = make_optimizer(model, lr=0.5)
            scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
            for part, state in zip((model, optimizer, scheduler), saved, strict=True):
                part.load_state_dict(state)
        optimizer.zero_grad()
        path_loss(model, batch, SAMPLER(k)).backward()
        optimizer.step(path_idx=SAMPLER(k))
        scheduler.step()
    through = make_model()
    optimizer = make_optimizer(through)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for k, batch in enumerate(data):
        optimizer.zero_grad()
        path_loss(through, batch, SAMPLER(k)).backward()
        optimizer.step(path_idx=SAMPLER(k))
        scheduler.step()
    assert_same_weights(model, through)


# ---------------------------------------------------------------- mixed precision, averaging


@pytest.mark.parametrize("announce", [False, True])
@every_device
@every_variant
def test_grad_scaler(variant: Variant, device: str, announce: bool) -> None:
    """Its factor leaves no trace, and a step with an inf does not happen."""
    params, twins = (
        [torch.nn.Parameter(p.detach().to(device)) for p in make_params(3, torch.float32, [(70, 70), (5,)])]
        for _ in range(2)
    )
    optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs(lr=0.01))
    reference = PathAdamSAGA(twins, N_PATHS, **variant.kwargs(lr=0.01))
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10, growth_interval=2)
    scales = []
    for k in range(10):
        set_grads(twins, k)
        factors = [p.grad for p in twins]
        path = SAMPLER(k)
        optimizer.zero_grad()
        loss = torch.stack([(p * f).sum() for p, f in zip(params, factors, strict=True) if f is not None]).sum()
        if k % 4 == 3:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        before = snapshot(optimizer)
        if announce:
            optimizer.set_path(path, variant.weight(path))
            scaler.step(optimizer)
        else:
            scaler.step(optimizer, path_idx=path, weight=variant.weight(path))
        scaler.update()
        scales.append(scaler.get_scale())
        if k % 4 == 3:
            assert_same_snapshot(optimizer, before)
        else:
            reference.step(path_idx=path, weight=variant.weight(path))
    assert_bitwise(params, twins)
    assert {b / a for a, b in itertools.pairwise(scales)} == {0.5, 1.0, 2.0}
    assert int(optimizer.state[params[0]]["step"].max()) == 8


@every_device
@every_storage
def test_autocast(storage: str, device: str) -> None:
    """Parameters stay float32 and learn; the forward pass really was in bfloat16."""
    model, data = make_model(device), make_data(1)
    optimizer = make_optimizer(model, storage)
    batch = tuple(part.to(device) for part in data[0])

    def loss_of(path: int) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            assert model(batch[0]).dtype == torch.bfloat16
            return path_loss(model, batch, path)

    start = sum(loss_of(path).item() for path in range(N_PATHS))
    for k in range(100):
        optimizer.zero_grad()
        loss_of(SAMPLER(k)).backward()
        optimizer.step(path_idx=SAMPLER(k))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(loss_of(path).item() for path in range(N_PATHS)) < 0.2 * start


@pytest.mark.parametrize("average", ["ema", "swa"])
@every_storage
def test_averaged_models(storage: str, average: str) -> None:
    """The average is that of the weights seen, and averaging does not disturb the training."""
    model, data = make_model(), make_data()
    optimizer = make_optimizer(model, storage)
    multi_avg_fn = swa_utils.get_ema_multi_avg_fn(0.8) if average == "ema" else None
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=multi_avg_fn)
    seen: list[torch.Tensor] = []
    for k, batch in enumerate(data):
        optimizer.zero_grad()
        path_loss(model, batch, SAMPLER(k)).backward()
        optimizer.step(path_idx=SAMPLER(k))
        averaged.update_parameters(model)
        seen.append(next(model.parameters()).detach().double().clone())
    assert_same_weights(model, plain_loop(storage))
    expected = seen[0] if average == "ema" else torch.stack(seen).mean(0)
    for weight in seen[1:] if average == "ema" else []:
        expected = 0.8 * expected + 0.2 * weight
    torch.testing.assert_close(next(averaged.module.parameters()).double(), expected, rtol=1e-5, atol=1e-6)
    copied = copy.deepcopy((model, optimizer))  # a deep copy of both keeps them tied
    set_grads(copied[0].parameters(), 0)
    copied[1].step(path_idx=0)
    assert not torch.equal(next(copied[0].parameters()), next(model.parameters()))


# ---------------------------------------------------------------- Accelerate


@pytest.fixture
def accelerate() -> Iterator[Any]:
    module = pytest.importorskip("accelerate")
    yield module
    module.state.AcceleratorState._reset_state(reset_partial_state=True)
    module.state.GradientState._reset_state()


@pytest.mark.parametrize("accumulate", [1, 2])
@every_storage
def test_accelerate(accelerate: Any, storage: str, accumulate: int) -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = make_model()
    model, optimizer = accelerator.prepare(model, make_optimizer(model, storage))
    for k, batch in enumerate(make_data()):
        path = SAMPLER(k // accumulate)
        with accelerator.accumulate(model):
            optimizer.optimizer.set_path(path)
            accelerator.backward(path_loss(model, batch, path))
            optimizer.step()
            optimizer.zero_grad()
    assert_same_weights(accelerator.unwrap_model(model), plain_loop(storage, accumulate))


@every_storage
def test_accelerate_resumes(accelerate: Any, storage: str, tmp_path: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(*(lambda m: (m, make_optimizer(m, storage)))(make_model()))
    for k, batch in enumerate(make_data()):
        if k == 5:
            accelerator.save_state(str(tmp_path))
            set_grads(model.parameters(), 0)
            optimizer.optimizer.step(path_idx=0)
            accelerator.load_state(str(tmp_path))
        optimizer.zero_grad()
        optimizer.optimizer.set_path(SAMPLER(k))
        accelerator.backward(path_loss(model, batch, SAMPLER(k)))
        optimizer.step()
    assert_same_weights(accelerator.unwrap_model(model), plain_loop(storage))
