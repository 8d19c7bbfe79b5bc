"""The accuracy that is enough: compact transforms, smoothed moduli, and what these do to training.

`python -m benchmarks.studies.accuracy` measures on one thread, writes accuracy.json and accuracy.png into
benchmarks/results and prints tables. Accuracy alone: what a setting saves is for benchmarks.speed to say.
"""
