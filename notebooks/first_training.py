"""A first training run, the plain loop: python notebooks/first_training.py [--steps 750].

An encoder learns to hear the controls of a synthesizer: it never sees them, only how its rendering
differs from the target. Interrupt it and start it again: it goes on where it was.
"""

import argparse
from pathlib import Path

import torch
from vibrato import HEARING, N_SAMPLES, SAMPLE_RATE, Encoder, vibrato

from scrapl_jtfs import SCRAPL
from scrapl_optim import load_checkpoint, save_checkpoint

arguments = argparse.ArgumentParser()
arguments.add_argument("--steps", type=int, default=750)
arguments.add_argument("--seed", type=int, default=0)
arguments.add_argument("--out", type=Path, default=Path("runs/first"))
options = arguments.parse_args()
checkpoint = options.out / f"seed{options.seed}.pt"

torch.manual_seed(options.seed)
encoder = Encoder()
scrapl = SCRAPL(
    N_SAMPLES, sample_rate=SAMPLE_RATE, samples_per_bandwidth=2, seed=options.seed, **HEARING
)
optimizer = scrapl.optimizer(encoder.parameters(), lr=1e-3)
warm_up = 2 * scrapl.n_drawn  # first visits of a unit are updates of full size
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda k: min(1, (k + 1) / warm_up) * max(0.1, 1 - 0.9 * k / options.steps)
)
parts = {"encoder": encoder, "scrapl": scrapl, "optimizer": optimizer, "scheduler": scheduler}
if checkpoint.exists():
    for name, state in load_checkpoint(checkpoint).items():
        parts[name].load_state_dict(state)

wanted = torch.rand(64, 2, generator=torch.Generator().manual_seed(99))
unseen = vibrato(wanted, torch.Generator().manual_seed(100))
while scrapl.step < options.steps:
    generator = torch.Generator().manual_seed(
        1000 * options.seed + scrapl.step
    )  # the global step, not a batch's
    with torch.no_grad():
        target = vibrato(torch.rand(16, 2, generator=generator), generator)
    loss = scrapl(vibrato(encoder(target), generator), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if scrapl.step % 50 == 0 or scrapl.step == options.steps:
        with torch.no_grad():
            error = (encoder(unseen) - wanted).abs().mean(0)
        print(
            f"step {scrapl.step}: error of rate {error[0]:.3f}, depth {error[1]:.3f} (chance 0.25)"
        )
        save_checkpoint({name: part.state_dict() for name, part in parts.items()}, checkpoint)
