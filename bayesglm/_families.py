"""What is known of the responses of any observation model: native, a subclass of the user's own, or duck-typed.

It is said by the distribution that a model names: a subclass that names another one is not taken for its parent.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from bayesglm import links
from bayesglm._likelihood import response_distribution
from bayesglm.distributions import Parameter, PredictorDistribution

__all__ = [
    "cdf",
    "default_scale_prior",
    "draw",
    "estimates_scale",
    "excess_kurtosis",
    "has_free_scale",
    "has_scale",
    "has_trials",
    "held_scale",
    "is_binary",
    "is_count",
    "is_discrete",
    "is_flat_at_infinity",
    "is_known",
    "is_labels",
    "is_positive",
    "is_real",
    "kind_of",
    "parameter",
    "scale_unit",
    "support_of",
    "variance",
]

# NumPy draws counts as 64-bit integers.
_LARGEST_COUNT = 1e15


def kind_of(model) -> type[PredictorDistribution]:
    """Return the class of the distribution that a model names; where that is not one of ours, the base of all."""
    kind = getattr(model, "distribution", None)
    ours = isinstance(kind, type) and issubclass(kind, PredictorDistribution)
    return kind if ours else PredictorDistribution


def support_of(model):
    """Return the NumPyro constraint that responses meet."""
    kind = kind_of(model)
    if kind is not PredictorDistribution:
        return kind.support
    return response_distribution(model, jnp.zeros((1, 2)), links.identity).support


def _named(model) -> type[PredictorDistribution]:
    """Return the distribution of ours that a model, or the class that it derives from, names."""
    for kind in type(model).__mro__:
        named = getattr(vars(kind).get("distribution"), "__func__", None)
        if isinstance(named, type) and issubclass(named, PredictorDistribution):
            return named
    return PredictorDistribution


def parameter(model) -> Parameter:
    """Return what a family, or the one that it derives from, has beside its predictor."""
    return _named(model).parameter


def default_scale_prior(observation_model, spread):
    r"""Return the weak prior of a family's dispersion, or None where it has none, or none is known.

    Parameters
    ----------
    observation_model
        An instance; a subclass of a family has the prior of the family, also with a distribution of its own.
    spread : scalar or (neurons,)
        Standard deviation of the response.

    Returns
    -------
    : distribution
        Gaussian: :math:`\sqrt{scale} \sim` half-Student-t with 4 degrees of freedom and scale `spread`; Gamma:
        :math:`1/scale \sim` Exponential(1); negative binomial: :math:`1/scale \sim` InverseGamma(0.4, 0.3);
        zero-inflated Poisson: :math:`scale / (1 + scale) \sim` Uniform(0, 1).

    References
    ----------
    Gelman (2006) doi:10.1214/06-BA117A; the negative binomial's is the default of brms (Buerkner 2017,
    doi:10.18637/jss.v080.i01) since its version 2.22, as is that of the zero-inflated Poisson.
    """
    return parameter(observation_model).prior(spread)


def scale_unit(model, spread):
    """Return the unit in which the dispersion has the prior that it has for responses of unit standard deviation."""
    return np.asarray(spread, float) ** parameter(model).power


def has_scale(model) -> bool:
    """Return whether the family has a dispersion, be it free, estimated within the loss, or held fixed."""
    return has_free_scale(model) or parameter(model) is not PredictorDistribution.parameter


def has_trials(model) -> bool:
    """Return whether a response is a pair, the numbers of successes and failures of known trials."""
    return bool(getattr(model, "has_trials", False))


def is_labels(model) -> bool:
    """Return whether responses are class labels."""
    return kind_of(model).labels


def is_discrete(model) -> bool:
    """Return whether responses are counts, zeros and ones among them."""
    return bool(support_of(model).is_discrete) and not is_labels(model)


def is_binary(model) -> bool:
    """Return whether responses are zeros and ones."""
    return support_of(model) is constraints.boolean


def is_count(model) -> bool:
    """Return whether responses are counts without an upper end."""
    return support_of(model) is constraints.nonnegative_integer


def is_real(model) -> bool:
    """Return whether responses are any numbers."""
    return support_of(model) is constraints.real


def is_positive(model) -> bool:
    """Return whether responses have an unlimited range of numbers that are not negative."""
    return support_of(model) in (
        constraints.nonnegative_integer, constraints.positive, constraints.nonnegative,
    )  # fmt: skip


def has_free_scale(model) -> bool:
    """Return whether a dispersion is estimated after the coefficients."""
    return bool(getattr(model, "has_scale", False))


def estimates_scale(model) -> bool:
    """Return whether a dispersion is part of the loss, and estimated with the coefficients."""
    return bool(getattr(model, "estimates_scale", False))


def held_scale(model) -> float:
    """Return the dispersion in the loss of a family that does not estimate one there."""
    return float(getattr(model, "scale", None) or 1.0)


def is_known(model) -> bool:
    """Return whether variance and distribution function are known in closed form."""
    return kind_of(model).cdf_of is not PredictorDistribution.cdf_of


def _own(model, mean, scale):
    """Return the distribution of the user's own at given means."""
    return response_distribution(model, jnp.asarray(mean), links.identity, jnp.asarray(scale))


