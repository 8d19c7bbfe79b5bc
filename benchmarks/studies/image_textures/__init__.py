"""Does SCRAPL help with images? An encoder of textures, trained with one path of a scattering transform a step.

`python -m benchmarks.studies.image_textures` trains a small network to tell the orientation, the wavelength and
the density of textures of Gabor grains. Target and match have other grains at random, so that no pixel of one is
found in the other. The learning rate of each arm is chosen among the same values on a seed of its own; then every
arm is trained on the same seeds. Interrupt it at any time: finished runs are kept.
"""
