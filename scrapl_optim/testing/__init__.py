"""A kit to test stochastic estimators over paths: strategies for hypothesis, and assertions for anyone's code.

The assertions take callables and know nothing of this package's classes: the sampler, loss or optimizer under
test may be a user's own. Needs hypothesis: ``pip install 'scrapl-jtfs[testing]'``.
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "scrapl_optim.testing needs hypothesis, which is not installed: pip install 'scrapl-jtfs[testing]'"
    ) from error

from scrapl_optim.testing._draws import assert_draws_follow
from scrapl_optim.testing._statistical import assert_statistically_unbiased
from scrapl_optim.testing._strategies import PathLosses, distributions, path_losses, path_sequences, seeds, steps
from scrapl_optim.testing._twins import assert_matches_twin
from scrapl_optim.testing._unbiasedness import assert_unbiased

__all__ = [
    "PathLosses",
    "assert_draws_follow",
    "assert_matches_twin",
    "assert_statistically_unbiased",
    "assert_unbiased",
    "distributions",
    "path_losses",
    "path_sequences",
    "seeds",
    "steps",
]
