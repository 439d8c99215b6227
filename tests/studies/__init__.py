"""Simulation studies: scripts that print the tables of the documentation, ``python -m tests.studies.NAME``."""
