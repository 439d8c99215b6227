"""The engine behind the four estimators."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import observation_models
from bayesglm._input import is_one_of
from bayesglm.glm import _results, _traced
from bayesglm.glm._configuration import of_fit
from bayesglm.glm._joint import numpyro_model
from bayesglm.glm._parameters import shown
from bayesglm.glm._reporting import Reporting
from bayesglm.glm._sampling import check_key
from bayesglm.glm._save import save


class Estimator(Reporting):
    """Predict, score and simulate from a fit, and hand out the model itself."""

    @of_fit
    def predict(self, X, return_std=False, *, offset=None):
        """Return the mean response (for a classifier: the most probable labels) of each row.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
        return_std : bool
            Return posterior mean and standard deviation of a new response instead, its own noise included; after
            :meth:`sample_posterior`, and not for classifiers.
        offset : array, optional
            As in :meth:`fit`.

        Returns
        -------
        : array (samples,) or (samples, neurons), or a tuple of two
            Rows with a NaN give NaN. JAX can differentiate the mean response in X.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X does not have the structure and features of the fit.
        """
        self._require_fit()
        self._require_classes("predict")
        if not isinstance(return_std, (bool, np.bool_)):
            raise TypeError(
                f"`return_std` must be True or False, but {type(return_std).__name__} was given. Other arguments of "
                "`predict` are given by name, as in `predict(X, offset=...)`."
            )
        if return_std:
            return self._mean_and_sd(X, offset)
        if _traced.is_traced(X) and not self._classifier and offset is None:
            return _traced.mean(self, X)
        with jax.enable_x64(True):
            rate = self._rate(*self._fitted(X), offset)
        if self._classifier:
            _warn_of_missing(rate)
            return self._like_input(X, self._encoder.decode(rate.argmax(axis=-1)))
        return self._like_input(X, jax.device_put(rate))  # `jnp.asarray` compiles for each shape

    @of_fit
    def score(
        self,
        X,
        y,
        score_type="log-likelihood",
        aggregate_sample_scores=jnp.mean,
        *,
        sample_weight=None,
        offset=None,
    ):
        r"""Return how well the model predicts these responses; higher is better.

        Parameters
        ----------
        X, y
            Rows; those with a NaN are left out.
        score_type
            ``"log-likelihood"``, with its constants, ``"pseudo-r2-McFadden"`` or ``"pseudo-r2-Cohen"``.
        aggregate_sample_scores
            Applied to the scores of all responses, (samples,) or (samples, neurons).
        sample_weight : array (samples,), optional
            Weights of the mean; only with the default aggregation.
        offset : array, optional
            As in :meth:`fit`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        NotImplementedError
            For another `score_type`.
        """
        self._require_fit()
        self._require_classes("score")
        if not is_one_of(score_type, observation_models.SCORE_TYPES):
            raise NotImplementedError(
                f"`score_type` must be one of {observation_models.SCORE_TYPES}, but {score_type!r} was given."
            )
        with jax.enable_x64(True):
            fitted = self._fitted(X)
            self._check_neuron_names(y)
            rows = self._rows(X, y, self._encoder, sample_weight, offset)
            self._check_neurons(rows)
            rate = self._rate(rows.design, *fitted[1:], offset)
            value = _results.score(
                self.observation_model, rows, rate, self._scale, score_type, aggregate_sample_scores,
                sample_weight is not None, self._population,
            )  # fmt: skip
            value = np.asarray(value)
        return shown(value)

    @of_fit
    def simulate(self, random_key, feedforward_input, *, offset=None):
        """Draw responses of the fitted model.

        Parameters
        ----------
        random_key : JAX random key or int
        feedforward_input : array (samples, features), or a pytree of these
        offset : array, optional
            As in :meth:`fit`.

        Returns
        -------
        : tuple
            Responses and their means; for a classifier labels and their log-probabilities. Each (samples,) or
            (samples, neurons).
        """
        self._require_fit()
        self._require_classes("simulate")
        random_key, _ = check_key(random_key)
        with jax.enable_x64(True):
            rate = jnp.asarray(self._rate(*self._fitted(feedforward_input), offset))
            scale = _results.dispersion(self.observation_model, self._scale)
            drawn = self.observation_model.sample_generator(random_key, rate, scale=scale)
            if self._classifier:
                _warn_of_missing(rate)
                rate = jnp.sum(jnp.where(drawn > 0, rate, 0.0), axis=-1)
                drawn = jnp.argmax(drawn, axis=-1)
            drawn, rate = np.asarray(drawn), np.asarray(rate)
            if not self._classifier and np.isnan(rate).any():
                drawn = np.where(np.isnan(rate), np.nan, drawn)
        drawn = self._encoder.decode(drawn) if self._classifier else jnp.asarray(drawn)
        return self._like_input(feedforward_input, drawn), self._like_input(
            feedforward_input, jnp.asarray(rate)
        )

    def numpyro_model(self, X, y, *, scale="sample", scale_prior=None, intercept_prior=None,
                      sample_weight=None, offset=None, prior=None):  # fmt: skip
        """Return the joint density as a NumPyro model of no arguments, ready for any NumPyro inference.

        Parameters
        ----------
        X, y
            Training rows.
        scale : "sample", "plugin" or array
            Whether the dispersion is a site with a weak prior (the negative binomial's too, which
            `fit` holds fixed), the value that `fit` used, or the one given. Families without a
            dispersion ignore it.
        scale_prior, intercept_prior : NumPyro distributions, optional
            In place of the weak prior of the dispersion and of the flat one of the intercepts.
        sample_weight, offset
            As in :meth:`fit`.
        prior : None or "auto"
            As in :meth:`sample_posterior`.

        Returns
        -------
        : callable
            Sites ``coef`` (features, *outputs), ``intercept`` (outputs), ``scale`` (neurons) where sampled, and ``y``.

        Raises
        ------
        ValueError
            If a count is not an integer, or ``scale="plugin"`` comes before `fit`.
        """
        return numpyro_model(
            self,
            X,
            y,
            scale,
            scale_prior,
            intercept_prior,
            sample_weight=sample_weight,
            offset=offset,
            prior=prior,
        )

    @of_fit
    def save_params(self, filename) -> None:
        """Save constructor arguments and fitted parameters to an .npz file, for :func:`bayesglm.load_model`.

        Parameters
        ----------
        filename : str or Path
            ``.npz`` is appended where it is missing.
        """
        save(self, filename)


def _warn_of_missing(log_proba) -> None:
    if np.isnan(log_proba).any():
        warnings.warn(
            "Rows of `X` with a NaN (or neurons that were not fitted) have no most probable label; "
            "the first class is returned for them.",
            RuntimeWarning,
            stacklevel=4,
        )
