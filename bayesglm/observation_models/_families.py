"""The families of response distributions, each with the NumPyro distribution of its linear predictor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import links
from bayesglm._likelihood import (
    clip_nonzero,
    clip_positive,
    clip_probability,
    geometric_mean,
    most_likely_scale,
    require_support,
    sum_of_means,
)
from bayesglm.distributions import (
    BernoulliPredictor,
    BinomialPredictor,
    CategoricalPredictor,
    GammaPredictor,
    GaussianPredictor,
    NegativeBinomialPredictor,
    PoissonPredictor,
    ZeroInflatedPoissonPredictor,
)
from bayesglm.observation_models._base import Observations, as_float, number_or_estimate


class PoissonObservations(Observations):
    """Poisson counts: variance equal to the mean.

    `fit` also accepts non-negative reals (a quasi-likelihood: rates, deconvolved calcium).
    """

    default_inverse_link_function = staticmethod(links.exp)
    distribution = staticmethod(PoissonPredictor)
    _clip = staticmethod(clip_positive)

    def check_support(self, y):
        """Raise a ValueError if a response is negative."""
        require_support(y >= 0, y, "Poisson", "non-negative")


class GammaObservations(Observations):
    """Gamma responses: positive, with variance ``scale * mean**2``."""

    default_inverse_link_function = staticmethod(links.one_over_x)
    distribution = staticmethod(GammaPredictor)
    _clip = staticmethod(clip_nonzero)
    has_scale = True

    def check_support(self, y):
        """Raise a ValueError if a response is not positive."""
        require_support(y > 0, y, "Gamma", "positive")

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return Pearson's chi-square over the residual degrees of freedom."""
        residual = (jnp.asarray(y) - predicted_rate) / self._clip(jnp.asarray(predicted_rate))
        return jnp.sum(jnp.square(residual), axis=0) / dof_resid

    def deviance(self, neural_activity, predicted_rate, scale=None):
        return super().deviance(neural_activity, predicted_rate, scale)


class GaussianObservations(Observations):
    """Gaussian responses with variance ``scale``.

    The loss is the squared error without a factor one half, which sets the meaning of a regularizer strength.
    """

    default_inverse_link_function = staticmethod(links.identity)
    distribution = staticmethod(GaussianPredictor)
    has_scale = True

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return the residual sum of squares over the residual degrees of freedom."""
        return jnp.sum(jnp.square(jnp.asarray(y) - predicted_rate), axis=0) / dof_resid

    def deviance(self, neural_activity, predicted_rate, scale=None):
        return super().deviance(neural_activity, predicted_rate, scale)


class BernoulliObservations(Observations):
    """Binary responses."""

    default_inverse_link_function = staticmethod(links.logistic)
    distribution = staticmethod(BernoulliPredictor)
    _clip = staticmethod(clip_probability)

    def check_support(self, y):
        """Raise a ValueError if a response is neither 0 nor 1."""
        require_support((y == 0) | (y == 1), y, "Bernoulli", "0 or 1")

    def likelihood(self, y, predicted_rate, scale=None, aggregate_sample_scores=geometric_mean):
        """Return the aggregated probabilities of the responses: their geometric mean, multiplied over neurons."""
        each = self.log_likelihood(y, predicted_rate, scale, lambda scores: scores)
        return aggregate_sample_scores(jnp.exp(each))

    def deviance(self, observations, predicted_rate, scale=None):
        return super().deviance(observations, predicted_rate, scale)


class BinomialObservations(Observations):
    r"""Numbers of successes in known numbers of trials.

    .. math:: P(k) = \binom{m}{k} \mu^k (1 - \mu)^{m - k}

    A response is a pair, successes and failures, whose sum is the number of trials :math:`m`: `y` is (samples, 2) or
    (samples, neurons, 2). The mean :math:`\mu` that the inverse link gives, and ``predict``, is the probability of a
    success. A row counts once in all means over rows, whatever its number of trials; one without trials is no row.

    The methods below take pairs, or numbers of successes beside a `scale` of one over the number of trials: without
    one, a row is a single trial.

    References
    ----------
    McCullagh, Nelder (1989), Generalized Linear Models, chapter 4. doi:10.1007/978-1-4899-3242-6
    """

    default_inverse_link_function = staticmethod(links.logistic)
    distribution = staticmethod(BinomialPredictor)
    _clip = staticmethod(clip_probability)
    has_trials = True

    def check_support(self, y):
        """Raise a ValueError if a number of successes or failures is negative, or not whole."""
        allowed = (y >= 0) & (y == np.round(y))
        require_support(allowed, y, "Binomial", "a whole number of successes, or of failures")

    @staticmethod
    def _successes(y, rate, scale):
        """Return numbers of successes and one over those of trials."""
        y = jnp.asarray(y)
        if y.ndim == jnp.ndim(rate):
            return y, 1.0 if scale is None else scale
        return y[..., 0], 1.0 / jnp.sum(as_float(y), axis=-1)

    def _saturated_rate(self, y, scale):
        return jnp.asarray(y) * scale

    def _null_rate(self, y, rate):
        y, scale = self._successes(y, rate, None)
        trials = jnp.broadcast_to(1.0 / scale, y.shape)
        return jnp.broadcast_to(jnp.sum(y, axis=0) / jnp.sum(trials, axis=0), rate.shape)

    def _negative_log_likelihood(self, y, predicted_rate, aggregate_sample_scores=sum_of_means):
        y, scale = self._successes(y, predicted_rate, None)
        return super()._negative_log_likelihood(y, predicted_rate, aggregate_sample_scores, scale)

    def log_likelihood(self, y, predicted_rate, scale=None, aggregate_sample_scores=sum_of_means):
        """Return the aggregated log-probability of the numbers of successes."""
        y, scale = self._successes(y, predicted_rate, scale)
        return super().log_likelihood(y, predicted_rate, scale, aggregate_sample_scores)

    def deviance(self, y, predicted_rate, scale=None):
        """Return twice the log-likelihood ratio of a probability for each row to this model."""
        y, scale = self._successes(y, predicted_rate, scale)
        return super().deviance(y, predicted_rate, scale)

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return ones, one per neuron."""
        return jnp.ones(np.shape(predicted_rate)[1:] or (1,))


