"""The parts of the alignment of path losses; :mod:`scrapl_optim.alignment` is what users call."""
