"""What an estimator reports beyond its coefficients: degrees of freedom, dispersion, scores."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, observation_models
from bayesglm._input import Names
from bayesglm._shards import fill, filled_length
from bayesglm.glm._problem import Problem, Rows
from bayesglm.glm._solve import listed
from bayesglm.solvers import State


def keep(state: State) -> State:
    """Return a state that may leave the float64 scope."""

    def host(leaf):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else np.asarray(leaf)

    return jax.tree.map(host, state)


def bad_neurons(intercept) -> list[int]:
    """Return the neurons (first axis) with an intercept that is not finite."""
    bad = ~np.isfinite(np.asarray(intercept))
    return [
        int(k) for k in np.flatnonzero(bad.reshape(len(bad) if bad.ndim else 1, -1).any(axis=1))
    ]


def lane_mask(problem: Problem) -> np.ndarray:
    """Return the mask as (lanes, columns, features + 1), with the intercept in use."""
    mask = problem.to_lanes(problem.mask)
    return np.concatenate([mask, np.ones((*mask.shape[:2], 1), bool)], axis=-1)


def residual_dof(problem: Problem, coef, n_samples=None) -> np.ndarray:
    """Return the residual degrees of freedom of each neuron.

    References
    ----------
    Zou, Hastie, Tibshirani (2007) for the number of non-zero coefficients. doi:10.1214/009053607000000127
    """
    n = problem.rows.n if n_samples is None else np.full(problem.n_neurons, float(n_samples))
    by_neuron = (len(coef), problem.n_neurons, -1)
    used = problem.mask.reshape(by_neuron).any(axis=-1)
    free = 1 if problem.n_classes is None else problem.n_classes - 1
    if not problem.prior.smooth:
        nonzero = ~np.isclose(coef, 0.0).reshape(by_neuron)
        dof = n - nonzero.sum(axis=(0, 2)) - free
        # the documented shape: a scalar for one neuron without classes
        return dof if len(problem.outputs) else dof[0]
    rank = problem.prior.counted(used, lambda columns: _rank(problem.rows.design.matrix, columns))
    return n - free * rank - free


def _rank(X, columns) -> int:
    """Rank of some columns of a matrix; from some of the rows if these suffice."""
    n_features = len(columns)
    if min(len(X), n_features) == 0:
        return 0
    some = _design.stretches(len(X), _RANK_ROWS * X.shape[1])
    gram = _gram(X, columns, some)
    if not _regular(gram) and len(some) > 1:
        gram = _gram(X, columns, [slice(a, a + 4096) for a in range(0, len(X), 4096)])
    if len(X) > n_features and _regular(gram):
        return n_features
    return int(np.linalg.matrix_rank(X[:][:, columns]))


# Rows for each feature from which the rank of the features is found, unless they are close to singular there.
_RANK_ROWS = 20


def _gram(X, columns, blocks):
    blocks = (X[rows][:, columns].astype(np.float64, copy=False) for rows in blocks)
    return sum(block.T @ block for block in blocks)


def _regular(gram) -> bool:
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    return bool(np.linalg.eigvalsh(gram / np.outer(scale, scale))[0] > 1e-9)


def scale(problem: Problem, residual, within, dof, coef, intercept) -> np.ndarray:
    """Return the dispersion of each neuron.

    Parameters
    ----------
    within : array (neurons,)
        Dispersions that entered the loss.
    """
    model, rows = problem.observation_model, problem.rows
    if not observation_models.is_native(model):
        return _own_scale(problem, dof, coef, intercept)
    if model.has_scale:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.atleast_1d(np.asarray(residual) * rows.n / dof)
    if isinstance(model, observation_models.NegativeBinomialObservations):
        return within if problem.estimates_scale else np.asarray(model.scale)
    return np.ones(problem.n_neurons)


def check_weights(problem: Problem) -> None:
    """Raise a ValueError if an observation model of the user's own cannot estimate a dispersion with these weights."""
    weight, model = problem.rows.weight, problem.observation_model
    ours = observation_models.is_native(model)
    ones = observation_models.Observations.estimate_scale
    if ours or getattr(type(model), "estimate_scale", None) is ones or _whole(weight):
        return
    raise ValueError(
        f"`estimate_scale` of {model!r} sees rows, and a weight of w is a row w times: pass whole numbers as "
        "`sample_weight`."
    )


def _whole(weight) -> bool:
    return bool((weight == np.round(weight)).all())


def _own_scale(problem: Problem, dof, coef, intercept) -> np.ndarray:
    """Ask an observation model of the user's own, with every row as often as its weight says."""
    rows = problem.rows
    X = rows.design.matrix[:]
    eta = np.tensordot(X, np.nan_to_num(coef), 1) + np.nan_to_num(intercept)
    if rows.offset is not None:
        eta = eta + rows.offset.reshape(len(eta), *rows.offset.shape[1 if eta.ndim > 1 else 2 :])
    rate = np.asarray(problem.inverse_link(jnp.asarray(eta)))
    estimate = problem.observation_model.estimate_scale
    weight = np.broadcast_to(rows.weight, rows.y.shape)
    if (weight == 1).all():
        y = rows.y if problem.outputs else rows.y[:, 0]
        return np.asarray(estimate(jnp.asarray(y), jnp.asarray(rate), jnp.asarray(dof)))
    rate, dof, scales = rate.reshape(rows.y.shape), np.reshape(dof, -1), []
    for k in range(problem.n_neurons):
        often = np.repeat(np.arange(len(rate)), np.round(weight[:, k]).astype(int))
        parts = rows.y[often, k], rate[often, k], dof[k]
        scales.append(np.reshape(estimate(*map(jnp.asarray, parts)), -1))
    return np.concatenate(scales)


