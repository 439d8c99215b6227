"""The comparison of two versions finds what differs, and nothing where nothing does."""

import numpy as np
import pytest
from studies import same

CASE = same.Case("GLM", "Poisson", "exp", "Ridge", "", "LBFGS")
DRAWN = same.Case("PopulationGLM", "Poisson", None, "Ridge", "", None, "nuts")
_rng = np.random.default_rng(2)
FIT = {
    "coef": np.array([0.1, -0.2]),
    "intercept": np.array([0.3]),
    "errors, robust=False": np.array([0.1, 0.1, 0.1]),
    "predict": np.array([1.0, np.nan, 2.0]),
    "warnings": "",
}
DRAWS = {"draws of posterior: coef": _rng.normal(size=(2, 100, 3)), "warnings": ""}


def beyond(case, before, **changed):
    found, draws = same.compare(case, before, before | changed, same.LIMIT)
    return [each.quantity for each in found if each.beyond], draws


def test_a_coefficient_differs_in_standard_errors_and_all_else_relative_to_its_size():
    assert beyond(CASE, FIT) == ([], "")
    assert beyond(CASE, FIT, coef=FIT["coef"] + 0.9e-7)[0] == []
    assert beyond(CASE, FIT, intercept=FIT["intercept"] + 1.1e-7)[0] == ["coef"]
    assert beyond(CASE, FIT, predict=FIT["predict"] * (1 + 1e-5))[0] == ["predict"]


@pytest.mark.parametrize(
    "changed",
    [
        {"predict": np.array([1.0, 1.5, 2.0])},  # no longer missing
        {"predict": np.ones(2)},
        {"warnings": "UserWarning: new"},
        {"error": "ValueError: new"},
        {"coef": np.array([0.1, np.nan])},
    ],
)
def test_what_cannot_be_measured_is_beyond_every_limit(changed):
    assert beyond(CASE, FIT, **changed)[0] == [*changed]


def test_draws_are_equal_to_the_bit_to_rounding_or_in_distribution():
    name = "draws of posterior: coef"
    draws = DRAWS[name]
    assert beyond(DRAWN, DRAWS) == ([], "to the bit")
    assert beyond(DRAWN, DRAWS, **{name: draws * (1 + 1e-9)}) == ([], "to 1e-06")
    assert beyond(DRAWN, DRAWS, **{name: draws[:, ::-1]}) == ([], "in distribution only")
    # A whole standard deviation is ten Monte Carlo errors of two sets of 200 independent draws; so is twice the sd.
    assert beyond(DRAWN, DRAWS, **{name: draws + 1}) == ([name], "in distribution only")
    assert beyond(DRAWN, DRAWS, **{name: draws * 2}) == ([name], "in distribution only")


def test_what_was_written_is_equal_to_the_bit_and_the_cases_cover_the_tables(tmp_path, capsys):
    path = str(tmp_path / "before.npz")
    only = ["--only", "GLM, Poisson, exp, Ridge, LBFGS"]
    assert same.main(["--write", path, *only]) == 0
    assert same.main(["--compare", path, *only]) == 0
    printed = capsys.readouterr().out
    assert "0 beyond the limit" in printed
    assert {case.solver for case in same.cases().values()} >= set(same.SOLVERS)
    assert {case.kind for case in same.cases().values()} == same.STRENGTHS.keys()
