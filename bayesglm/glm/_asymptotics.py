"""Standard errors of a fit, from the curvature there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._sampling import _laplace, _target
from bayesglm.glm import _lanes, _results


def meaning(penalty, robust: bool, prob: float) -> str:
    """Return what the interval of a fit is, in words."""
    kind = "sandwich" if robust else "observed information"
    if all(term is None for term in penalty):
        return f"asymptotic confidence interval of level {prob} ({kind})"
    text = f"approximate posterior interval of probability {prob}: normal, around the penalised estimate ({kind})"
    if not penalty.smooth:
        text += "; the prior's kink is replaced by a normal prior of the same variance, so sample instead"
    return text


def standard_errors(estimator, problem, robust: bool):
    """Return standard errors of coefficients (features, *outputs) and intercepts; NaN where nothing was fitted."""
    problem = _lanes.double(problem)
    scale = np.broadcast_to(
        np.asarray(_results.dispersion(estimator.observation_model, estimator._scale), float),
        (problem.n_neurons,),
    )
    priors = _lanes.priors_of(
        problem, "plugin", np.where(np.isfinite(scale), scale, 1.0), None, None, None
    )
    family, shared, lanes = _lanes.build(problem, priors, 1)
    coef, intercept = estimator._coef[2], estimator._intercept.reshape(problem.outputs)
    theta = problem.theta(np.nan_to_num(coef), np.nan_to_num(intercept))
    u = _target.from_columns(family, theta[..., :-1], theta[..., -1])
    _, _, hessian = map(np.asarray, _laplace._curvature(family, shared, jax.device_put(lanes), u))
    root, least = _laplace.invert(hessian)
    covariance = root @ np.swapaxes(root, -1, -2)
    if robust:
        covariance = covariance @ _scores(family, shared, lanes, theta) @ covariance
    # coordinates are few and linear in the coefficients: go through them one by one
    size, n_features = u.shape[1], theta.shape[-1] - 1
    basis = _target.split(family, np.eye(size), n_features)
    columns, ends = _target.to_columns(family, *basis[:2])
    to_theta = np.concatenate([columns, ends[..., None]], axis=-1).reshape(size, -1)
    variance = np.einsum("ip,lij,jp->lp", to_theta, covariance, to_theta, optimize=True)
    variance[least <= 0] = np.nan
    error = np.sqrt(np.maximum(variance, 0.0)).reshape(theta.shape)
    coef_error, intercept_error = problem.params(error)
    unknown = np.isnan(coef)
    return np.where(unknown, np.nan, coef_error), np.where(
        np.isnan(intercept), np.nan, intercept_error
    )


def _scores(family, shared, lanes, theta) -> np.ndarray:
    """Return the sum of the outer products of the score of each row, as often as it counts, (lanes, size, size)."""
    X = np.asarray(shared.X)
    eta = np.einsum("lcf,nf->lcn", theta[..., :-1], X) + theta[..., -1:]
    if lanes.offset is not None:
        eta = eta + lanes.offset
    log_phi = jnp.asarray(lanes.log_scale)

    def total(eta, lane_y, phi):
        return jnp.sum(_target._row_energies(family, lane_y, eta, phi))

    slope = np.asarray(jax.vmap(jax.grad(total))(jnp.asarray(eta), jnp.asarray(lanes.y), log_phi))
    used = np.broadcast_to(lanes.weight, lanes.y.shape)
    slope = np.where(np.repeat(used > 0, family.classes, axis=1), slope, 0.0)
    slope = slope * np.sqrt(np.repeat(used, family.classes, axis=1))
    found = []
    for each in slope:
        score = each[:, None, :] * np.concatenate([X.T, np.ones((1, len(X)))])
        score = _target.from_columns(
            family, np.moveaxis(score[:, :-1], -1, 0), np.moveaxis(score[:, -1], -1, 0)
        )
        found.append(score.T @ score)
    return np.stack(found)
