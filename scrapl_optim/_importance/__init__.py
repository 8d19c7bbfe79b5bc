"""The parts of theta-importance; :mod:`scrapl_optim.importance` is what users call."""
