"""Leave-one-out predictions of the rows that were sampled."""

from __future__ import annotations

import jax
import numpy as np

from bayesglm import posterior
from bayesglm.glm._joint import check_counts
from bayesglm.glm._rows import Rows
from bayesglm.glm._values import Fit, Posterior


def pointwise(found: Posterior, rows: Rows, reff=None, key=None, whole: bool = False):
    """Return which responses count, what is known of each, and the sum of all weights of each neuron.

    Parameters
    ----------
    rows
        The training rows, in float64.
    reff : float, optional
        Effective draws per draw.
    key : JAX random key, optional
        With one, probability integral transforms are computed.
    whole : bool
        Whether all rows are gone through; otherwise some stand for all of long data.
    """
    layout, draws = found.fit.layout, found.draws()
    check_counts(found.fit.settings.observation_model, rows.y, rows.weight)
    check_trained(rows, found.fit, found)
    matrix, shift, y = rows.design.matrix, layout.beside(rows.offset), rows.y
    trials = rows.trials
    weight = np.broadcast_to(np.asarray(rows.weight, float), y.shape)
    if (weight > 0).sum() > posterior.MAX_CELLS and not whole:
        count = posterior.MAX_CELLS // y.shape[1]
        some = np.sort(np.random.default_rng(0).choice(len(y), count, replace=False))
        matrix, y, weight = matrix[some], y[some], weight[some]
        shift, trials = (None if a is None else a[some] for a in (shift, trials))
    uniform = None if key is None else layout.squeeze(np.asarray(jax.random.uniform(key, y.shape)))
    if reff is None:
        reff = posterior.relative_efficiency(found.variables)
        reff = np.minimum(reff, posterior.importance_ess(found.tree) / len(draws.intercept))
    y, weight, trials = (None if a is None else layout.squeeze(a) for a in (y, weight, trials))
    cells = posterior.pointwise(draws, matrix, y, shift, weight, reff, uniform, trials)
    return weight > 0, cells, rows.n


def loo(found: Posterior, rows: Rows, by_neuron: bool, reff):
    """Return ArviZ's summary of leave-one-out densities, or a dict of these by neuron."""
    _, cells, n_all = pointwise(found, rows, reff)
    count = len(found.draws().intercept)
    if not by_neuron:
        return posterior.elpd_data(cells, count, n_all.sum())
    column = lambda k: type(cells)(*(a if a is None else a[:, k] for a in cells))  # noqa: E731
    return {
        label: posterior.elpd_data(column(k), count, n)
        for k, (label, n) in enumerate(zip(found.fit.layout.neuron_labels, n_all, strict=True))
    }


def check_reff(reff) -> None:
    """Raise a ValueError for what is no number of effective draws per draw."""
    number = isinstance(reff, (int, float, np.number)) and not isinstance(reff, bool)
    if reff is not None and not (number and 0.0 < reff < np.inf):
        raise ValueError(f"`reff` must be a positive number or None, but {reff!r} was given.")


def check_trained(rows: Rows, fit: Fit, found: Posterior | None) -> None:
    """Raise a ValueError if the weights of rows do not add up to those that were sampled or fitted."""
    what, trained = "fitted", fit.n_train
    if found is not None:
        what, trained = "sampled", found.attrs.get("n_train")
    if trained is None:
        return
    trained = np.broadcast_to(np.atleast_1d(np.asarray(trained, float)), rows.n.shape)
    other = np.flatnonzero(~np.isclose(rows.n, trained, rtol=1e-6, atol=0.0))
    if len(other):
        name = f" of neuron {other[0]}" if fit.layout.population else ""
        raise ValueError(
            f"These are not the rows that were {what}: the weights{name} add up to {rows.n[other[0]]:g} (a row "
            f"without `sample_weight` has weight 1), but {trained[other[0]]:g} were {what}. Pass the training data "
            "with the same `sample_weight`."
        )
