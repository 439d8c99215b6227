"""Standard errors of a fit, from the curvature there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm import _families
from bayesglm._messages import Message
from bayesglm._sampling import _laplace, _passes, _target
from bayesglm.glm import _lanes, _results, _robust
from bayesglm.glm._problem import Problem
from bayesglm.glm._values import Fit


class Errors(NamedTuple):
    """What a table of a fit has beside its estimates: pairs for coefficients and intercepts."""

    messages: tuple[Message, ...]
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


class Local(NamedTuple):
    """The normal approximation of the posterior at a fit, of all lanes."""

    family: Any
    shared: Any
    lanes: Any
    theta: np.ndarray  # (lanes, columns, features + 1)
    hessian: np.ndarray  # (lanes, size, size), in the coordinates of the sampler
    root: np.ndarray  # root @ root.T is its inverse
    least: np.ndarray  # (lanes,) smallest eigenvalue of the scaled curvature


def local(problem: Problem, fit: Fit, scale, weak=None) -> Local:
    """Return the normal approximation at a fit, given dispersions; those that are not known count as one.

    Parameters
    ----------
    problem
        In float64.
    weak
        Weakly informative priors that `fit` does not know.
    """
    scale = np.broadcast_to(np.asarray(scale, float).ravel(), (problem.n_neurons,))
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    priors = _lanes.priors_of(problem, "plugin", scale, None, None, weak)
    family, shared, lanes = _lanes.build(problem, priors, _passes.DIRECTIONS)
    theta = fit.theta(problem.layout)
    u = _target.from_columns(family, theta[..., :-1], theta[..., -1])
    _, _, hessian = _passes.curvature(family, shared, lanes, u)
    return Local(family, shared, lanes, theta, hessian, *_laplace.invert(hessian))


def standard_errors(problem: Problem, fit: Fit, at: Local, sandwich) -> Errors:
    """Return standard errors and what they refer to; NaN where nothing was fitted.

    Parameters
    ----------
    sandwich : Sandwich or None
        None for errors from the observed information.
    """
    fitted = np.broadcast_to(np.asarray(fit.dispersion, float), (problem.n_neurons,))
    family, coef, theta = at.family, fit.coef, at.theta
    intercept = fit.intercept.reshape(problem.outputs)
    covariance = at.root @ np.swapaxes(at.root, -1, -2)
    given = _robust.pieces(family, at.lanes, at.hessian, covariance)
    learned = fit.learned is not None  # effective degrees of freedom
    dof = np.asarray(fit.dof if learned else _results.residual_dof(problem, coef), float)
    dof = np.broadcast_to(dof.ravel(), (problem.n_neurons,))
    # a dispersion that multiplies the variance of the estimates widens their distribution by being estimated
    free = _families.has_free_scale(problem.observation_model)
    if sandwich is None:
        found = _from_information(given, dof, free)
        found.variance[~np.isfinite(fitted)] = np.nan
        found.variance[fitted == 0] = 0.0
    else:
        rows = family, at.shared, at.lanes, theta
        trials = None if problem.rows.trials is None else problem.rows.trials.T
        found = _robust.variances(sandwich, given, problem.rows.n, dof, trials, *rows)
        if free and sandwich.kind in _robust.HETEROSCEDASTIC:
            found = found._replace(dof=np.repeat(dof[:, None], found.dof.shape[1], axis=1))
    positive = problem.layout.spread(at.least > 0)
    found.variance[~positive] = np.nan
    finite = np.isfinite(theta.reshape(found.variance.shape)).all(axis=1)
    bad = finite & (dof > 0) & positive & ~np.isfinite(found.variance).all(axis=1)
    told = () if sandwich is None else _undefined(sandwich, bad, fit.layout)
    return Errors(told, *_by_parameter(problem, found, np.isnan(coef), np.isnan(intercept)))


def _undefined(sandwich, bad, layout) -> tuple[Message, ...]:
    text = f"{layout.named(bad)}: {_robust.undefined(sandwich)}"
    return (Message(RuntimeWarning, text),) if bad.any() else ()


def _from_information(given, dof, estimated: bool):
    """Return variances from the curvature alone."""
    to_theta = given.to_theta
    variance = np.einsum("ip,lij,jp->lp", to_theta, given.covariance, to_theta, optimize=True)
    each = dof[:, None] if estimated else np.inf
    return _robust.Variances(np.maximum(variance, 0.0), np.broadcast_to(each, variance.shape))


def _by_parameter(problem, found, no_coef, no_intercept):
    """Return errors, degrees of freedom and lags as pairs for coefficients and intercepts."""
    shape = (problem.n_lanes, -1, len(problem.mask) + 1)

    def both(values, nothing):
        coef, intercept = problem.params(np.asarray(values).reshape(shape))
        return np.where(no_coef, nothing, coef), np.where(no_intercept, nothing, intercept)

    lags = None if found.maxlags is None else both(found.maxlags, -1)
    dof, of_intercept = both(found.dof, np.nan)
    dof = np.where(problem.mask, dof, np.nan)  # of what is not estimated
    return both(np.sqrt(found.variance), np.nan), (dof, of_intercept), lags
