"""The likelihood of any observation model: native, a subclass of the user's own, or duck-typed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from bayesglm import links
from bayesglm.distributions import PredictorDistribution

__all__ = [
    "SCALE_BOUNDS",
    "clip_nonzero",
    "clip_positive",
    "clip_probability",
    "geometric_mean",
    "kappa",
    "loss_of",
    "most_likely_scale",
    "require_support",
    "response_distribution",
    "sample_loss",
    "sum_of_means",
]

#: Smallest and largest dispersion that is estimated within a loss. At the smallest, counts are as good as Poisson.
SCALE_BOUNDS = 1e-6, 1e4


def clip_positive(rate):
    """Return means that have a logarithm."""
    return jnp.maximum(rate, jnp.finfo(rate.dtype).eps)


def clip_nonzero(rate):
    """Return means that have a logarithm, in any units: only one that underflows has none."""
    return jnp.maximum(rate, jnp.finfo(rate.dtype).tiny)


def clip_probability(rate):
    """Return probabilities that have a logarithm, and whose complements have."""
    eps = jnp.finfo(rate.dtype).eps
    return jnp.clip(rate, eps, 1.0 - eps)


def sum_of_means(scores):
    """Return the mean over samples, summed over neurons."""
    return jnp.sum(jnp.mean(scores, axis=0))


def geometric_mean(scores):
    """Return the geometric mean over samples, multiplied over neurons."""
    return jnp.prod(jnp.exp(jnp.mean(jnp.log(scores), axis=0)))


def require_support(allowed, y, family: str, support: str) -> None:
    """Raise for the first response that is not allowed (NaN is a missing response, not a wrong one)."""
    wrong = ~(allowed | np.isnan(y))
    if wrong.any():
        where = np.unravel_index(np.argmax(wrong), wrong.shape)
        index = where[0] if len(where) == 1 else tuple(int(i) for i in where)
        raise ValueError(
            f"A {family} response must be {support}, but `y[{index}]` is {y[where]}. "
            "Check the units of `y` or choose another observation model."
        )


def loss_of(distribution, y):
    """Return the dispersion-free loss; for a NumPyro distribution of your own, minus its log-density."""
    if isinstance(distribution, PredictorDistribution):
        return distribution.loss(y)
    return -distribution.log_prob(y)


class _FromLoss(PredictorDistribution):
    """Distribution of a duck-typed observation model, which knows its loss and log-likelihood only."""

    support = constraints.real  # nothing is known about it
    pytree_aux_fields = ("model",)
    model = None

    def loss(self, value):
        return self.model._negative_log_likelihood(value, self.mean, lambda scores: scores)

    def log_prob(self, value):
        return self.model.log_likelihood(
            value, self.mean, scale=self.scale, aggregate_sample_scores=lambda scores: scores
        )

    def sample(self, key, sample_shape=()):
        rate = jnp.broadcast_to(self.mean, sample_shape + self.batch_shape)
        return self.model.sample_generator(key, rate, scale=self.scale)


def response_distribution(observation_model, eta, inverse_link_function, scale=1.0):
    """Return the distribution of the response for a native, subclassed or duck-typed model."""
    if hasattr(observation_model, "distribution"):
        return observation_model.distribution(eta, inverse_link_function, scale)
    distribution = _FromLoss(eta, inverse_link_function, scale)
    distribution.model = observation_model
    return distribution


def kappa(observation_model, scale):
    """Return the factor between loss and negative log-density at a scale, in the shape of `scale`."""
    scale = jnp.asarray(scale)
    unit = response_distribution(
        observation_model, jnp.zeros((*scale.shape, 2)), links.identity, scale[..., None]
    )
    return jnp.broadcast_to(getattr(unit, "kappa", 1.0), (*scale.shape, 1))[..., 0]


def sample_loss(observation_model, y, eta, inverse_link_function, scale=1.0):
    """Return the dispersion-free loss of each response."""
    return loss_of(response_distribution(observation_model, eta, inverse_link_function, scale), y)


def most_likely_scale(distribution, y, rate):
    """Return the dispersions (neurons,) of greatest likelihood at given positive means, by bisection in the log."""

    def total(log_scale):
        return jnp.sum(distribution(rate, links.identity, jnp.exp(log_scale)).log_prob(y))

    low, high = (jnp.full(jnp.shape(y)[1:] or (1,), jnp.log(bound)) for bound in SCALE_BOUNDS)
    for _ in range(50):
        middle = 0.5 * (low + high)
        up = jax.grad(total)(middle) > 0
        low, high = jnp.where(up, middle, low), jnp.where(up, high, middle)
    return jnp.exp(middle)
