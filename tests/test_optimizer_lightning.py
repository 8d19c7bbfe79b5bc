"""PathAdamSAGA under Lightning: Trainer and Fabric wrap optimizers and call ``step`` with a closure alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scrapl_optim.experimental import host_rows
from tests.support.optimizer_variants import every_storage
from tests.support.plain_training import (
    SAMPLER,
    assert_same_weights,
    make_data,
    make_model,
    make_optimizer,
    path_loss,
    plain_loop,
)

lightning = pytest.importorskip("lightning")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Lightning advises on workers, loggers and devices that these tests have no use for."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Automatic(lightning.LightningModule):
    """Automatic optimization: the path is announced to what ``self.optimizers()`` returns, a wrapper."""

    def __init__(self, storage: str) -> None:
        super().__init__()
        self.net, self.storage = make_model(), storage

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor | None:
        path = SAMPLER(self.global_step)
        optimizer: Any = self.optimizers()
        optimizer.set_path(path)
        return path_loss(self.net, batch, path)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.storage)


class Manual(Automatic):
    """Manual optimization: the path is an argument of ``step``."""

    def __init__(self, storage: str) -> None:
        super().__init__(storage)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        path = SAMPLER(self.global_step)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(path_loss(self.net, batch, path))
        optimizer.step(path_idx=path)


def make_trainer(**kwargs: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1, "max_epochs": 1}
    return lightning.Trainer(**{**quiet, **defaults, **kwargs})


def loader(first: int = 0, last: int = 12) -> Any:
    return torch.utils.data.DataLoader(make_data()[first:last], batch_size=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [Automatic, Manual])
@every_storage
def test_trainer(module: Any, storage: str) -> None:
    model = module(storage)
    make_trainer().fit(model, loader())
    assert_same_weights(model.net, plain_loop(storage))


@every_storage
def test_trainer_accumulates(storage: str) -> None:
    model = Automatic(storage)
    make_trainer(accumulate_grad_batches=2).fit(model, loader())
    assert_same_weights(model.net, plain_loop(storage, accumulate=2))


def test_trainer_in_mixed_precision_with_clipping() -> None:
    model = Automatic(host_rows("bfloat16"))
    make_trainer(precision="bf16-mixed", gradient_clip_val=1e6).fit(model, loader())
    expected = plain_loop(host_rows("bfloat16"), autocast=True)
    for p, q in zip(model.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)  # the clip multiplies by one, rounded


@pytest.mark.parametrize("module", [Automatic, Manual])
@every_storage
def test_trainer_resumes(module: Any, storage: str, tmp_path: Path) -> None:
    first = make_trainer()
    first.fit(module(storage), loader(0, 6))
    assert first.global_step == 6
    first.save_checkpoint(tmp_path / "six.ckpt")
    model = module(storage)
    second = make_trainer(max_epochs=2)
    second.fit(model, loader(6, 12), ckpt_path=tmp_path / "six.ckpt")
    assert second.global_step == 12
    assert_same_weights(model.net, plain_loop(storage))


@every_storage
def test_fabric(storage: str, tmp_path: Path) -> None:
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    model = make_model()
    model, optimizer = fabric.setup(model, make_optimizer(model, storage))
    for k, batch in enumerate(make_data()):
        if k == 6:
            fabric.save(tmp_path / "six.ckpt", {"model": model, "optimizer": optimizer})
            optimizer.set_path(0)
            optimizer.step()
            fabric.load(tmp_path / "six.ckpt", {"model": model, "optimizer": optimizer})
        optimizer.set_path(SAMPLER(k))
        optimizer.zero_grad()
        fabric.backward(path_loss(model, batch, SAMPLER(k)))
        optimizer.step()
    assert_same_weights(model.module, plain_loop(storage))


def test_fabric_in_mixed_precision() -> None:
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model = make_model()
    model, optimizer = fabric.setup(model, make_optimizer(model))
    for k, batch in enumerate(make_data()):
        optimizer.set_path(SAMPLER(k))
        optimizer.zero_grad()
        fabric.backward(path_loss(model, batch, SAMPLER(k)))
        optimizer.step()
    for p, q in zip(model.module.parameters(), plain_loop(autocast=True).parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5)
