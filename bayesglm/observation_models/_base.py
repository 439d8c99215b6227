"""What all observation models have in common."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from bayesglm import links
from bayesglm._component import Component
from bayesglm._likelihood import loss_of, sum_of_means
from bayesglm.distributions import PredictorDistribution

SCORE_TYPES = ("log-likelihood", "pseudo-r2-McFadden", "pseudo-r2-Cohen")


class Observations(Component, abc.ABC):
    """A family of response distributions.

    A family of your own subclasses this and supplies `default_inverse_link_function` and :meth:`distribution`;
    the rest follows. `predicted_rate` below is the mean of the response (for a categorical model: log-probabilities,
    classes last), responses and means have shape (samples,) or (samples, neurons), and `scale` is the dispersion, by
    default that of the model.
    """

    default_inverse_link_function: Callable
    #: Whether `scale` is a free parameter that is estimated after the coefficients.
    has_scale = False
    #: Whether `scale` is part of the loss and estimated with the coefficients.
    estimates_scale = False
    #: Whether a response is a pair, the numbers of successes and failures of known trials.
    has_trials = False

    @staticmethod
    @abc.abstractmethod
    def distribution(eta, inverse_link_function, scale=1.0):
        """Return the NumPyro distribution of the response.

        Parameters
        ----------
        eta : array
            Linear predictor.
        inverse_link_function
            Maps `eta` to the mean.
        scale : array, broadcastable to `eta`
            Dispersion.
        """

    _scale: float | str = 1.0

    @property
    def scale(self):
        """Dispersion used where none is given."""
        return self._scale

    @scale.setter
    def scale(self, value):
        self._scale = self._check_scale(value)

    @staticmethod
    def _check_scale(value):
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"`scale` must be a number, but {value!r} was given.") from None

    @property
    def scale_origin(self) -> str:
        """Where the dispersion of a fit comes from, in words."""
        return "estimated from the residuals" if self.has_scale else "fixed by the family"

    def check_support(self, y) -> None:
        """Raise a ValueError if a response lies outside the support of the family.

        Here every response is accepted; families override it.
        """
        del y

    def _of_rate(self, rate, scale) -> PredictorDistribution:
        scale = self.scale if scale is None else scale
        if isinstance(scale, str):
            raise ValueError(f"The dispersion of {self!r} is known after `fit` only: pass `scale`.")
        return self.distribution(self._clip(as_float(rate)), links.identity, scale)

    @staticmethod
    def _clip(rate):
        return rate

    def _saturated_rate(self, y, scale):
        """Return the mean that explains `y` best."""
        del scale
        return jnp.asarray(y)

    def _null_rate(self, y, rate):
        """Return the mean of a model without predictors, in the shape of `rate`."""
        return jnp.broadcast_to(jnp.mean(jnp.asarray(y, rate.dtype), axis=0), rate.shape)

    def _negative_log_likelihood(
        self, y, predicted_rate, aggregate_sample_scores=sum_of_means, scale=None
    ):
        return aggregate_sample_scores(loss_of(self._of_rate(predicted_rate, scale), y))

    def log_likelihood(self, y, predicted_rate, scale=None, aggregate_sample_scores=sum_of_means):
        """Return the aggregated log-likelihood, with its normalising constants.

        Parameters
        ----------
        aggregate_sample_scores
            Applied to the log-likelihoods of all responses; by default their mean over samples, summed over neurons.
        """
        return aggregate_sample_scores(
            self._of_rate(predicted_rate, scale).log_prob(jnp.asarray(y))
        )

    def likelihood(self, y, predicted_rate, scale=None, aggregate_sample_scores=sum_of_means):
        """Return the exponential of :meth:`log_likelihood`."""
        return jnp.exp(self.log_likelihood(y, predicted_rate, scale, aggregate_sample_scores))

    def deviance(self, spike_counts, predicted_rate, scale=None):
        """Return twice the log-likelihood ratio of the saturated model to this one, per response.

        References
        ----------
        McCullagh, Nelder (1989), Generalized Linear Models, section 2.3. doi:10.1007/978-1-4899-3242-6
        """
        y = jnp.asarray(spike_counts)
        model = self._of_rate(predicted_rate, scale)
        scale = self.scale if scale is None else scale
        saturated = self._of_rate(self._saturated_rate(y, scale), scale)
        return 2.0 * getattr(model, "kappa", 1.0) * (loss_of(model, y) - loss_of(saturated, y))

    def estimate_scale(self, y, predicted_rate, dof_resid):
        """Return the dispersion estimated from the residuals.

        Parameters
        ----------
        dof_resid : array
            Residual degrees of freedom, one per neuron.
        """
        return jnp.ones_like(jnp.atleast_1d(jnp.mean(jnp.asarray(y, float), axis=0)))

    def sample_generator(self, key, predicted_rate, scale=None):
        """Draw responses in the shape of the means."""
        return self._of_rate(predicted_rate, scale).sample(key)

    def pseudo_r2(
        self,
        y,
        predicted_rate,
        score_type="pseudo-r2-McFadden",
        scale=None,
        aggregate_sample_scores=jnp.mean,
    ):
        r"""Return a pseudo-:math:`R^2` against the model of a constant mean.

        Parameters
        ----------
        score_type
            ``"pseudo-r2-McFadden"``: :math:`1 - \log L / \log L_0`; ``"pseudo-r2-Cohen"``:
            :math:`(D_0 - D) / D_0` with deviances D.

        Raises
        ------
        NotImplementedError
            For another `score_type`.

        References
        ----------
        McFadden (1979) in Behavioural Travel Modelling; Cohen, Cohen, West, Aiken (2002), Applied Multiple
        Regression, doi:10.4324/9780203774441
        """
        if score_type not in SCORE_TYPES[1:]:
            raise NotImplementedError(
                f"`score_type` must be one of {SCORE_TYPES}, but {score_type!r} was given."
            )
        rate = as_float(predicted_rate)
        null = self._null_rate(y, rate)
        if score_type == "pseudo-r2-Cohen":
            residual = aggregate_sample_scores(self.deviance(y, rate))
            total = aggregate_sample_scores(self.deviance(y, null))
            return (total - residual) / total
        model = self.log_likelihood(y, rate, scale, aggregate_sample_scores)
        return 1.0 - model / self.log_likelihood(y, null, scale, aggregate_sample_scores)

    def __repr__(self):
        return f"{type(self).__name__}()"


def number_or_estimate(value, name: str, allowed: Callable, what: str):
    """Return a parameter that is a number, or ``"estimate"``.

    Parameters
    ----------
    allowed : callable
        Whether a number will do; one that is none comes as NaN.
    what : str
        The numbers that will.
    """
    if isinstance(value, str) and value == "estimate":
        return value
    number = np.nan
    with contextlib.suppress(TypeError, ValueError):
        number = float(value)
    if not allowed(number):
        raise ValueError(f"`{name}` must be {what} or 'estimate', but {value!r} was given.")
    return number


def as_float(rate):
    return jnp.asarray(rate, jnp.result_type(rate, float))
