"""The joint density of a GLM, as one NumPyro model.

    coef ~ prior of the regularizer      intercept ~ flat      [scale ~ weak prior]
    eta = X @ coef + intercept + offset
    y ~ distribution of the observation model at eta

This is the only module that calls ``numpyro.sample``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.distribution import Unit

from bayesglm._families import default_scale_prior, parameter
from bayesglm._likelihood import kappa, response_distribution
from bayesglm.prior import Prior

__all__ = ["Model", "WeakIntercept", "default_scale_prior", "joint"]


class WeakIntercept(NamedTuple):
    """Weakly informative prior of the intercepts, in the units of the data: of the predictor at the mean features."""

    feature_mean: Any  # (features,)
    location: Any  # (neurons,)
    unit: Any  # (neurons,)
    prior: Any  # distribution of (intercept at the mean - location) / unit


class Model(NamedTuple):
    """Everything that fixes the joint density.

    Shapes are those of the user: coefficients (features, *outputs) with outputs () for one neuron,
    (neurons,), (classes,) or (neurons, classes).
    """

    observation_model: Any
    inverse_link: Callable
    prior: Prior  # of the coefficients, and which of these are in use
    X: Any  # (samples, features)
    y: Any  # (samples,) or (samples, neurons); class indices for a classifier
    weight: Any  # (samples,) or (samples, neurons)
    offset: Any  # broadcasts to the linear predictor, or None
    n: Any  # () or (neurons,): sum of the weights
    n_classes: int | None
    scale: Any  # a number or array (neurons,), or a distribution to sample it from
    intercept_prior: Any = None  # a distribution of one intercept; flat if None
    weak: WeakIntercept | None = None
    trials: Any = None  # as y: the number of trials of each response

    @property
    def mask(self) -> np.ndarray:
        """Coefficients in use, bool (features, *outputs)."""
        return self.prior.mask

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the intercept."""
        return self.mask.shape[1:]

    @property
    def neurons(self) -> tuple[int, ...]:
        """Shape of what there is one of per neuron."""
        return self.outputs if self.n_classes is None else self.outputs[:-1]

    @property
    def zero_sum(self) -> bool:
        """Whether the coefficients live in the subspace where they sum to zero over the classes."""
        return self.prior.zero_sum(self.n_classes)


def joint(model: Model, y=None) -> None:
    """Declare the joint density of coefficients, intercepts, scale and responses.

    Parameters
    ----------
    y
        Observed responses; None to draw them.
    """
    model, y = jax.tree.map(_canonical, (model, y))
    model = model._replace(prior=model.prior.mapped(_canonical))
    scale = model.scale
    if isinstance(scale, dist.Distribution):
        of = parameter(model.observation_model)
        prior = of.site(scale.expand(model.neurons)).to_event(len(model.neurons))
        scale = of.to_scale(numpyro.sample(of.name, prior))
    scale = jnp.asarray(scale)
    coef = numpyro.sample("coef", coefficient_prior(model, scale))
    unused = model.prior.unused()
    if unused.any():
        # Masked coefficients are not part of the model; a proper density keeps samplers from wandering off.
        _factor("unused", jnp.sum(jnp.where(unused, dist.Normal().log_prob(coef), 0.0)))
    intercept = numpyro.sample("intercept", intercept_prior(model))
    coef = jnp.where(model.mask, coef, 0.0)
    if model.weak is not None:
        of_intercept = weak_log_prior(model.weak, coef, intercept, len(model.neurons))
        _factor("weak", jnp.sum(of_intercept))
    eta = jnp.tensordot(jnp.asarray(model.X), coef, 1) + intercept
    if model.offset is not None:
        eta = eta + model.offset
    of_rows = scale if model.trials is None else 1.0 / jnp.asarray(model.trials)
    response = response_distribution(
        model.observation_model,
        eta,
        model.inverse_link,
        of_rows if model.n_classes is None else 1.0,
    )
    # A row without weight may hold anything, so that a factor of zero would not be enough.
    used = jnp.asarray(model.weight) > 0
    weight = jnp.where(used, jnp.asarray(model.weight), 1.0)
    with ExitStack() as rows:
        rows.enter_context(numpyro.plate("sample", len(model.X), dim=-1 - len(model.neurons)))
        if model.neurons:
            rows.enter_context(numpyro.plate("neuron", model.neurons[0], dim=-1))
        with numpyro.handlers.mask(mask=used), numpyro.handlers.scale(scale=weight):
            numpyro.sample("y", response, obs=y)


def _factor(name: str, value) -> None:
    # `numpyro.factor`, which fails where ArviZ was imported before NumPyro: that loads NumPyro lazily, without the
    # names of the modules within its packages.
    numpyro.sample(name, Unit(value), obs=Unit(value).sample(None), infer={"is_auxiliary": True})


def _canonical(leaf):
    """Return a NumPy array in the precision in which JAX computes, anything else as it is.

    JAX would convert it by itself, but `jax.closure_convert`, on which NumPyro's samplers build, then
    takes the converted array for the original: using that in float64 afterwards (to fit, say) fails.
    """
    if not isinstance(leaf, np.ndarray):
        return leaf
    return np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))


def coefficient_prior(model: Model, scale) -> dist.Distribution:
    """Return the prior of all coefficients given the scale."""
    weight = jnp.asarray(model.n) * kappa(model.observation_model, scale)
    if model.n_classes is not None:
        weight = weight[..., None]
    return model.prior.distribution(weight, model.zero_sum)


def weak_log_prior(weak: WeakIntercept, coef, intercept, neuron_axes: int):
    """Return the log-density of the weakly informative prior of each intercept."""
    at_mean = intercept + jnp.tensordot(weak.feature_mean, coef, 1)
    location, unit = (
        jnp.reshape(a, (-1,) + (1,) * (at_mean.ndim - neuron_axes)) if neuron_axes else a[0]
        for a in (weak.location, weak.unit)
    )
    return weak.prior.log_prob((at_mean - location) / unit) - jnp.log(unit)


def intercept_prior(model: Model) -> dist.Distribution:
    """Return the prior of all intercepts: flat, on the zero-sum subspace for classes."""
    outputs = model.outputs
    if model.intercept_prior is not None:
        return model.intercept_prior.expand(outputs).to_event(len(outputs))
    if model.n_classes is not None:
        return dist.ImproperUniform(constraints.zero_sum(1), (), outputs)
    return dist.ImproperUniform(constraints.real, (), outputs)
