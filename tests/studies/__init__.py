"""Simulation studies: scripts that print tables, ``python -m tests.studies.NAME``; the tests run them in miniature."""
