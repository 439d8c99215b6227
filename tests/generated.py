"""Cases drawn by Hypothesis, and what must hold for each: laws of input, settings and files.

A law is a strategy, which draws a case (a named tuple of words and small numbers, so that it can be read), and a check.
All cases have one shape, and come from few families unless `wide`, so that few programs are compiled. The tests run a
few thousand of them (tests/test_generated.py), ``python -m tests.studies.generated`` as many as are asked for.
"""

from __future__ import annotations

from generated_base import Law
from generated_files import (
    BYTES,
    MEMBERS,
    check_damaged_draws,
    check_damaged_fit,
    check_kept,
    damage,
    kept,
)
from generated_input import Held, check_held, check_junk, check_settings, held, junk, settings, ways

__all__ = ["LAWS", "Held", "check_held", "ways"]

#: Laws, and their number of cases in the tests.
LAWS = {
    "containers": Law(held, check_held, 500),
    "junk": Law(junk, check_junk, 700),
    "settings": Law(settings, check_settings, 150),
    "files": Law(kept, check_kept, 100),
    "damaged fits": Law(lambda wide=False: damage(BYTES | MEMBERS), check_damaged_fit, 600),
    "damaged draws": Law(lambda wide=False: damage(BYTES), check_damaged_draws, 100),
}
