"""Parts of time scattering: its paths, its filters and its layers."""
