"""What the tests of learned strengths share: their objective as a function of strengths, and estimators."""

from dataclasses import replace

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.glm import _fitting, _learning
from bayesglm.prior import Banded, Gaussian, Scale

#: Under which the mode is that of restricted likelihood.
FLAT = Scale(dist.ImproperUniform(constraints.positive, (), ()))

# First differences of neighbours: flat along the constant.
_BANDS = np.array([[1.0, 2.0, 1.0], [-1.0, -1.0, 0.0]])


class Two(nmo.regularizer.Regularizer):
    """A ridge for the first of four features, and small differences for the others."""

    def terms(self, strength, mask, broadcast, leaf_slices):
        strength = broadcast(strength)
        smooth = Gaussian(Banded(_BANDS), strength=strength[1:], features=range(1, 4))
        return Gaussian(strength=strength[:1], features=[0]), smooth


def objective(model, X, y, group: int, changes):
    """The log evidence times the hyperprior at standard deviations of one group multiplied by exp(change).

    The dispersion is held. Returns an array (changes, neurons).
    """
    learned, found = model._fit.learned, []
    with solvers.numerics():
        problem = model._problem(X, y, None, None)
        groups, scales = _learning.groups_of(problem)
        hyper = _learning._hyper(problem, groups, scales)
        for change in changes:
            factor = np.where(np.arange(len(groups)) == group, np.exp(change), 1.0)[:, None]
            other = replace(learned, strength=learned.strength / factor**2)
            known = problem.with_factors(other.factors(problem.outputs))
            fit = _fitting.fit(known, model._settings)
            fit = replace(fit, scale=model._fit.scale)
            density = hyper.log_density(np.log(learned.sd * factor).T)[0].sum(axis=1)
            found.append(_learning.log_evidence(known, fit) + density)
    return np.array(found)


def distance(model, X, y, group: int, together: bool = False):
    """How far a learned standard deviation is from its mode, in its standard errors, by finite differences."""
    h = 1e-2
    values = objective(model, X, y, group, (-h, 0.0, h))
    values = values.sum(axis=1, keepdims=True) if together else values
    slope = (values[2] - values[0]) / (2.0 * h)
    bend = (values[2] - 2.0 * values[1] + values[0]) / h**2
    return np.abs(slope) / np.sqrt(np.abs(bend))


def exact(X, y, sd, scale):
    """The log density of Gaussian responses, normal coefficients and a flat intercept integrated out."""
    with jax.enable_x64(True):
        spread = scale * np.eye(len(y)) + (X * sd**2) @ X.T
        ones = np.ones(len(y))
        weighted = np.linalg.solve(spread, np.stack([ones, y], axis=1))
        mass = ones @ weighted[:, 0]
        rest = y - ones @ weighted[:, 1] / mass
        squared = rest @ np.linalg.solve(spread, rest)
        log_det = np.linalg.slogdet(spread)[1] + np.log(mass)
        return -0.5 * ((len(y) - 1) * np.log(2.0 * np.pi) + log_det + squared)
