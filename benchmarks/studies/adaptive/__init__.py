"""Does a distribution over paths that adapts while training beat the uniform one and theta-importance sampling?

`python -m benchmarks.studies.adaptive` trains the encoder of the sound matching benchmark on two synthesizers with
four ways to draw paths over several seeds, writes adaptive.json and adaptive.png into benchmarks/results and
prints a table. Interrupt it at any time: finished runs are kept, a run that was under way starts over (adaptive
samplers and optimizers are not checkpointed here).
"""
