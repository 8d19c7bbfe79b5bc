"""Algorithm 1 of the SCRAPL paper, line by line, in float64: the definition the optimizer must equal.

``saga`` scales the memory terms; ``unbiased`` weights the drawn path and takes the mean over all paths, those
never visited counting as zero. Nothing is optimised and nothing is shared with the package: dictionaries of
rows, biased moments, a stored memory, and a sum over all visited paths at every step.
"""

import numpy as np


class ReferencePathAdamSAGA:
    def __init__(
        self,
        w,
        n_paths,
        lr,
        betas=(0.9, 0.999),
        eps=0.0,
        weight_decay=0.0,
        path_adam=True,
        saga=1.0,
        unbiased=False,
    ):
        self.w = np.array(w, dtype=np.float64)
        self.P, self.lr, (self.b1, self.b2), self.eps = n_paths, lr, betas, eps
        self.weight_decay, self.path_adam = weight_decay, path_adam
        self.saga, self.unbiased = saga, unbiased
        zeros = np.zeros_like(self.w)
        self.k = 0
        self.tau = dict.fromkeys(range(n_paths), 0)
        self.m = {p: zeros.copy() for p in range(n_paths)}
        self.v = {p: zeros.copy() for p in range(n_paths)}
        self.g_hat = {p: zeros.copy() for p in range(n_paths)}
        self.visited = set()

    def step(self, p, g, weight=1.0):
        self.step_many([(p, g, weight)])

    def step_many(self, draws):
        """One step of K draws (path, gradient, weight): each path moves its row, the weights move once."""
        self.k += 1
        K, k, P, b1, b2 = len(draws), self.k, self.P, self.b1, self.b2
        drawn = {}
        for p, g, weight in draws:
            drawn.setdefault(p, []).append((np.asarray(g, dtype=np.float64), weight))
        n_counted = P if self.unbiased else max(1, len(self.visited))
        g_saga = self.saga * sum((self.g_hat[q] for q in self.visited), np.zeros_like(self.w)) / n_counted
        for p, of_path in drawn.items():
            g = sum(g for g, _ in of_path) / len(of_path)
            g_current = g
            if self.path_adam:
                elapsed = (k - self.tau[p]) / P
                self.m[p] = b1**elapsed * self.m[p] + (1 - b1**elapsed) * g
                self.v[p] = b2**elapsed * self.v[p] + (1 - b2**elapsed) * (g * g)
                m_hat = self.m[p] / (1 - b1 ** (k / P))
                v_hat = self.v[p] / (1 - b2 ** (k / P))
                root = np.sqrt(self.eps + v_hat)
                g_current = np.divide(m_hat, root, out=np.zeros_like(root), where=root > 0)
            self.tau[p] = k
            g_saga = g_saga + sum(weight for _, weight in of_path) / K * (g_current - self.saga * self.g_hat[p])
            self.g_hat[p] = g_current
        self.w = self.w - self.lr * self.weight_decay * self.w
        self.w = self.w - self.lr * g_saga
        self.visited |= drawn.keys()
