"""Finished studies. Their results are in benchmarks/results; the commands still run, and so do their tests:

`make accuracy`, `make storage`, `make adaptive`, `make test-studies`.
"""
