"""Loss and means as functions that JAX can differentiate, in parameters, features and responses.

The estimators read their input with NumPy, which cannot look at what JAX traces. Under `jax.grad`, `jax.hessian`,
`jax.vmap` or `jax.jit` these take their place: the same numbers, in plain `jax.numpy`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, _families, labels, rows
from bayesglm._input import refuse_iterator
from bayesglm._likelihood import sample_loss
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit

# The value that stands in for a missing response.
_FILL = 1.0


def is_traced(*trees) -> bool:
    """Return whether JAX traces something in the trees."""
    for tree in trees:
        refuse_iterator(tree)
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def predictor(settings: Settings, coef, intercept, X):
    """Return the linear predictor (samples, *outputs) of parameters in the structure of X.

    Raises
    ------
    TypeError
        If the structures differ.
    ValueError
        If the numbers of features differ.
    """
    leaves, structure = jax.tree.flatten(X)
    coefs, given = jax.tree.flatten(coef)
    if structure != given:
        raise TypeError(f"`coef` has the structure {given}, but X has {structure}.")
    widths = [jnp.shape(leaf)[-1] for leaf in leaves]
    if [len(c) for c in coefs] != widths:
        raise ValueError(
            f"Inconsistent number of features: `coef` has {[len(c) for c in coefs]} per leaf, but X has {widths}."
        )
    coef = jnp.concatenate([jnp.asarray(c) for c in coefs])
    mask = _design.coefficient_mask(settings.feature_mask, structure, widths, coef.shape[1:])
    matrix = jnp.concatenate([jnp.asarray(leaf, coef.dtype) for leaf in leaves], axis=1)
    intercept = jnp.reshape(intercept, coef.shape[1:])
    return rows.predictor(matrix, jnp.where(mask, coef, 0.0), intercept)


def mean(fit: Fit, X):
    """Return the mean response (log-probabilities of classes) of a fit."""
    eta = predictor(fit.settings, fit.coef_tree, fit.intercept, X)
    return fit.settings.inverse_link_function(eta)


def loss(settings: Settings, classes, scale, params, X, y):
    """Return the loss without penalty, the mean over samples, summed over neurons; rows with a NaN left out.

    Parameters
    ----------
    scale
        Dispersion that enters the loss.
    """
    finite = jnp.stack(
        [jnp.isfinite(jnp.asarray(leaf)).all(axis=1) for leaf in jax.tree.leaves(X)]
    ).all(axis=0)
    X = jax.tree.map(lambda leaf: jnp.where(finite[:, None], leaf, 0.0), X)
    eta = predictor(settings, *params, X)
    if settings.classifier and not is_traced(y):
        y = labels.encode(classes, np.asarray(y))
        used = jnp.asarray(y >= 0)
    else:
        y = jnp.asarray(y)
        if _families.has_trials(settings.observation_model):
            trials = jnp.sum(y, axis=-1)
            y = jnp.where(trials > 0, y[..., 0], jnp.nan)  # a row without trials is none
            scale = 1.0 / jnp.where(jnp.isfinite(y), trials, 1.0)
        used = jnp.isfinite(y)
    used = used & finite.reshape(-1, *(1,) * (y.ndim - 1))
    y = jnp.where(used, y, 0 if settings.classifier else _FILL)
    eta = jnp.where(used.reshape(used.shape + (1,) * (eta.ndim - used.ndim)), eta, 1.0)
    family = settings.observation_model, y, eta, settings.inverse_link_function
    each = sample_loss(*family, scale)
    return jnp.sum(jnp.sum(jnp.where(used, each, 0.0), axis=0) / used.sum(axis=0))
