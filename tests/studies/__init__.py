"""Simulation studies: too long for every run of the tests, which run them in miniature."""
