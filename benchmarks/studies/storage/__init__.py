"""The accuracy that compact optimizer states cost: PathAdamSAGA's storage policies, and its SAGA strength.

`python -m benchmarks.studies.storage` trains the encoder of the sound matching benchmark (preset `small`, SCRAPL
alone) with each policy over several seeds, measures the rounding of stored moments apart from any training, writes
benchmarks/results/storage.json and storage.png and prints tables. Interrupt it at any time: the same command
continues.
"""
