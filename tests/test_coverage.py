"""Intervals hold the truth as often as they say: a miniature of the study behind docs/standard-errors.md.

Rates are of a few hundred data sets with a handful of parameters each: their Monte Carlo error is 1 to 2 percent, and
bounds are three of these or more from what the full study finds.
"""

import re
from pathlib import Path

import pytest
from studies import coverage

PAGE = Path(__file__).resolve().parents[1] / "docs" / "standard-errors.md"
CASES = {case.name: case for case in coverage.CASES}
MINIATURE = {"populations": 4, "neurons": 50, "sampled": 0}
#: The least and the most that intervals may cover, for the kinds of errors that suit the data and those that do not.
BOUNDS = {
    "normal, n 20": {"information": (91, 99), "HC3": (91, 100)},
    "sd grows with a feature, n 30": {"information": (0, 94.5), "HC3": (91, 100)},
    "Poisson, overdispersed by 1, n 200": {"information": (0, 85), "HC3": (88, 98)},
    "10 groups of 20, correlation 0.3": {"information": (0, 85), "CR1": (87, 98), "CR3": (91, 100)},
    "AR(1) 0.9, n 1000": {"information": (0, 65), "HAC, 6 lags": (0, 89), "HAC": (88, 99)},
}


@pytest.mark.parametrize("name", BOUNDS)
def test_intervals_hold_the_truth_where_their_errors_suit_the_data(name):
    case = CASES[name]._replace(kinds=tuple(BOUNDS[name]))
    for kind, (holds, rejects) in coverage.rates(case, **MINIATURE).items():
        low, high = BOUNDS[name][kind]
        assert low <= holds.percent <= high, kind
        if low > 90:
            assert rejects.percent < 12, kind  # 5, and four errors of a rate of one parameter


def test_the_page_has_the_table_of_the_study():
    """Its numbers take minutes, so that only its lines and columns are compared."""
    lines = re.findall(r"^\| .* \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert coverage.header().splitlines()[0] in lines
    first = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert first[-len(CASES) :] == list(CASES)