class NegativeBinomialObservations(Observations):
    """Over-dispersed counts with variance ``mean + scale * mean**2``.

    Parameters
    ----------
    scale : float or "estimate"
        Dispersion, positive; Poisson in the limit 0. A number is held fixed by `fit`: it is part of the loss, and the
        default of 1 is a convention, not a finding. With ``"estimate"``, `fit` finds the most likely one of each
        neuron together with the coefficients (`scale_`), at least 1e-6, where the counts show no more than Poisson
        variance; standard errors are those given this value.

    References
    ----------
    Lawless (1987), Negative binomial and mixed Poisson regression. doi:10.2307/3314912
    """

    default_inverse_link_function = staticmethod(links.exp)
    distribution = staticmethod(NegativeBinomialPredictor)
    _clip = staticmethod(clip_positive)

    def __init__(self, scale=1.0):
        self.scale = scale

    @staticmethod
    def _check_scale(value):
        return number_or_estimate(
            value, "scale", lambda number: 0.0 < number < np.inf, "a positive number"
        )

    @property
    def estimates_scale(self):
        """Whether `fit` estimates the dispersion with the coefficients."""
        return self.scale == "estimate"

    @property
    def scale_origin(self):
        """Where the dispersion of a fit comes from, in words."""
        if self.estimates_scale:
            return "estimated by profile likelihood"
        return f"fixed at {self.scale:g}, not estimated (`scale='estimate'` does)"

    def check_support(self, y):
        """Raise a ValueError if a response is negative."""
        require_support(y >= 0, y, "NegativeBinomial", "non-negative")

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return the most likely dispersion of each neuron given the means, or the one that is held fixed."""
        if not self.estimates_scale:
            return jnp.asarray(self.scale)
        rate = self._clip(as_float(predicted_rate))
        return most_likely_scale(self.distribution, jnp.asarray(y), rate)

    def deviance(self, observations, predicted_rate, scale=None):
        return super().deviance(observations, predicted_rate, scale)

    def __repr__(self):
        return f"NegativeBinomialObservations(scale={self.scale!r})"


class ZeroInflatedPoissonObservations(Observations):
    r"""Poisson counts of which a share, the gate, are zero whatever the features say.

    .. math:: P(y) = \pi\, 1[y = 0] + (1 - \pi)\, \mathrm{Poisson}(y \mid \lambda), \quad
              \lambda = \mu / (1 - \pi)

    The inverse link gives the mean :math:`\mu` of the response, zeros of both kinds included; with ``exp`` that of the
    Poisson part differs in the intercept only. `scale_` is the odds of the gate, :math:`\phi = \pi / (1 - \pi)`, with
    which the variance is :math:`\mu + \phi\mu^2`.

    Parameters
    ----------
    gate : float or "estimate"
        Share :math:`\pi`, between 0 and 1, held fixed by `fit`; or, by default, the most likely one of each neuron,
        found together with the coefficients; standard errors are those given this value.

    References
    ----------
    Lambert (1992), Zero-inflated Poisson regression. doi:10.2307/1269547
    """

    default_inverse_link_function = staticmethod(links.exp)
    distribution = staticmethod(ZeroInflatedPoissonPredictor)
    _clip = staticmethod(clip_positive)

    def __init__(self, gate="estimate"):
        self.gate = gate

    @property
    def gate(self):
        """Share of zeros that the features do not explain, or ``"estimate"``."""
        return self._gate

    @gate.setter
    def gate(self, value):
        self._gate = number_or_estimate(
            value, "gate", lambda number: 0.0 < number < 1.0, "a number between 0 and 1"
        )

    @property
    def scale(self):
        """Odds of the gate, or ``"estimate"``."""
        return self.gate if self.estimates_scale else self.gate / (1.0 - self.gate)

    @property
    def estimates_scale(self):
        """Whether `fit` estimates the gate with the coefficients."""
        return self.gate == "estimate"

    @property
    def scale_origin(self):
        """Where the gate of a fit comes from, in words."""
        if self.estimates_scale:
            return "estimated by profile likelihood"
        return f"fixed at {self.gate:g}, not estimated (`gate='estimate'` does)"

    def check_support(self, y):
        """Raise a ValueError if a response is negative."""
        require_support(y >= 0, y, "ZeroInflatedPoisson", "non-negative")

    def _saturated_rate(self, y, scale):
        return jnp.asarray(y) / (1.0 + scale)

    estimate_scale = NegativeBinomialObservations.estimate_scale

    def __repr__(self):
        return f"ZeroInflatedPoissonObservations(gate={self.gate!r})"


class CategoricalObservations(Observations):
    """Classes; `y` holds indices from 0 (or one-hot rows), the rate log-probabilities with the classes last."""

    default_inverse_link_function = staticmethod(links.log_softmax)
    distribution = staticmethod(CategoricalPredictor)

    @staticmethod
    def _indices(y, rate):
        y = jnp.asarray(y)
        return jnp.argmax(y, axis=-1) if y.ndim == jnp.ndim(rate) else y

    def _null_rate(self, y, rate):
        classes = jnp.arange(rate.shape[-1])
        share = jnp.mean(self._indices(y, rate)[..., None] == classes, axis=0, dtype=rate.dtype)
        return jnp.broadcast_to(jnp.log(jnp.maximum(share, jnp.finfo(rate.dtype).eps)), rate.shape)

    def _negative_log_likelihood(self, y, predicted_rate, aggregate_sample_scores=sum_of_means):
        indices = self._indices(y, predicted_rate)
        return super()._negative_log_likelihood(indices, predicted_rate, aggregate_sample_scores)

    def log_likelihood(self, y, predicted_rate, scale=None, aggregate_sample_scores=sum_of_means):
        """Return the aggregated log-probability of the classes."""
        indices = self._indices(y, predicted_rate)
        return super().log_likelihood(indices, predicted_rate, scale, aggregate_sample_scores)

    likelihood = BernoulliObservations.likelihood

    def deviance(self, observations, predicted_rate, scale=None):
        """Return minus twice the log-probability of each class: the saturated model is certain."""
        each = self.log_likelihood(observations, predicted_rate, scale, lambda scores: scores)
        return -2.0 * each

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return ones, one per neuron."""
        return jnp.ones(np.shape(predicted_rate)[1:-1] or (1,))

    def sample_generator(self, key, predicted_rate, scale=None):
        """Draw one-hot rows in the shape of the log-probabilities."""
        drawn = super().sample_generator(key, predicted_rate, scale)
        return jax.nn.one_hot(drawn, np.shape(predicted_rate)[-1])
