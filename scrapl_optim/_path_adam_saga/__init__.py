"""The parts of PathAdamSAGA: none of them is public."""
