"""The cost of a path: JTFSPath beside scrapl-loss, kymatio and a multi-resolution spectrogram loss.

`python -m benchmarks.speed` conducts (one process for each contender, one at work at a time), writes
benchmarks/results/speed.json and speed.png and prints every ratio wanted with the one measured;
`python -m benchmarks.speed.cuda` is the short form for a GPU.
"""
