"""theta-importance sampling beside scrapl-loss: agreement, cost, and whether pi finds a synth's modulations.

`python -m benchmarks.importance` conducts (a process for each side, one at work at a time, both with the peer's
interpreter), writes benchmarks/results/importance.json and importance.png and prints the figures.
"""
