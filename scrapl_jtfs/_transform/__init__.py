"""The parts of the transform: Equation 1 in ``scattering``, its filters, its layers and their linear maps."""
