"""The update in float64, in the fewest lines: moments and memory of every path stored, the memory summed anew."""

import numpy as np

__all__ = ["Twin"]


class Twin:
    """Algorithm 1 of the paper for one array of `size` entries; eps is 0, and 0/0 is 0."""

    def __init__(
        self,
        size: int,
        n_paths: int,
        betas: tuple[float, float] = (0.9, 0.999),
        *,
        path_adam: bool = True,
        saga: float = 1.0,
    ) -> None:
        self.n_paths, self.betas, self.path_adam, self.saga = n_paths, betas, path_adam, saga
        self.k, self.last = 0, np.zeros(n_paths, dtype=int)
        self.m, self.v, self.g_hat = (np.zeros((n_paths, size)) for _ in range(3))

    def g_current(self, p: int, g: np.ndarray) -> np.ndarray:
        """Normalised gradient of path p at the next step; moves its moments, leaves its memory to the caller."""
        self.k += 1
        elapsed, age = (self.k - self.last[p]) / self.n_paths, self.k / self.n_paths
        self.last[p] = self.k
        if not self.path_adam:
            return g.astype(np.float64)
        b1, b2 = self.betas
        self.m[p] += (1 - b1**elapsed) * (g - self.m[p])
        self.v[p] += (1 - b2**elapsed) * (np.square(g, dtype=np.float64) - self.v[p])
        root = np.sqrt(self.v[p] / (1 - b2**age))
        return np.divide(self.m[p] / (1 - b1**age), root, out=np.zeros_like(root), where=root > 0)

    def mean(self) -> np.ndarray:
        """Mean memory of the paths drawn so far."""
        return self.g_hat.sum(0) / max(1, np.count_nonzero(self.last))

    def step(self, p: int, g: np.ndarray) -> np.ndarray:
        """The direction whose lr-fold is subtracted, decay not included."""
        mean = self.mean()
        current = self.g_current(p, g)
        direction = current - self.saga * self.g_hat[p] + self.saga * mean
        self.g_hat[p] = current
        return direction