def _unknown(model, what: str) -> NotImplementedError:
    return NotImplementedError(
        f"The {what} of {type(model).__name__} is not known in closed form. Use `posterior_predictive`, or give its "
        "distribution one."
    )


def variance(model, mean, scale):
    """Return the variance of responses with the given means.

    Raises
    ------
    NotImplementedError
        If the distribution of the user's own has none.
    """
    kind = kind_of(model)
    if kind.variance_of is not PredictorDistribution.variance_of:
        return kind.variance_of(mean, scale)
    try:
        with jax.enable_x64(True):
            return np.asarray(_own(model, mean, scale).variance)
    except NotImplementedError as error:
        raise _unknown(model, "variance") from error


def excess_kurtosis(model, mean, scale):
    """Return the excess kurtosis of responses with the given means.

    Raises
    ------
    NotImplementedError
        For a distribution of the user's own.
    """
    kind = kind_of(model)
    if kind.excess_kurtosis_of is PredictorDistribution.excess_kurtosis_of:
        raise _unknown(model, "kurtosis")
    return kind.excess_kurtosis_of(mean, scale)


def cdf(model, y, mean, scale):
    """Return the probability of a response of at most `y`.

    Raises
    ------
    NotImplementedError
        If the distribution of the user's own has no such function.
    """
    kind = kind_of(model)
    if is_known(model):
        value = kind.cdf_of(y, mean, scale)
    else:
        try:
            with jax.enable_x64(True):
                value = np.asarray(_own(model, mean, scale).cdf(jnp.asarray(y)))
        except NotImplementedError as error:
            raise _unknown(model, "distribution function") from error
    return np.where(np.asarray(y) < 0, 0.0, value) if is_discrete(model) else value


# Predictors far enough out for a likelihood to have found its limit, if it has one.
_FAR = 1e3
# A likelihood that is less than halved whenever its argument is doubled has no integral.
_LEAST_GROWTH = np.log(2.0) * (1.0 + 1e-9)
# Responses that are looked at together, always as many, so that other data compile nothing.
_TOGETHER = 64


def is_flat_at_infinity(model, inverse_link, y, weight, n_classes: int | None) -> np.ndarray:
    """Return for which neurons (neurons,) the likelihood falls too slowly to be integrated over the intercept.

    Labels are no case: to raise all classes together is no change of the model.

    Parameters
    ----------
    y, weight : arrays (samples, neurons)
    """
    if n_classes is not None:
        return np.zeros(y.shape[1], bool)
    values, index = np.unique(y, return_inverse=True)
    index = index.reshape(y.shape)
    total = np.zeros((2, y.shape[1]))
    for first in range(0, len(values), _TOGETHER):  # of continuous responses the first few tell
        growth = _growth(
            model, inverse_link, np.resize(values[first : first + _TOGETHER], _TOGETHER)
        )
        inside = (weight > 0) & (index >= first) & (index < first + _TOGETHER)
        each = growth[:, np.where(inside, index - first, 0)]
        total += np.sum(weight * np.where(inside, each, 0.0), axis=1)
        if (total > _LEAST_GROWTH).all():
            break
    return (total <= _LEAST_GROWTH).any(axis=0)


def _growth(model, inverse_link, values) -> np.ndarray:
    """Return by how much minus the log-likelihood grows from far out to twice as far, (two ends, values)."""
    eta = np.array([[-1.0, 1.0], [-2.0, 2.0]])[..., None] * _FAR
    with jax.enable_x64(True):
        found = response_distribution(model, jnp.asarray(eta), inverse_link, 1.0)
        near, far = -np.asarray(found.log_prob(jnp.asarray(values)), float)
    # where there is no density at all, it is certain to be integrated
    both = np.isfinite(near) & np.isfinite(far)
    return np.where(both, np.where(both, far, 0.0) - np.where(both, near, 0.0), np.inf)


def draw(model, rng, mean, scale):
    """Draw responses, as floats: quickly, where nothing else depends on the numbers drawn. NaN for impossible means.

    Raises
    ------
    NotImplementedError
        For a distribution of the user's own.
    """
    known = np.isfinite(mean)
    if is_discrete(model) or is_positive(model):
        known &= (mean >= 0) & (mean < _LARGEST_COUNT)
    kind = kind_of(model)
    if kind.draw_of is PredictorDistribution.draw_of:
        raise _unknown(model, "distribution")
    return np.where(known, kind.draw_of(rng, np.where(known, mean, 1.0), scale), np.nan)
