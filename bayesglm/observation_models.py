"""Observation models: how the response is distributed around its mean.

Each model names one NumPyro distribution of the linear predictor; losses, likelihoods, deviances,
scores and simulations are all read from it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import links
from bayesglm._component import Component
from bayesglm._input import did_you_mean
from bayesglm._likelihood import (
    clip_nonzero,
    clip_positive,
    clip_probability,
    geometric_mean,
    loss_of,
    most_likely_scale,
    require_support,
    sum_of_means,
)
from bayesglm.distributions import (
    BernoulliPredictor,
    CategoricalPredictor,
    GammaPredictor,
    GaussianPredictor,
    NegativeBinomialPredictor,
    PoissonPredictor,
    PredictorDistribution,
)

__all__ = [
    "BernoulliObservations",
    "CategoricalObservations",
    "GammaObservations",
    "GaussianObservations",
    "NegativeBinomialObservations",
    "Observations",
    "PoissonObservations",
    "check_observation_model",
]

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
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"`scale` must be a positive number, but {value!r} was given.")
        return number

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
        return self.distribution(self._clip(_as_float(rate)), links.identity, scale)

    @staticmethod
    def _clip(rate):
        return rate

    @staticmethod
    def _saturated_rate(y):
        """Return the mean that explains `y` best."""
        return jnp.asarray(y)

    def _null_rate(self, y, rate):
        """Return the mean of a model without predictors, in the shape of `rate`."""
        return jnp.broadcast_to(jnp.mean(jnp.asarray(y, rate.dtype), axis=0), rate.shape)

    def _negative_log_likelihood(self, y, predicted_rate, aggregate_sample_scores=sum_of_means):
        return aggregate_sample_scores(loss_of(self._of_rate(predicted_rate, None), y))

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
        saturated = self._of_rate(self._saturated_rate(y), scale)
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
        rate = _as_float(predicted_rate)
        null = self._null_rate(y, rate)
        if score_type == "pseudo-r2-Cohen":
            residual = aggregate_sample_scores(self.deviance(y, rate))
            total = aggregate_sample_scores(self.deviance(y, null))
            return (total - residual) / total
        model = self.log_likelihood(y, rate, scale, aggregate_sample_scores)
        return 1.0 - model / self.log_likelihood(y, null, scale, aggregate_sample_scores)

    def __repr__(self):
        return f"{type(self).__name__}()"


def _as_float(rate):
    return jnp.asarray(rate, jnp.result_type(rate, float))


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

    def _check_scale(self, value):
        if isinstance(value, str) and value == "estimate":
            return value
        try:
            return super()._check_scale(value)
        except ValueError as error:
            raise ValueError(f"{error} It may also be 'estimate'.") from None

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
        rate = self._clip(_as_float(predicted_rate))
        return most_likely_scale(self.distribution, jnp.asarray(y), rate)

    def deviance(self, observations, predicted_rate, scale=None):
        return super().deviance(observations, predicted_rate, scale)

    def __repr__(self):
        return f"NegativeBinomialObservations(scale={self.scale!r})"


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


_NATIVE = {
    "Poisson": PoissonObservations,
    "Gamma": GammaObservations,
    "Gaussian": GaussianObservations,
    "Bernoulli": BernoulliObservations,
    "NegativeBinomial": NegativeBinomialObservations,
    "Categorical": CategoricalObservations,
}

_REQUIRED = (
    "_negative_log_likelihood",
    "log_likelihood",
    "likelihood",
    "pseudo_r2",
    "deviance",
    "estimate_scale",
    "sample_generator",
    "default_inverse_link_function",
)


def resolve(observation_model):
    """Return the observation model that a name or an object stands for, checked.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If a class was given instead of an instance.
    """
    if isinstance(observation_model, str):
        name = observation_model.rsplit(".", 1)[-1].removesuffix("Observations")
        if name not in _NATIVE:
            raise ValueError(
                f"Unknown observation model {observation_model!r}. Known: {', '.join(_NATIVE)}; "
                f"or pass an instance of your own.{did_you_mean(name, _NATIVE)}"
            )
        return _NATIVE[name]()
    if isinstance(observation_model, type):
        raise TypeError(
            f"`observation_model` must be an instance, but the class {observation_model.__name__} was given. "
            "Add parentheses."
        )
    check_observation_model(observation_model)
    return observation_model


def check_observation_model(observation_model) -> None:
    """Check that an object can serve as an observation model.

    Raises
    ------
    AttributeError
        If it lacks one of the required members.
    TypeError
        If one of them is not callable.
    """
    if isinstance(observation_model, Observations):
        return
    for name in _REQUIRED:
        if not hasattr(observation_model, name):
            raise AttributeError(
                f"The observation model {observation_model!r} lacks `{name}`. Subclass "
                "`bayesglm.observation_models.Observations` to get everything but the distribution for free."
            )
        if not callable(getattr(observation_model, name)):
            raise TypeError(f"`{name}` of {observation_model!r} must be callable.")


def is_native(observation_model) -> bool:
    """Return whether a model is one of this module, and not of the user's own."""
    kind = type(observation_model)
    return _NATIVE.get(kind.__name__.removesuffix("Observations")) is kind


def static(observation_model):
    """Return the hashable object that stands for the family in compiled programs.

    The models of this module keep no state but the dispersion, which is passed as data; so all their instances
    share the programs of their class.
    """
    if is_native(observation_model):
        return type(observation_model)
    return (
        observation_model.frozen()
        if isinstance(observation_model, Component)
        else observation_model
    )
