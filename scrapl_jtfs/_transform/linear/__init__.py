"""The linear maps of the transform, each with its adjoint, and how autograd gets to know of them."""
