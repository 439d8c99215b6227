"""Standard errors of a fit, from the curvature there."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax
import numpy as np

from bayesglm import observation_models
from bayesglm._sampling import _laplace, _target
from bayesglm.glm import _lanes, _results, _robust
from bayesglm.glm._solve import listed

# Families whose dispersion multiplies the variance of the estimates, so that its estimation widens their distribution.
_ESTIMATED = (observation_models.GaussianObservations, observation_models.GammaObservations)


class Errors(NamedTuple):
    """What a table of a fit has beside its estimates: pairs for coefficients and intercepts."""

    error: tuple[np.ndarray, np.ndarray]
    dof: tuple[np.ndarray, np.ndarray]  # of Student's t; infinite for the normal distribution
    maxlags: tuple[np.ndarray, np.ndarray] | None


def meaning(prior, sandwich, dof, prob: float) -> str:
    """Return what the interval of a fit is, in words.

    Parameters
    ----------
    dof : array
        Degrees of freedom of all parameters.
    """
    reference = "normal"
    known = np.unique(dof[np.isfinite(dof)])
    if len(known):
        ends = f"{known[0]:.4g}" if len(known) == 1 else f"{known[0]:.4g} to {known[-1]:.4g}"
        reference = f"Student's t with {ends} degrees of freedom"
    kind = f"{_robust.all_words(sandwich)}; {reference}"
    if prior.flat:
        return f"asymptotic confidence interval of level {prob} ({kind})"
    text = f"approximate posterior interval of probability {prob}: around the penalised estimate ({kind})"
    if not prior.smooth:
        text += "; the prior's kink is replaced by a normal prior of the same variance, so sample instead"
    return text


def standard_errors(estimator, problem, sandwich) -> Errors:
    """Return standard errors and what they refer to; NaN where nothing was fitted.

    Parameters
    ----------
    sandwich : Sandwich or None
        None for errors from the observed information.
    """
    problem = _lanes.double(problem)
    fitted = _results.dispersion(estimator.observation_model, estimator._scale)
    fitted = np.broadcast_to(np.asarray(fitted, float), (problem.n_neurons,))
    known = np.isfinite(fitted) & (fitted > 0)
    priors = _lanes.priors_of(problem, "plugin", np.where(known, fitted, 1.0), None, None, None)
    family, shared, lanes = _lanes.build(problem, priors, 1)
    coef, intercept = estimator._coef[2], estimator._intercept.reshape(problem.outputs)
    theta = problem.theta(np.nan_to_num(coef), np.nan_to_num(intercept))
    u = _target.from_columns(family, theta[..., :-1], theta[..., -1])
    _, _, hessian = map(np.asarray, _laplace._curvature(family, shared, jax.device_put(lanes), u))
    root, least = _laplace.invert(hessian)
    covariance = root @ np.swapaxes(root, -1, -2)
    given = _robust.pieces(family, lanes, hessian, covariance)
    dof = np.asarray(_results.residual_dof(problem, coef), float)
    dof = np.broadcast_to(dof.ravel(), (problem.n_neurons,))
    if sandwich is None:
        found = _from_information(given, dof, isinstance(problem.observation_model, _ESTIMATED))
        found.variance[~np.isfinite(fitted)] = np.nan
        found.variance[fitted == 0] = 0.0
    else:
        rows = family, shared, lanes, theta
        found = _robust.spread(sandwich, given, problem.rows.n, dof, *rows)
        if (
            isinstance(problem.observation_model, _ESTIMATED)
            and sandwich.kind in _robust.HETEROSCEDASTIC
        ):
            found = found._replace(dof=np.repeat(dof[:, None], found.dof.shape[1], axis=1))
    found.variance[np.repeat(least <= 0, family.responses)] = np.nan
    finite = np.isfinite(theta.reshape(found.variance.shape)).all(axis=1)
    fine = finite & (dof > 0) & np.repeat(least > 0, family.responses)
    if sandwich is not None:
        _warn(
            sandwich,
            fine & ~np.isfinite(found.variance).all(axis=1),
            estimator._labels().get("neuron"),
        )
    return _by_parameter(problem, found, np.isnan(coef), np.isnan(intercept))


def _warn(sandwich, bad, labels) -> None:
    if bad.any():
        name = "The model" if labels is None else f"Neurons {listed(np.flatnonzero(bad), labels)}"
        warnings.warn(f"{name}: {_robust.undefined(sandwich)}", RuntimeWarning, stacklevel=4)


def _from_information(given, dof, estimated: bool):
    """Return variances from the curvature alone."""
    to_theta = given.to_theta
    variance = np.einsum("ip,lij,jp->lp", to_theta, given.covariance, to_theta, optimize=True)
    each = dof[:, None] if estimated else np.inf
    return _robust.Spread(np.maximum(variance, 0.0), np.broadcast_to(each, variance.shape))


def _by_parameter(problem, found, no_coef, no_intercept) -> Errors:
    shape = (problem.n_lanes, -1, len(problem.mask) + 1)

    def both(values, nothing):
        coef, intercept = problem.params(np.asarray(values).reshape(shape))
        return np.where(no_coef, nothing, coef), np.where(no_intercept, nothing, intercept)

    lags = None if found.maxlags is None else both(found.maxlags, -1)
    return Errors(both(np.sqrt(found.variance), np.nan), both(found.dof, np.nan), lags)
