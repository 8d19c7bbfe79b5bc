"""The same run in Lightning: python notebooks/first_training_lightning.py [--steps 750].

SCRAPL learns from the optimizer when a step is done: automatic optimization, accumulation, mixed
precision, several devices and resume need nothing else.
"""

import argparse

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from vibrato import HEARING, N_SAMPLES, SAMPLE_RATE, Encoder, vibrato

from scrapl_jtfs import SCRAPL


class SoundMatcher(lightning.LightningModule):
    def __init__(self, steps: int, lr: float = 1e-3) -> None:
        super().__init__()
        self.steps, self.lr, self.encoder = steps, lr, Encoder()
        self.scrapl = SCRAPL(N_SAMPLES, sample_rate=SAMPLE_RATE, samples_per_bandwidth=2, **HEARING)

    def training_step(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            target = vibrato(torch.rand(16, 2, generator=generator), generator)
        return self.scrapl(vibrato(self.encoder(target), generator), target)

    def validation_step(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        wanted = torch.rand(64, 2, generator=generator)
        guessed = self.encoder(vibrato(wanted, generator))
        self.log("error", (guessed - wanted).abs().mean(), prog_bar=True, batch_size=64)

    def configure_optimizers(self) -> dict:
        optimizer = self.scrapl.optimizer(self.encoder.parameters(), lr=self.lr)
        warm_up = 2 * self.scrapl.n_drawn
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda k: min(1, (k + 1) / warm_up) * max(0.1, 1 - 0.9 * k / self.steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--steps", type=int, default=750)
    options = arguments.parse_args()
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_steps=options.steps, max_epochs=1, val_check_interval=50, logger=False
    )
    seeds, unseen = (
        DataLoader(range(first, last), batch_size=None) for first, last in ((0, 10**6), (-2, -1))
    )
    trainer.fit(SoundMatcher(options.steps), seeds, unseen)
