"""What a fit expects of rows: means, scores, simulated responses."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, _families, observation_models, posterior
from bayesglm._input import is_one_of
from bayesglm._layout import shown
from bayesglm._messages import Message
from bayesglm.glm._edge import new_rows
from bayesglm.glm._rows import Rows
from bayesglm.glm._values import Fit, Posterior, dispersion, needed
from bayesglm.rows import fill, filled_length, of_each, predictor

_MISSING = Message(
    RuntimeWarning,
    "Rows of `X` with a NaN (or neurons that were not fitted) have no most probable label; "
    "the first class is returned for them.",
)


def mean(fit: Fit, matrix, offset=None) -> np.ndarray:
    """Return the mean of the response (log-probabilities of classes) of each row, in the user's shape.

    Parameters
    ----------
    offset : array or None
        In a shape that broadcasts to the predictor.
    """
    eta, link = predictor(matrix, *fit.params(), offset), fit.settings.inverse_link_function
    found = of_each(link, eta, classes=fit.layout.classifier)
    if found is not None:
        return found
    # The inverse link sees a few lengths.
    some = fill(eta, filled_length(len(eta), eta.nbytes))
    return np.asarray(link(jax.device_put(some)))[: len(eta)]


def normalised(log_proba) -> np.ndarray:
    """Return the probabilities of classes, summing to one."""
    proba = np.exp(log_proba)
    return proba / proba.sum(axis=-1, keepdims=True)


def labels(fit: Fit, log_proba):
    """Return the most probable label of each row, and what to tell the user."""
    told = (_MISSING,) if np.isnan(log_proba).any() else ()
    return fit.layout.decode(log_proba.argmax(axis=-1)), told


def with_std(return_std) -> bool:
    """Return an argument that must be True or False, or raise a TypeError for an offset in its place."""
    if not isinstance(return_std, (bool, np.bool_)):
        raise TypeError(
            f"`return_std` must be True or False, but {type(return_std).__name__} was given. Other arguments of "
            "`predict` are given by name, as in `predict(X, offset=...)`."
        )
    return bool(return_std)


def mean_and_sd(found: Posterior | None, fit: Fit, X, offset):
    """Return posterior mean and standard deviation of new responses."""
    if fit.layout.classifier:
        raise TypeError(
            "Labels have no standard deviation; use `predict_proba(X, average='posterior')`."
        )
    found = needed(found, "predict(X, return_std=True)")
    with jax.enable_x64(True):
        moments = posterior.mean_and_sd(found.draws(), *new_rows(found.fit, X, offset, np.float64))
    return tuple(fit.layout.like(X, shown(value)) for value in moments)


def trials_of(fit: Fit, n_trials, n_samples: int) -> np.ndarray | None:
    """Return numbers of trials (samples, *neurons) of new responses, or None where each is one.

    Raises
    ------
    ValueError
        If they are no whole numbers from one on, do not fit the rows, or the family has none.
    """
    if n_trials is None:
        return None
    model = fit.settings.observation_model
    if not _families.has_trials(model):
        raise ValueError(
            f"`n_trials` is for families of successes out of trials; {type(model).__name__} has no trials."
        )
    trials, shape = _design.to_numeric(n_trials, "n_trials"), (n_samples, *fit.layout.neurons)
    if trials.shape not in ((), shape[:1], shape):
        raise ValueError(
            f"`n_trials` has shape {trials.shape}; expected one number, {shape[:1]} or {shape}."
        )
    if not ((trials >= 1) & (trials == np.round(trials))).all():
        raise ValueError("`n_trials` must be whole numbers of at least 1.")
    trials = trials.reshape(trials.shape + (1,) * (len(shape) - trials.ndim) * (trials.ndim > 0))
    return np.broadcast_to(trials, shape)


def simulate(fit: Fit, key, rate, n_trials=None):
    """Return responses drawn at means, what is shown as means, and what to tell the user."""
    model, classifier = fit.settings.observation_model, fit.layout.classifier
    trials, rate = trials_of(fit, n_trials, len(rate)), jnp.asarray(rate)
    scale = jnp.asarray(fit.dispersion if trials is None else 1.0 / trials)
    drawn = model.sample_generator(key, rate, scale=scale)
    if classifier:
        told = (_MISSING,) if np.isnan(rate).any() else ()
        rate = jnp.sum(jnp.where(drawn > 0, rate, 0.0), axis=-1)
        return np.asarray(jnp.argmax(drawn, axis=-1)), np.asarray(rate), told
    drawn, rate = np.asarray(drawn), np.asarray(rate)
    return np.where(np.isnan(rate), np.nan, drawn) if np.isnan(rate).any() else drawn, rate, ()


def score(fit: Fit, rows: Rows, rate, score_type: str, aggregate, weighted: bool):
    """Return the aggregated score of rows with the given means, and what to tell the user.

    Raises
    ------
    ValueError
        If weights come with an aggregation of the user's own, or the dispersion is unknown.
    """
    y = fit.layout.squeeze(rows.y)
    weight = fit.layout.squeeze(np.broadcast_to(rows.weight, rows.y.shape))
    trials = None if rows.trials is None else fit.layout.squeeze(rows.trials)
    plain, told = aggregate in (jnp.mean, np.mean), ()
    if weighted and not plain:
        raise ValueError("`sample_weight` works with the default `aggregate_sample_scores` only.")
    if plain:
        known = np.isfinite(rate.reshape(*y.shape, -1)).all(axis=-1) | (weight == 0)
        if not known.all():
            bad = fit.layout.listed(~known.reshape(len(y), -1).all(axis=0))
            text = f"Neurons without finite predictions are left out of the score: {bad}."
            told = (Message(RuntimeWarning, text),)
        n = filled_length(len(y), rate.nbytes)
        cells = fill(np.where(known, weight, 0.0), n, 0)
        y, rate, weight = fill(y, n), fill(rate, n), fill(weight, n, 0)
        trials = None if trials is None else fill(trials, n)
        average = lambda s: np.sum(np.where(cells > 0, cells * s, 0.0)) / np.sum(cells)  # noqa: E731
    else:
        used = (weight > 0).reshape(len(y), -1).all(axis=1)
        y, rate, weight = y[used], rate[used], weight[used]
        trials = None if trials is None else trials[used]
        average = lambda s: aggregate(jnp.asarray(s))  # noqa: E731
    given = fit.settings.observation_model, y, rate, weight
    return score_with(*given, fit.scale, score_type, average, trials), told


def check_score_type(score_type) -> None:
    """Raise a NotImplementedError for an unknown kind of score."""
    if not is_one_of(score_type, observation_models.SCORE_TYPES):
        raise NotImplementedError(
            f"`score_type` must be one of {observation_models.SCORE_TYPES}, but {score_type!r} was given."
        )


@np.errstate(all="ignore")
def score_with(model, y, rate, weight, scale, score_type, mean, trials=None):
    """Return a score of rows in the shape of their means, averaged by `mean`, which is given NumPy arrays."""
    null = _null_rate(y, rate, weight, trials)
    if trials is not None:
        scale = 1.0 / trials
    elif score_type == "pseudo-r2-Cohen" and not _families.estimates_scale(model):
        scale = None  # a dispersion that is a factor cancels, and is 1
    else:
        scale = dispersion(model, scale)
    if score_type == "pseudo-r2-Cohen":
        total = mean(_each(model, "deviance", y, null, scale))
        return (total - mean(_each(model, "deviance", y, rate, scale))) / total
    value = mean(_each(model, "log_likelihood", y, rate, scale))
    if score_type == "log-likelihood":
        return value
    return 1.0 - value / mean(_each(model, "log_likelihood", y, null, scale))


class _OfResponse(NamedTuple):
    """A method of a family that says one number of each response."""

    family: Any  # an observation model, or the class of one that has no state
    method: str

    def __call__(self, rate, y, scale=None):
        model = self.family() if isinstance(self.family, type) else self.family
        if self.method == "deviance":
            return model.deviance(y, rate, scale=scale)
        each = lambda scores: scores  # noqa: E731
        return model.log_likelihood(y, rate, scale=scale, aggregate_sample_scores=each)


def _each(model, method: str, y, rate, scale) -> np.ndarray:
    """Return what a method of a model says of each response; of ours about few of them, compiling nothing."""
    if observation_models.is_native(model):
        function = _OfResponse(type(model), method)
        held = getattr(model, "scale", 1.0) if scale is None else scale
        classes = _families.is_labels(model)
        found = of_each(function, rate, y, np.asarray(held, rate.dtype), classes=classes)
        if found is not None:
            return found
    how = {} if scale is None else {"scale": scale}
    each = _OfResponse(model, method)
    return np.asarray(each(jnp.asarray(rate), jnp.asarray(y), **how))


def _null_rate(y, rate, weight, trials=None):
    """Mean of each neuron's scored responses (log of class frequencies), in the shape of `rate`."""
    total = weight.sum(axis=0) if trials is None else (weight * trials).sum(axis=0)
    if rate.ndim == y.ndim:
        return np.broadcast_to(np.sum(weight * y, axis=0) / total, rate.shape).astype(rate.dtype)
    hits = (y[..., None] == np.arange(rate.shape[-1])) * weight[..., None]
    share = hits.sum(axis=0, dtype=rate.dtype) / total[..., None]
    return np.broadcast_to(np.log(np.maximum(share, np.finfo(rate.dtype).eps)), rate.shape)