def score(model, rows: Rows, rate, scale, score_type, aggregate, weighted: bool, population: bool):
    """Return the aggregated score of checked rows with the given means.

    Raises
    ------
    ValueError
        If weights come with an aggregation of the user's own, or the dispersion is unknown.
    """
    y = rows.y if population else rows.y[:, 0]
    weight = np.broadcast_to(rows.weight, rows.y.shape)
    weight = weight if population else weight[:, 0]
    plain = aggregate in (jnp.mean, np.mean)
    if weighted and not plain:
        raise ValueError("`sample_weight` works with the default `aggregate_sample_scores` only.")
    if plain:
        known = np.isfinite(rate.reshape(*y.shape, -1)).all(axis=-1) | (weight == 0)
        if not known.all():
            warnings.warn(
                "Neurons without finite predictions are left out of the score: "
                f"{listed(np.flatnonzero(~known.reshape(len(y), -1).all(axis=0)))}.",
                RuntimeWarning,
                stacklevel=5,
            )
        n = filled_length(len(y), rate.nbytes)
        cells = jnp.asarray(fill(np.where(known, weight, 0.0), n, 0))
        y, rate, weight = fill(y, n), fill(rate, n), fill(weight, n, 0)
        mean = lambda s: jnp.sum(jnp.where(cells > 0, cells * s, 0.0)) / jnp.sum(cells)  # noqa: E731
    else:
        rows_used = (weight > 0).reshape(len(y), -1).all(axis=1)
        y, rate, weight = y[rows_used], rate[rows_used], weight[rows_used]
        mean = aggregate
    return score_with(model, jnp.asarray(y), jnp.asarray(rate), weight, scale, score_type, mean)


def dispersion(model, fitted):
    """Return the dispersion to score and simulate with: the fitted one of families that have one.

    Raises
    ------
    ValueError
        If that is not known.
    """
    free = getattr(model, "has_scale", False) or getattr(model, "estimates_scale", False)
    own = not observation_models.is_native(model)
    if not free and (fitted is None or not own):
        return getattr(model, "scale", 1.0)
    if fitted is None:
        raise ValueError(
            "The dispersion is unknown: call `fit`, or set `scale_` beside `coef_` and `intercept_`."
        )
    return jnp.asarray(fitted)


def score_with(model, y, rate, weight, scale, score_type, mean):
    """Return a score of rows in the shape of their means, averaged by `mean`."""
    each = lambda scores: scores  # noqa: E731
    if score_type == "pseudo-r2-Cohen":
        # a dispersion that is a factor cancels, and is 1; one that was estimated within the loss does not
        how = (
            {"scale": dispersion(model, scale)} if getattr(model, "estimates_scale", False) else {}
        )
        total = mean(model.deviance(y, _null_rate(y, rate, weight), **how))
        return (total - mean(model.deviance(y, rate, **how))) / total
    scale = dispersion(model, scale)
    value = mean(model.log_likelihood(y, rate, scale=scale, aggregate_sample_scores=each))
    if score_type == "log-likelihood":
        return value
    null = _null_rate(y, rate, weight)
    return 1.0 - value / mean(
        model.log_likelihood(y, null, scale=scale, aggregate_sample_scores=each)
    )


def _null_rate(y, rate, weight):
    """Mean of each neuron's scored responses (log of class frequencies), in the shape of `rate`."""
    weight = jnp.asarray(weight)
    total = weight.sum(axis=0)
    if rate.ndim == y.ndim:
        return jnp.broadcast_to(jnp.sum(weight * y, axis=0) / total, rate.shape)
    hits = (y[..., None] == jnp.arange(rate.shape[-1])) * weight[..., None]
    share = hits.sum(axis=0) / total[..., None]
    return jnp.broadcast_to(jnp.log(jnp.maximum(share, jnp.finfo(rate.dtype).eps)), rate.shape)


def labels(structure, widths, names: Names, n_neurons: int | None, classes) -> dict[str, list]:
    """Return the labels of features, of neurons (unless None) and of classes (unless None)."""
    found = {"feature": _design.feature_labels(structure, widths, names.features)}
    if n_neurons is not None:
        found["neuron"] = names.of_neurons(n_neurons)
    if classes is not None:
        found["class"] = list(classes)
    return found


def neuron_labels(y) -> dict[str, Any]:
    """Return what a data frame or a pynapple frame says about its columns."""
    labels = {"columns": getattr(y, "columns", None), "metadata": getattr(y, "metadata", None)}
    return {name: value for name, value in labels.items() if value is not None}


def to_pynapple(like, values, labels: dict[str, Any] | None) -> Any:
    """Return values as a pynapple object on the time axis of `like`."""
    import pynapple as nap

    keywords = {"t": like.t, "d": values, "time_support": like.time_support}
    if values.ndim == 1:
        return nap.Tsd(**keywords)
    if values.ndim == 2:
        if labels and len(labels["columns"]) == values.shape[1]:
            keywords |= labels
        return nap.TsdFrame(**keywords)
    return nap.TsdTensor(**keywords)
