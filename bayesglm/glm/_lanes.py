"""From a problem to the posteriors that are sampled: everything as :class:`bayesglm._sampling._target.Lane`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesglm import _families, observation_models
from bayesglm._design import Stored
from bayesglm._sampling import _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.glm._problem import Problem
from bayesglm.glm._rows import Rows
from bayesglm.model import WeakIntercept, default_scale_prior
from bayesglm.rows import moments

# Predictors of all chains and lanes in one pass over the rows, in bytes.
_BLOCK_BYTES = 1 << 26
_MIN_ROWS = 64


class Priors(NamedTuple):
    """What a posterior takes beside the penalty."""

    scale: Any  # a distribution to sample the dispersion from, or its fixed values (neurons,)
    scale_unit: Any  # (neurons,)
    intercept: Any  # distribution of an intercept, or None
    weak: WeakIntercept | None  # in place of it


def double(problem: Problem) -> Problem:
    """Return the problem with its rows in float64."""
    return replace(problem, rows=problem.rows.double())


def priors_of(problem: Problem, scale, fitted_scale, scale_prior, intercept_prior, weak) -> Priors:
    """Return the priors of intercepts and dispersions.

    Raises
    ------
    ValueError
        If the dispersion of a family of the user's own is to be sampled without a prior.
    """
    model = problem.observation_model
    prior = default_scale_prior(model, 1.0) if scale_prior is None else scale_prior
    ones = np.ones(problem.n_neurons)
    if problem.n_classes is not None:
        return Priors(ones, ones, intercept_prior, weak)
    if scale == "plugin" or (prior is None and not _families.has_scale(model)):
        values = np.broadcast_to(np.asarray(fitted_scale, float), ones.shape)
        return Priors(values, ones, intercept_prior, weak)
    check_scale_prior(model, prior)
    unit = ones if scale_prior is not None else _families.scale_unit(model, spread(problem.rows))
    return Priors(prior, unit, intercept_prior, weak)


def check_scale_prior(observation_model, prior) -> None:
    """Raise a ValueError if a dispersion is to be sampled, but has no prior."""
    if prior is None and _families.has_free_scale(observation_model):
        raise ValueError(
            f"{type(observation_model).__name__} has a dispersion for which no prior is known. Pass a `scale_prior` (a "
            "NumPyro distribution of one positive number), or use `scale='plugin'` to fix it at the fitted one."
        )


def spread(rows: Rows) -> np.ndarray:
    """Return the standard deviation of the responses of each neuron, a weight of two counting a row twice."""
    return moments(rows.y, rows.weight)[1] + np.finfo(float).tiny


def build(problem: Problem, priors: Priors, chains: int) -> tuple[Family, Shared, Lane]:
    """Return the posteriors of a problem in float64, as NumPy arrays; X may be left in its file.

    Whitening is the identity, to be set where the modes are known.
    """
    many, n_neurons = problem.n_lanes, problem.n_neurons
    responses, classes = n_neurons // many, problem.n_classes or 1
    y, weight, offset, _ = problem.in_lanes(problem.rows.mass)
    X = problem.rows.design.matrix
    X = X if isinstance(X, Stored) else jax.device_put(X)
    by_lane = lambda a: np.asarray(a, float).reshape(many, responses)  # noqa: E731
    n = by_lane(problem.rows.n)
    weight = np.broadcast_to(weight, (len(weight), responses, weight.shape[-1]))
    sampled = not isinstance(priors.scale, np.ndarray)
    zero_sum = problem.prior.zero_sum(problem.n_classes)
    rows = len(X)
    family = Family(
        observation_models.static(problem.observation_model), problem.inverse_link,
        problem.n_classes, responses, zero_sum,
        problem.n_classes is not None and priors.intercept is None, sampled, False,
        _block(rows, many * chains * responses * classes),
    )  # fmt: skip
    family = family._replace(edged=_target.has_domain(family))
    n_features = X.shape[1]
    mask = np.asarray(problem.to_lanes(problem.mask))
    prior = problem.prior.in_lanes(many)
    precision = np.where(mask, 0.0, 1.0).reshape(many, responses, classes, -1)
    precision = precision[:, :, : family.coef_dims]
    base = _base_table(problem) if sampled else (n * 0 + 1.0, n * 0)
    base_y, base_weight = (a.reshape(many, responses, -1) for a in base)
    size, weak = family.size(n_features), priors.weak
    lane = Lane(
        y, weight, offset, n, mask, prior, precision,
        prior.power(mask, responses), base_y, base_weight,
        np.zeros((many, responses)) if sampled else np.log(by_lane(priors.scale)),
        by_lane(priors.scale_unit),
        by_lane(np.zeros(n_neurons) if weak is None else weak.location),
        by_lane(np.ones(n_neurons) if weak is None else weak.unit),
        np.zeros((many, size)), np.broadcast_to(np.eye(size), (many, size, size)), None,
    )  # fmt: skip
    mean = np.zeros(n_features) if weak is None else weak.feature_mean
    intercept_prior = priors.intercept if weak is None else weak.prior
    shared = Shared(X, mean, intercept_prior, priors.scale if sampled else None)
    return family, shared, lane


def _block(n_rows: int, columns: int) -> int:
    size = max(_MIN_ROWS, _BLOCK_BYTES // (8 * columns) // _MIN_ROWS * _MIN_ROWS)
    return n_rows if size >= n_rows else size


def _base_table(problem: Problem):
    """Return responses that stand for all in the part of the log-density without the predictor."""
    rows = problem.rows
    weight = np.broadcast_to(rows.weight, rows.y.shape).astype(float)
    return _families.kind_of(problem.observation_model).stand_ins(rows.y, weight)
