"""What follows from a posterior: predictions with their uncertainty, tables, leave-one-out scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _process, posterior
from bayesglm.glm import _asymptotics, _results, _robust
from bayesglm.glm._configuration import of_fit
from bayesglm.glm._joint import check_counts
from bayesglm.glm._problem import check_offset
from bayesglm.glm._sampling import Sampling, check_key

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

    @of_fit
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

    @of_fit
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
        key, _ = check_key(random_key)
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

    @of_fit
    def loo(self, X, y, *, by_neuron=False, sample_weight=None, offset=None, reff=None):
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
        sample_weight : array, optional
            That of :meth:`sample_posterior`. One of the copies that a weight stands for is left out, and each of them
            counts: the score of a row is its weight times that of one copy, also where the weight is below one.
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
            Before :meth:`sample_posterior`, if a count is not an integer, or `reff` is not a positive number; if the
            weights do not add up to those that were sampled.
        """
        draws = self._draws("loo")
        _check_reff(reff)
        if by_neuron and not self._population:
            raise ValueError("`by_neuron` is for populations.")
        with jax.enable_x64(True):
            _, found, n_all = self._pointwise(
                draws, X, y, offset, reff, sample_weight=sample_weight
            )
        count = len(draws.intercept)
        if not by_neuron:
            return posterior.elpd_data(found, count, n_all.sum())
        column = lambda k: type(found)(*(a if a is None else a[:, k] for a in found))  # noqa: E731
        labels = self._labels()["neuron"]
        return {
            label: posterior.elpd_data(column(k), count, n)
            for k, (label, n) in enumerate(zip(labels, n_all, strict=True))
        }

    @of_fit
    def loo_pit(self, X, y, *, random_key=None, sample_weight=None, offset=None):
        """Return the leave-one-out probability integral transform of each response, uniform under a true model.

        It averages the distribution function of the family over the draws, and is randomised for counts.

        Parameters
        ----------
        X, y
            The training data.
        random_key : JAX random key, optional
        sample_weight, offset
            As in :meth:`loo`.

        Returns
        -------
        : array (samples,) or (samples, neurons)
            That of one copy of each row; NaN where a response is missing or has no weight.
        """
        if self._classifier:
            raise TypeError("Labels have no order, and so no probability integral transform.")
        key, _ = check_key(random_key)
        draws = self._draws("loo_pit")
        with jax.enable_x64(True):
            used, found, _ = self._pointwise(
                draws, X, y, offset, None, key, whole=True, sample_weight=sample_weight
            )
        return np.where(used, found.pit, np.nan)

    def _pointwise(
        self, draws, X, y, offset, reff, key=None, whole=False, sample_weight=None
    ):  # fmt: skip
        """Return which responses count, what is known of each, and the sum of all weights of each neuron.

        Of long data some rows stand for all, unless `whole`.
        """
        self._check_neuron_names(y)
        rows = self._rows(X, y, self._encoder, sample_weight, offset)
        check_counts(self.observation_model, rows.y, rows.weight)
        if rows.y.shape[1] != (draws.outputs[0] if self._population else 1):
            raise ValueError(
                f"Inconsistent number of neurons: `y` has {rows.y.shape[1]}, the model {draws.outputs[0]}."
            )
        self._check_trained(rows)
        matrix, shift = self._matrix(X, offset)
        matrix = np.where(np.isfinite(matrix), matrix, 0.0)
        shape = (lambda a: a) if self._population else (lambda a: a[:, 0])
        y, weight = rows.y, np.broadcast_to(np.asarray(rows.weight, float), rows.y.shape)
        if (weight > 0).sum() > posterior.MAX_CELLS and not whole:
            count = posterior.MAX_CELLS // y.shape[1]
            some = np.sort(np.random.default_rng(0).choice(len(y), count, replace=False))
            matrix, y, weight = matrix[some], y[some], weight[some]
            shift = None if shift is None else shift[some]
        uniform = None if key is None else shape(np.asarray(jax.random.uniform(key, y.shape)))
        if reff is None:
            reff = posterior.relative_efficiency(self._posterior["posterior"].dataset)
            reff = np.minimum(
                reff, posterior.importance_ess(self._posterior) / len(draws.intercept)
            )
        found = posterior.pointwise(draws, matrix, shape(y), shift, shape(weight), reff, uniform)
        return shape(weight > 0), found, rows.n

    def _check_trained(self, rows) -> None:
        """Raise a ValueError if the weights of rows do not add up to those that were sampled or fitted."""
        what, trained = "fitted", self._n_train
        if self._posterior is not None:
            what, trained = "sampled", self._posterior["posterior"].attrs.get("n_train")
        if trained is None:
            return
        trained = np.broadcast_to(np.atleast_1d(np.asarray(trained, float)), rows.n.shape)
        other = np.flatnonzero(~np.isclose(rows.n, trained, rtol=1e-6, atol=0.0))
        if len(other):
            name = f" of neuron {other[0]}" if self._population else ""
            raise ValueError(
                f"These are not the rows that were {what}: the weights{name} add up to {rows.n[other[0]]:g} (a row "
                f"without `sample_weight` has weight 1), but {trained[other[0]]:g} were {what}. Pass the training data "
                "with the same `sample_weight`."
            )

    @of_fit
    def summary(
        self, X=None, y=None, *, prob=0.94, robust=False, groups=None, trials=None, maxlags=None,
        sample_weight=None, offset=None,
    ):  # fmt: skip
        """Return a table of all parameters.

        Parameters
        ----------
        X, y : optional
            The training data, needed where nothing was sampled.
        prob : float
            Probability of the intervals.
        robust : bool or str
            Sandwich standard errors, from X and y, which hold when the family is wrong, and for a penalised model are
            those of the penalised estimate. ``True`` is ``"HC3"``: rows are independent, their variance is free.
            ``"HC0"`` to ``"HC3"`` name a correction for small samples. ``"cluster"`` is ``"CR3"``: rows of one of the
            `groups` may depend on each other; ``"CR1"`` is the common correction. ``"HAC"``: rows may depend on those
            before them.
        groups : array (samples,), optional
            Label of the group of each row.
        trials : array (samples,), optional
            For HAC, a label of the stretch of consecutive rows to which each row belongs; by default the epochs of a
            pynapple X, otherwise all rows are one.
        maxlags : int, optional
            For HAC, the rows over which dependence reaches; by default each parameter's own, by Andrews' rule after
            prewhitening.
        sample_weight, offset
            As in :meth:`fit`.

        Returns
        -------
        : pandas.DataFrame
            After :meth:`sample_posterior`: mean, sd, equal-tailed interval, effective sample sizes and R-hat. After
            `fit` alone: estimate, standard error from the observed information, and interval; for UnRegularized models
            also z (t, with degrees of freedom, where a dispersion is estimated or groups or moments are counted) and
            p-values. What the interval is stands in ``attrs["interval"]``, the dispersion and where it comes from in
            ``attrs["dispersion"]``.

        Raises
        ------
        ValueError
            If X and y are missing where they are needed, an argument is out of range or goes with another kind of
            errors, or the rows do not add up to those that were fitted.

        Warns
        -----
        RuntimeWarning
            Naming neurons without errors of the kind asked for.
        """
        _check_prob(prob)
        self._require_fit()
        if X is None and y is None:
            if self._posterior is None:
                raise ValueError(
                    "`summary` needs the training data where nothing was sampled: `summary(X, y)`."
                )
            if robust or any(each is not None for each in (groups, trials, maxlags)):
                raise ValueError("`robust` is for standard errors of a fit: pass X and y.")
            return self._table(prob)
        with jax.enable_x64(True):
            self._check_neuron_names(y)
            rows, problem = self._checked(X, y, sample_weight, offset)
            self._fitted(X)
            self._check_trained(rows)
            trials = _epochs(X) if trials is None and robust == "HAC" else trials
            sandwich = _robust.asked(robust, groups, trials, maxlags, rows.weight)
            found = _asymptotics.standard_errors(self, problem, sandwich)
        labels, coef = self._labels(), self._coef[2]
        tests = problem.prior.flat
        table = posterior.asymptotic((coef, self._intercept), *found, labels, prob, tests)
        dof = np.concatenate([np.ravel(part) for part in found.dof])
        table.attrs["interval"] = _asymptotics.meaning(problem.prior, sandwich, dof, prob)
        table.attrs["dispersion"] = self._dispersion()
        return table

    def _dispersion(self) -> dict:
        """Return the dispersion of the responses, and where it comes from, in plain numbers and words."""
        model = self.observation_model
        if self._posterior is not None and "scale" in self._posterior["posterior"]:
            value = self._posterior["posterior"]["scale"].mean(("chain", "draw")).values
            return {"value": np.asarray(value).tolist(), "how": "sampled"}
        try:
            value = np.ravel(np.asarray(_results.dispersion(model, self._scale), float))
        except ValueError:  # of a fit set by hand
            return {"value": None, "how": "unknown"}
        return {
            "value": value.tolist() if len(value) > 1 else float(value[0]),
            "how": getattr(model, "scale_origin", "estimated by fit"),
        }

    def _table(self, prob, convergence=None):
        table = posterior.of_draws(self._posterior, prob, convergence)
        table.attrs["interval"] = f"equal-tailed posterior interval of probability {prob}"
        table.attrs["dispersion"] = self._dispersion()
        return table


def _epochs(X):
    """Return the index of the epoch of each row of pynapple features, None for anything else."""
    indexed = X if hasattr(X, "time_support") else jax.tree.leaves(X)[0]
    if not hasattr(indexed, "time_support"):
        return None
    starts = np.asarray(indexed.time_support.start)
    return np.searchsorted(starts, np.asarray(indexed.t), side="right") - 1


def _check_prob(prob) -> None:
    if isinstance(prob, bool) or not np.isscalar(prob) or not 0.0 < prob < 1.0:
        raise ValueError(f"`prob` must lie between 0 and 1, but {prob!r} was given.")


def _check_reff(reff) -> None:
    number = isinstance(reff, (int, float, np.number)) and not isinstance(reff, bool)
    if reff is not None and not (number and 0.0 < reff < np.inf):
        raise ValueError(f"`reff` must be a positive number or None, but {reff!r} was given.")
