"""Numbers of the structure of the package, read from its sources: ``python -m tests.structure``.

``--path DIR`` reads another checkout, ``--json`` prints the numbers for a script, ``--places`` every place that is
counted. Nothing is imported.
"""
