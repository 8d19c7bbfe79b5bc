"""How exact is exact enough: compact transforms, smoothed moduli, and what these do to training.

`python -m benchmarks.accuracy` measures on one thread, writes benchmarks/results/accuracy.json and accuracy.png
and prints tables. Accuracy alone: what a setting saves is for benchmarks.speed to say.
"""
