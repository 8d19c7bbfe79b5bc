"""Scattering of images, inside: sizes, filters, the table of paths."""
