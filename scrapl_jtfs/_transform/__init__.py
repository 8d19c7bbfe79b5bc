"""What the transform is made of: Equation 1 in ``scattering``, its filters, its layers and their linear maps."""
