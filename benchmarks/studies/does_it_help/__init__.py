"""Does the method do what the paper says? Its tables at a scale that two cores train.

`python -m benchmarks.studies.does_it_help` trains the encoder of the sound matching benchmark on the authors' two
synthesizers, shrunk in time by eight, with every part of the method added one by one, and with further ideas. The
learning rate of each arm is chosen among the same values on a seed of its own; then every arm is trained on the
same seeds. Interrupt it at any time: finished runs are kept, and one that was under way goes on from its last
checkpoint.
"""
