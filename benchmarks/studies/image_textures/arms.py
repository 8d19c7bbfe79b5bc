"""The arms of the study: what compares a match with its target, and the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.studies.image_textures.textures import SIZE, errors
from scrapl_jtfs import ImageScattering
from scrapl_optim import PathAdamSAGA, PathSampler

Loss = Literal["path", "full tree", "pixels", "spectra", "spectra in place", "controls"]

# Of the patches whose spectra are compared.
_PATCHES = (8, 16, 32)
# Below it, amplitudes and coefficients count as small in logarithms.
_LOG_FLOOR = 1e-2


class Arm(NamedTuple):
    """One way to train.

    Attributes:
        name: of the arm, of its folder, and in tables.
        description: for the result file.
        loss: what compares a match with its target.
        pi: distribution of the paths.
        weighted: True to tell the optimizer of pi, which then weighs its memory and its clocks by it.
        renderings: of the controls in each step.
        log: True to compare log(1 + |coefficient| / 0.01) in place of coefficients.
    """

    name: str
    description: str
    loss: Loss = "path"
    pi: Literal["uniform", "theta"] = "uniform"
    weighted: bool = False
    renderings: int = 1
    log: bool = False

    def decisions(self) -> dict[str, Any]:
        """Return what determines the arm's results, besides its learning rate."""
        decisions = {key: value for key, value in self._asdict().items() if key not in ("name", "description")}
        return decisions if self.log else {key: value for key, value in decisions.items() if key != "log"}


REFERENCE = "scrapl"
"""The arm that the others are compared with."""

ARMS = {
    arm.name: arm
    for arm in (
        Arm(REFERENCE, "one random path a step, drawn uniformly: P-Adam and P-SAGA"),
        Arm("theta-is", "scrapl with pi of theta-importance, as in the paper", pi="theta"),
        Arm("theta-is, weighted", "theta-is with memory and clocks weighted by pi", pi="theta", weighted=True),
        Arm("two renderings", "scrapl with two renderings of the controls in each step", renderings=2),
        Arm("log", "scrapl with the logarithm of coefficients", log=True),
        Arm("full tree", "Adam on the loss of all paths", "full tree"),
        Arm(
            "full tree, log", "Adam on the loss of all paths, of logarithms of coefficients", "full tree", log=True
        ),
        Arm("spectra", "Adam on amplitudes of FFTs of patches of three sizes, averaged over the image", "spectra"),
        Arm("spectra in place", "the same, patch by patch", "spectra in place"),
        Arm("pixels", "Adam on the square of the difference of pixels", "pixels"),
        Arm("controls", "Adam on the error of the controls: supervised", "controls"),
    )
}


def transform() -> ImageScattering:
    """Return the transform whose paths are drawn; textures have no place, so that it averages over the image."""
    return ImageScattering((SIZE, SIZE), J=3, L=4, average="global")


class Objective:
    """The loss and the optimizer of an arm; the path of a step is a pure function of seed and step.

    Args:
        arm: the arm.
        encoder: untrained.
        lr: learning rate.
        seed: of the run.
        probs: pi, where paths are not drawn alike.
    """

    def __init__(
        self, arm: Arm, encoder: nn.Module, lr: float, seed: int, probs: Sequence[float] | None = None
    ) -> None:
        self.arm = arm
        self.scattering = transform()
        n_paths = self.scattering.n_paths
        self.sampler = PathSampler(n_paths=n_paths, seed=seed) if probs is None else PathSampler(probs, seed=seed)
        self.optimizer: torch.optim.Optimizer
        if arm.loss == "path":
            told = {"probs": self.sampler.probs, "clocks_by_probs": True} if arm.weighted else {}
            self.optimizer = PathAdamSAGA(encoder.parameters(), lr=lr, n_paths=n_paths, weight_decay=0.0, **told)
        else:
            self.optimizer = torch.optim.Adam(encoder.parameters(), lr=lr)

    def loss(self, found: Tensor, theta: Tensor, match: Callable[[], Tensor], target: Tensor, step: int) -> Tensor:
        """Return the loss of a step.

        Args:
            found: controls of the encoder.
            theta: those of the target.
            match: renders `found`, with other grains at each call.
            target: textures without graph.
            step: the number of the step.
        """
        match self.arm.loss:
            case "controls":
                return errors(found, theta).mean()
            case "pixels":
                return (match() - target).square().mean()
            case "spectra" | "spectra in place":
                return spectral_distance(match(), target, in_place=self.arm.loss == "spectra in place")
            case "full tree":
                pairs = zip(self.scattering.full(match()), self.scattering.full(target), strict=True)
                return torch.stack([path_distance([self._scaled(a)], self._scaled(b)) for a, b in pairs]).sum()
        path = self.sampler(step)
        several = [self._scaled(self.scattering(match(), path)) for _ in range(self.arm.renderings)]
        return self.scattering.n_paths * path_distance(several, self._scaled(self.scattering(target, path)))

    def _scaled(self, coefficients: Tensor) -> Tensor:
        # Those of order 0 have both signs.
        return (coefficients.abs() / _LOG_FLOOR).log1p() if self.arm.log else coefficients

    def update(self, step: int) -> None:
        """Take an optimizer step, gradients being there."""
        if isinstance(self.optimizer, PathAdamSAGA):
            self.optimizer.step(path_idx=self.sampler(step))
        else:
            self.optimizer.step()


def path_distance(several: Iterable[Tensor], target: Tensor) -> Tensor:
    """Return the square of the distance of coefficients (batch, rows, columns), as a mean over examples.

    Of two renderings it is the inner product of their differences from the target, in which variance has no part.
    """
    product = torch.ones_like(target)
    differences = [coefficients - target for coefficients in several]
    for difference in differences:
        product = product * difference
    return (product if len(differences) > 1 else product.square()).sum((-2, -1)).mean()


def spectral_distance(match: Tensor, target: Tensor, in_place: bool) -> Tensor:
    """Return the distance of amplitudes of patches, linear and logarithmic, over the sizes of patches.

    Args:
        match: textures (batch, height, width).
        target: the same.
        in_place: compare patches at the same place; else the averages over all places.
    """
    total = match.new_zeros(())
    for size in _PATCHES:
        a, b = (_amplitudes(x, size, in_place) for x in (match, target))
        linear = (a - b).abs().mean() / b.mean()
        total = total + linear + ((a + _LOG_FLOOR).log() - (b + _LOG_FLOOR).log()).abs().mean()
    return total


def _amplitudes(x: Tensor, size: int, in_place: bool) -> Tensor:
    window = torch.hann_window(size, dtype=x.dtype)
    patches = x.unfold(1, size, size // 2).unfold(2, size, size // 2)
    amplitudes = torch.fft.rfft2(patches * window[:, None] * window).abs()
    return amplitudes if in_place else amplitudes.mean((1, 2))
