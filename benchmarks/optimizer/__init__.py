"""The cost of a step of PathAdamSAGA: time, memory and drift, beside torch.optim and scrapl-loss's gradient hooks.

`python -m benchmarks.optimizer` conducts (one process for each contender, one at work at a time, all with the
peer's interpreter), writes benchmarks/results/optimizer.json and optimizer.png and prints the ratios.
"""
