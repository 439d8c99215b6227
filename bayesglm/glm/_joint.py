"""The NumPyro model of a problem."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpyro.distributions as dist

from bayesglm import _families, _memory, links
from bayesglm import model as joint_model
from bayesglm.glm import _lanes
from bayesglm.glm._problem import Problem
from bayesglm.glm._values import dispersion
from bayesglm.prior import Gaussian, Prior
from bayesglm.rows import moments


def numpyro_model(problem, settings, fitted, scale, scale_prior, intercept_prior, prior=None):
    """Return the joint density of a problem as a NumPyro model of no arguments.

    Parameters
    ----------
    fitted : array or None
        The dispersion of a fit.
    scale : str, array or number
        "sample", "plugin" for that of the fit, or its values.
    """
    check_counts(settings.observation_model, problem.rows.y, problem.rows.weight)
    if scale_prior is None:
        scale_prior = default_scale_prior(problem)
    scale = _scale(settings.observation_model, fitted, scale, scale_prior)
    weak = None
    if prior is not None:
        problem, weak = weakly(problem)
    parts = model_of(problem, settings, scale, intercept_prior, weak)
    return partial(joint_model.joint, parts, y=parts.y)


def model_of(problem, settings, scale, intercept_prior, weak) -> joint_model.Model:
    """Return what fixes the joint density, in the shapes of the user.

    Parameters
    ----------
    scale
        Distribution of the dispersion, or its fixed values (neurons,) or ().
    """
    rows, layout = problem.rows, problem.layout
    if not isinstance(scale, dist.Distribution) and not layout.population:
        scale = np.reshape(scale, -1)[0]
    return joint_model.Model(
        observation_model=settings.observation_model,
        inverse_link=settings.inverse_link_function,
        prior=problem.prior,
        X=_memory.loaded(rows.design.matrix, "A NumPyro model"),
        y=layout.squeeze(rows.y),
        weight=layout.squeeze(np.broadcast_to(rows.weight, rows.y.shape)),
        offset=layout.beside(rows.offset),
        n=layout.each(rows.n),
        n_classes=problem.n_classes,
        scale=scale,
        intercept_prior=intercept_prior,
        weak=weak,
        trials=None if rows.trials is None else layout.squeeze(rows.trials),
    )


def default_scale_prior(problem) -> dist.Distribution | None:
    """Return the weak prior of the dispersions, in the units of the responses; None where there are none."""
    spread = problem.layout.each(_lanes.spread(problem.rows))
    return joint_model.default_scale_prior(problem.observation_model, spread)


def _scale(model, fitted, scale, scale_prior):
    """Return a distribution to sample the dispersion from, or its fixed value."""
    if scale_prior is None and not _families.has_free_scale(model):
        return dispersion(model, fitted)
    if isinstance(scale, str) and scale == "sample":
        _lanes.check_scale_prior(model, scale_prior)
        return scale_prior
    if isinstance(scale, str) and scale == "plugin":
        if fitted is None:
            raise ValueError(
                "`scale='plugin'` needs the dispersion that `fit` estimates; call it first."
            )
        return np.asarray(fitted)
    if isinstance(scale, (str, dist.Distribution)):
        raise ValueError(
            f"`scale` must be 'sample', 'plugin' or a number, but {scale!r} was given."
        )
    return np.asarray(scale, dtype=float)


def check_priors(prior, scale_prior, intercept_prior) -> None:
    """Raise a TypeError for what is no distribution, a ValueError if two priors are asked for the same intercept."""
    for name, value in (("scale_prior", scale_prior), ("intercept_prior", intercept_prior)):
        if value is not None and not isinstance(value, dist.Distribution):
            raise TypeError(
                f"`{name}` must be a NumPyro distribution of one number, such as `numpyro.distributions.Normal(0, 1)`, "
                f"but {type(value).__name__} was given."
            )
    if prior == "auto" and intercept_prior is not None:
        raise ValueError(
            "`prior='auto'` has a prior of the intercept: leave `intercept_prior` out, or use `prior=None`."
        )


def check_counts(observation_model, y, weight) -> None:
    """Raise a ValueError if a response of a family of counts is not an integer."""
    if _families.is_count(observation_model) and ((y != np.round(y)) & (weight > 0)).any():
        raise ValueError(
            f"{type(observation_model).__name__} describe counts, but `y` has values that are not "
            "integers: there is no joint density. (`fit` accepts them as a quasi-likelihood.)"
        )


def weakly(problem: Problem) -> tuple[Problem, joint_model.WeakIntercept]:
    """Return the problem with weakly informative priors in the units of the data, and that of its intercepts.

    References
    ----------
    Goodrich, Gabry, Ali, Brilleman (2020), rstanarm. https://mc-stan.org/rstanarm/articles/priors
    """
    rows, X = problem.rows, problem.rows.design.matrix
    # neurons share their features, and so the units of these: those of the rows as often as neurons have them
    mean, feature_sd = moments(X, np.broadcast_to(rows.weight, rows.y.shape).mean(axis=1)[:, None])
    real = _families.is_real(problem.observation_model)
    identity = real and links.canonical(problem.inverse_link) is links.identity
    unit, location = np.ones(problem.n_neurons), np.zeros(problem.n_neurons)
    if identity:
        location, unit = moments(rows.y, rows.weight)
        unit = np.maximum(unit, np.finfo(float).tiny)
    feature_sd = np.where(feature_sd > 1e-12 * np.maximum(1.0, np.abs(mean)), feature_sd, 1.0)
    sd = 2.5 * unit / feature_sd[:, None]
    strength = np.repeat(sd**-2, problem.n_classes or 1, axis=1).reshape(problem.mask.shape)
    term = Gaussian(strength=strength, unit="absolute")
    intercept = joint_model.WeakIntercept(mean, location, unit, dist.Normal(0.0, 2.5))
    return replace(problem, prior=Prior.of(term, problem.mask)), intercept
