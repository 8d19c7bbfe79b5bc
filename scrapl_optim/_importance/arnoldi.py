"""The method that finds each eigenvalue by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from scrapl_optim._importance.checks import checked_options
from scrapl_optim._importance.derivatives import PathDerivatives
from scrapl_optim._importance.eigenvalue import Eigenvalue, dominant_eigenvalue
from scrapl_optim._importance.encoder import EncoderDerivatives
from scrapl_optim._importance.search import Search, largest_entry


@dataclass(frozen=True)
class Arnoldi:
    r"""Find the eigenvalue of each path and control by itself, by Arnoldi's method.

    The matrix of equation (12) is known by its products with vectors, each of which costs two backward passes
    through the encoder, over all examples. Where paths are many and examples few, :class:`SharedSubspace` needs
    far fewer of them.

    Args:
        tolerance: relative residual of an eigenvalue to stop at. A loose one may be met at the second-largest
            eigenvalue first: at 1e-2 single values were up to 8% low, and the probabilities 6e-4 off.
        max_products: products to take at most for one eigenvalue; values that have not converged by then are
            named in ``ThetaImportance.unconverged``.
        max_basis: Arnoldi vectors kept before a restart, at least 4. More need fewer products; the peak of memory
            is ``1.5 * max_basis`` numbers for each weight.
        max_graphs: batches whose graph through the encoder's gradient is kept between products. More are faster,
            fewer take less memory; the size of a batch is yours to choose.

    Raises:
        TypeError: if an option is not a number.
        ValueError: if an option is out of its domain.

    Example:
        >>> Arnoldi(tolerance=1e-4)
        Arnoldi(tolerance=0.0001, max_products=60, max_basis=20, max_graphs=1)

    Source: W. E. Arnoldi, Quart. Appl. Math. 9 (1951); SCRAPL, equation (12).
    """

    tolerance: float = 1e-3
    max_products: int = 60
    max_basis: int = 20
    max_graphs: int = 1

    # What folders of results and ThetaImportance.method call it.
    label: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        checked_options(self)

    def find_values(self, search: Search, paths: Sequence[int]) -> None:
        """Find what is not known yet of the values of some paths; :func:`theta_importance` calls it."""
        problem = search.problem
        encoder = EncoderDerivatives(problem.encoder, problem.params, self.max_graphs)

        def value(path: int, u: int, derivatives: Sequence[PathDerivatives]) -> Eigenvalue:
            scale = largest_entry(derivatives, u)
            if scale == 0.0:
                return Eigenvalue(0j, 0.0, 0, True)
            # Gradients of path losses may be too small for the squares in float32 norms.
            scaled = [PathDerivatives(slope / scale, hessian / scale) for slope, hessian in derivatives]
            generator = torch.Generator("cpu").manual_seed(
                (search.seed * problem.n_paths + path) * search.n_controls + u
            )
            # On the CPU, whatever the default device and the weights', so that a seed means the same everywhere.
            start = torch.randn(encoder.n_weights, generator=generator, dtype=torch.float64, device="cpu")
            try:
                eigenvalue = dominant_eigenvalue(
                    encoder.matrix(problem.batches, scaled, u),
                    start.to(encoder.device, encoder.dtype),
                    tolerance=self.tolerance,
                    max_products=self.max_products,
                    max_basis=self.max_basis,
                )
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"{error}; look into the encoder, by path {path} and control {u}"
                ) from error
            finally:
                encoder.forget()
            return eigenvalue._replace(value=eigenvalue.value * scale)

        search.find_one_by_one(paths, value)
