"""The study of calibration, in miniature."""

import numpy as np
import pytest
from studies import sbc


@pytest.mark.parametrize(
    "name", ["Poisson, Lasso", "Bernoulli, Ridge, weights", "Gaussian, smooth", "Poisson, gains"]
)
def test_ranks_of_true_parameters_are_uniform_under_the_laplace_method(name):
    found, trusted, _ = sbc.ranks(sbc.CASES[name], "laplace", 100)
    assert trusted > 0.9
    p = sbc.p_values(found)
    assert p.min() > 1e-3 / len(p)


def test_ranks_of_true_parameters_are_uniform_for_rows_in_a_file():
    found, _, again = sbc.ranks(sbc.CASES["Poisson, Lasso"], "nuts", 100, file=True)
    assert again <= 2  # as rarely as in memory
    p = sbc.p_values(found)
    assert p.min() > 1e-3 / len(p)


def test_the_study_finds_draws_that_are_too_narrow(rng):
    """A posterior whose standard deviation is 0.8 of what it should be: the test has the power to see it."""
    truth, draws = rng.normal(size=(1, 500)), 0.8 * rng.normal(size=(200, 1, 500))
    ranks = ((draws < truth).sum(axis=0) + rng.uniform(size=(1, 500))) / 201
    assert sbc.p_values(ranks)[0] < 1e-3
    ranks = np.argsort(rng.uniform(size=(1, 500)), axis=1) / 500 + 1e-3
    assert sbc.p_values(ranks)[0] > 0.99
