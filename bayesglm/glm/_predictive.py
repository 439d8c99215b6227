"""What follows from a posterior: predictions with their uncertainty, tables, leave-one-out scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, _process, posterior
from bayesglm.glm import _asymptotics, _results
from bayesglm.glm._joint import check_counts
from bayesglm.glm._problem import check_offset
from bayesglm.glm._sampling import Sampling, _check_key

_KINDS = ("mean", "response")


class Predictive(Sampling):
    """An estimator that predicts from posterior draws."""

    def _draws(self, what: str, thin=None) -> posterior.Posterior:
        if self._posterior is None:
            raise ValueError(f"`{what}` needs posterior draws: call `sample_posterior` first.")
        _process.check()
        scale = _results.dispersion(self.observation_model, self._scale)
        return posterior.Posterior.of(
            self._posterior, np.asarray(scale, float), self.observation_model,
            self.inverse_link_function, self._classifier, thin,
        )  # fmt: skip

    def _matrix(self, X, offset):
        """Return rows in float64 and their offset in a shape next to the predictor, checked against the fit."""
        design, coef, _ = self._fitted(X)
        n_neurons = coef.shape[1] if self._population else 1
        encoder = self._encoder if self._classifier else None
        offset = check_offset(offset, (design.n_samples, n_neurons), encoder, np.float64)
        if offset is not None and not self._population:
            offset = offset[:, 0]
        return np.asarray(design.matrix, np.float64), offset

    def predict_interval(self, X, prob=0.94, kind="mean", *, offset=None):
        """Return equal-tailed posterior intervals of the mean response, or of a new response.

        Parameters
        ----------
        X
            As in :meth:`predict`, of any length.
        prob : float
            Probability inside.
        kind : "mean" or "response"
        offset : array, optional

        Returns
        -------
        : tuple (low, high)
            Each (samples,) or (samples, neurons); for a classifier of class probabilities, (samples, ..., classes).

        Raises
        ------
        ValueError
            Before :meth:`sample_posterior`, or if an argument is out of range.
        """
        _check_prob(prob)
        if kind not in _KINDS:
            raise ValueError(f"`kind` must be one of {_KINDS}, but {kind!r} was given.")
        if self._classifier and kind == "response":
            raise ValueError("Labels have no interval; use `kind='mean'` for class probabilities.")
        draws = self._draws("predict_interval")
        with jax.enable_x64(True):
            ends = posterior.interval(draws, *self._matrix(X, offset), prob, kind)
        if self._classifier:
            ends = map(np.exp, ends)
        return tuple(self._like_input(X, jnp.asarray(end)) for end in ends)

    def _mean_and_sd(self, X, offset):
        if self._classifier:
            raise TypeError(
                "Labels have no standard deviation; use `predict_proba(X, average='posterior')`."
            )
        draws = self._draws("predict(X, return_std=True)")
        with jax.enable_x64(True):
            found = posterior.mean_and_sd(draws, *self._matrix(X, offset))
        return tuple(self._like_input(X, jnp.asarray(value)) for value in found)

    def _mean_probability(self, X, offset):
        draws = self._draws("predict_proba(X, average='posterior')")
        with jax.enable_x64(True):
            return posterior.mean_probability(draws, *self._matrix(X, offset))

    def posterior_predictive(self, random_key, X, *, num_draws=None, offset=None):
        """Draw responses at new rows, one for each posterior draw.

        Parameters
        ----------
        random_key : JAX random key
        X
            As in :meth:`predict`. The result grows with rows times draws: pass long data in pieces, or few draws.
        num_draws : int, optional
            Draws of each chain, evenly spaced; by default all.
        offset : array, optional

        Returns
        -------
        : array (chains, draws, samples) or (chains, draws, samples, neurons)
            Responses; for a classifier labels.
        """
        key, _ = _check_key(random_key)
        if self._posterior is None:
            self._draws("posterior_predictive")
        chains, available = self._posterior["posterior"]["intercept"].shape[:2]
        count = available if num_draws is None else num_draws
        if not isinstance(count, (int, np.integer)) or not 1 <= count <= available:
            raise ValueError(
                f"`num_draws` must be an integer from 1 to {available}, but {num_draws!r} was given."
            )
        thin = np.linspace(0, available - 1, count).astype(int)
        draws = self._draws("posterior_predictive", thin)
        with jax.enable_x64(True):
            found = posterior.draw_responses(draws, key, *self._matrix(X, offset))
        found = found.reshape(chains, count, *found.shape[1:])
        return self._encoder.decode(found) if self._classifier else jnp.asarray(found)

    def loo(self, X, y, *, by_neuron=False, offset=None, reff=None):
        """Return the leave-one-out predictive accuracy, estimated by Pareto smoothed importance sampling.

        The training rows are gone through in chunks, so that memory does not grow with rows times draws. Above a
        million cells a random subset of the rows stands for all. Rows of time series are left out one bin at a time:
        with history features, or slow covariates, that flatters; blocked cross-validation is the honest forecast score.

        Parameters
        ----------
        X, y
            The training data; missing rows are left out.
        by_neuron : bool
            One result per neuron.
        offset : array, optional
        reff : float, optional
            Effective draws per draw, which say how many of the largest weights are smoothed. By default the mean over
            the parameters of each neuron: for a single neuron ArviZ's default, for a population not that of all.

        Returns
        -------
        : arviz_stats.ELPDData, or a dict of these
            Usable with ArviZ's ``compare``; `elpd_i` and `pareto_k` are (samples,) or (samples, neurons).

        Raises
        ------
        ValueError
            Before :meth:`sample_posterior`, if a count is not an integer, or `reff` is not a positive number.
        """
        draws = self._draws("loo")
        _check_reff(reff)
        with jax.enable_x64(True):
            used, found, n_all = self._pointwise(draws, X, y, offset, reff)
        count = len(draws.intercept)
        if not by_neuron:
            return posterior.elpd_data(found, used, count, n_all)
        if not self._population:
            raise ValueError("`by_neuron` is for populations.")
        share = n_all / used.sum()
        column = lambda k: type(found)(*(a if a is None else a[:, k] for a in found))  # noqa: E731
        return {
            k: posterior.elpd_data(column(k), used[:, k], count, round(share * used[:, k].sum()))
            for k in range(used.shape[1])
        }

    def loo_pit(self, X, y, *, random_key=None, offset=None):
        """Return the leave-one-out probability integral transform of each response, uniform under a true model.

        It averages the distribution function of the family over the draws, and is randomised for counts.

        Parameters
        ----------
        X, y
            The training data.
        random_key : JAX random key, optional
        offset : array, optional

        Returns
        -------
        : array (samples,) or (samples, neurons)
            NaN where a response is missing.
        """
        if self._classifier:
            raise TypeError("Labels have no order, and so no probability integral transform.")
        key, _ = _check_key(random_key)
        draws = self._draws("loo_pit")
        with jax.enable_x64(True):
            used, found, _ = self._pointwise(draws, X, y, offset, None, key, whole=True)
        return np.where(used, found.pit, np.nan)

    def _pointwise(self, draws, X, y, offset, reff, key=None, whole=False):
        """Return which responses count, what is known of each, and how many they stand for.

        Of long data some rows stand for all, unless `whole`.
        """
        rows = self._rows(X, y, self._encoder, None, offset)
        check_counts(self.observation_model, rows.y, rows.weight)
        if rows.y.shape[1] != (draws.outputs[0] if self._population else 1):
            raise ValueError(
                f"Inconsistent number of neurons: `y` has {rows.y.shape[1]}, the model {draws.outputs[0]}."
            )
        matrix, shift = self._matrix(X, offset)
        matrix = np.where(np.isfinite(matrix), matrix, 0.0)
        used = np.broadcast_to(rows.weight > 0, rows.y.shape)
        n_all, shape = int(used.sum()), (lambda a: a) if self._population else (lambda a: a[:, 0])
        y = rows.y
        if n_all > posterior.MAX_CELLS and not whole:
            count = posterior.MAX_CELLS // y.shape[1]
            some = np.sort(np.random.default_rng(0).choice(len(y), count, replace=False))
            matrix, y, used = matrix[some], y[some], used[some]
            shift = None if shift is None else shift[some]
        uniform = None if key is None else shape(np.asarray(jax.random.uniform(key, y.shape)))
        if reff is None:
            reff = posterior.relative_efficiency(self._posterior["posterior"].dataset)
        found = posterior.pointwise(draws, matrix, shape(y), shift, shape(used), reff, uniform)
        return shape(used), found, n_all

    def summary(self, X=None, y=None, *, prob=0.94, robust=False, sample_weight=None, offset=None):
        """Return a table of all parameters.

        Parameters
        ----------
        X, y : optional
            The training data, needed where nothing was sampled.
        prob : float
            Probability of the intervals.
        robust : bool
            Sandwich standard errors, which hold when the family is wrong; without draws only.
        sample_weight, offset
            As in :meth:`fit`.

        Returns
        -------
        : pandas.DataFrame
            After :meth:`sample_posterior`: mean, sd, equal-tailed interval, effective sample sizes and R-hat. After
            `fit` alone: estimate, standard error from the observed information, and interval; for UnRegularized models
            also z and p-values. What the interval is stands in ``attrs["interval"]``.

        Raises
        ------
        ValueError
            If X and y are missing where they are needed, or `prob` is not between 0 and 1.
        """
        _check_prob(prob)
        self._require_fit()
        if X is None and y is None:
            if self._posterior is None:
                raise ValueError(
                    "`summary` needs the training data where nothing was sampled: `summary(X, y)`."
                )
            if robust:
                raise ValueError("`robust` is for standard errors of a fit: pass X and y.")
            return self._table(prob)
        with jax.enable_x64(True):
            _, problem = self._checked(X, y, sample_weight, offset)
            self._fitted(X)
            found = _asymptotics.standard_errors(self, problem, robust)
        structure, widths, coef = self._coef
        names = {"feature": _design.feature_labels(structure, widths)}
        if self._population:
            names["neuron"] = np.arange(problem.n_neurons)
        if self._classifier:
            names["class"] = list(self._encoder.classes_)
        tests = all(term is None for term in problem.penalty)
        table = posterior.asymptotic(coef, self._intercept, *found, names, prob, tests)
        table.attrs["interval"] = _asymptotics.meaning(problem.penalty, robust, prob)
        return table

    def _table(self, prob, convergence=None):
        table = posterior.of_draws(self._posterior, prob, convergence)
        table.attrs["interval"] = f"equal-tailed posterior interval of probability {prob}"
        return table


def _check_prob(prob) -> None:
    if isinstance(prob, bool) or not np.isscalar(prob) or not 0.0 < prob < 1.0:
        raise ValueError(f"`prob` must lie between 0 and 1, but {prob!r} was given.")


def _check_reff(reff) -> None:
    number = isinstance(reff, (int, float, np.number)) and not isinstance(reff, bool)
    if reff is not None and not (number and 0.0 < reff < np.inf):
        raise ValueError(f"`reff` must be a positive number or None, but {reff!r} was given.")
