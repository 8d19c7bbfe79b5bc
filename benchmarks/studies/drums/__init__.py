"""Which loss for drums? Tables 4, 8 and 9 of the paper on recordings that anyone can fetch.

`python -m benchmarks.studies.drums` trains the encoder of the sound matching benchmark on recorded drums, with the
losses of the paper and with arms that are meant to mend the decays that SCRAPL misses. Each arm is trained with
aligned matches ("micro") and with matches that are shifted in training ("meso"), on the same seeds, which also
decide the split. Interrupt it at any time: finished runs are kept, and one that was under way goes on from its
last checkpoint.
"""
