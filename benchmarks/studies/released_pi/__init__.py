"""What is theta-importance made of? Ours beside the distributions that the paper's authors released, taken apart.

A case is a synthesizer, an encoder as it is before training, and some examples. For each path we keep the squared
distance of its coefficients with the first and second derivatives in the controls; the distance itself, the same
with the reflections that scrapl-loss leaves in, and halves of the examples follow from these without another
transform. The eigenvalues (the paper's importance) are compared with slopes and curvatures of the path's loss in
the controls, which need no encoder: with the size of the mean slope over the examples, and with its rms.
"""
