"""Inverse links: from the linear predictor ``eta`` to the mean of the response.

An inverse link is a plain function. The functions defined here carry stable forms of what
a likelihood needs (log of the mean, log of one minus the mean) and their own inverse; any other
JAX-differentiable function works through the generic forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from scipy import special

from bayesglm._input import did_you_mean

__all__ = [
    "exp",
    "expit",
    "identity",
    "log_softmax",
    "logistic",
    "norm_cdf",
    "one_over_x",
    "softplus",
    "inverse_link_name",
    "link_value",
    "log_complement",
    "log_mean",
    "named",
    "resolve",
]


def exp(x):
    """Return ``exp(x)``, the inverse of the log link."""
    return jnp.exp(x)


def softplus(x):
    """Return ``log(1 + exp(x))``."""
    return jax.nn.softplus(x)


def logistic(x):
    """Return ``1 / (1 + exp(-x))``, the inverse of the logit link."""
    return jax.nn.sigmoid(x)


def norm_cdf(x):
    """Return the standard normal distribution function, the inverse of the probit link."""
    return ndtr(x)


def identity(x):
    """Return ``x``."""
    return x


def one_over_x(x):
    """Return ``1 / x``, the inverse of the reciprocal link (canonical for Gamma)."""
    return 1.0 / x


def log_softmax(x):
    """Return the log-probabilities of the classes, normalised over the last axis."""
    return jax.nn.log_softmax(x, axis=-1)


expit = logistic


class _Forms(NamedTuple):
    """What is known about an inverse link beyond its value.

    ``None`` means that the generic form is used.
    """

    link: Callable  # the link itself: mean -> eta (numpy)
    log_mean: Callable | None = None
    log_complement: Callable | None = None


def _log_softplus(x):
    # log(softplus(x)) is x for x -> -inf, where softplus underflows; the double `where` keeps the
    # branch not taken out of the derivative.
    small = x < -30.0
    return jnp.where(small, x, jnp.log(jax.nn.softplus(jnp.where(small, 0.0, x))))


def _centred_log(mean):
    log = np.log(np.maximum(mean, np.finfo(float).eps))
    return log - log.mean(axis=-1, keepdims=True)


_FORMS = {
    exp: _Forms(np.log, lambda x: x),
    softplus: _Forms(lambda mean: mean + np.log(-np.expm1(-mean)), _log_softplus),
    logistic: _Forms(
        lambda mean: np.log(mean) - np.log1p(-mean),
        jax.nn.log_sigmoid,
        lambda x: jax.nn.log_sigmoid(-x),
    ),
    norm_cdf: _Forms(special.ndtri, log_ndtr, lambda x: log_ndtr(-x)),
    identity: _Forms(lambda mean: mean),
    one_over_x: _Forms(lambda mean: 1.0 / mean, lambda x: -jnp.log(x)),
    log_softmax: _Forms(_centred_log),
}

# JAX's own functions behave as ours, so that passing `jax.numpy.exp` costs no accuracy.
_ALIASES = {
    jnp.exp: exp,
    jax.lax.exp: exp,
    jax.nn.softplus: softplus,
    jax.nn.sigmoid: logistic,
    jax.lax.logistic: logistic,
    jax.scipy.special.expit: logistic,
    jax.scipy.stats.norm.cdf: norm_cdf,
    ndtr: norm_cdf,
    jax.nn.identity: identity,
    jax.nn.log_softmax: log_softmax,
}

_NAMES = {
    "exp": exp,
    "softplus": softplus,
    "logistic": logistic,
    "expit": logistic,
    "norm_cdf": norm_cdf,
    "norm.cdf": norm_cdf,
    "identity": identity,
    "one_over_x": one_over_x,
    "log_softmax": log_softmax,
}

# What users who name the link itself are after.
_INVERSES = {
    "log": "exp", "logit": "logistic", "sigmoid": "logistic", "probit": "norm_cdf", "inverse": "one_over_x",
    "reciprocal": "one_over_x", "inverse_power": "one_over_x", "softmax": "log_softmax",
}  # fmt: skip

# Dotted spellings under which the named links are also known.
_PREFIXES = (
    "jax.numpy.",
    "jax.nn.",
    "jax.lax.",
    "jax.scipy.special.",
    "jax.scipy.stats.",
    "jax._src.nn.functions.",
    "jax._src.numpy.ufuncs.",
    "jax._src.lax.lax.",
    "jax._src.scipy.special.",
    "jax._src.scipy.stats.",
    "bayesglm.links.",
    "nemos.inverse_link_function_utils.",
    "nemos.utils.",
)


def named(inverse_link: Callable) -> Callable:
    """Return our own function for one of JAX's that is the same, and any other unchanged."""
    return _ALIASES.get(inverse_link, inverse_link)


def _forms(inverse_link: Callable) -> _Forms | None:
    return _FORMS.get(named(inverse_link))


def log_mean(inverse_link: Callable, eta):
    """Return the log of the mean, from the linear predictor where a stable form is known."""
    forms = _forms(inverse_link)
    if forms is not None and forms.log_mean is not None:
        return forms.log_mean(eta)
    return jnp.log(inverse_link(eta))


def log_complement(inverse_link: Callable, eta):
    """Return ``log(1 - mean)``, from the linear predictor where a stable form is known."""
    forms = _forms(inverse_link)
    if forms is not None and forms.log_complement is not None:
        return forms.log_complement(eta)
    return jnp.log1p(-inverse_link(eta))


def link_value(inverse_link: Callable, mean) -> np.ndarray:
    """Return the linear predictor at which the mean of the response is `mean`.

    Parameters
    ----------
    inverse_link
        Any inverse link.
    mean : array
        For ``log_softmax``: class frequencies, classes last; the result is centred over the classes.

    Returns
    -------
    : array of the shape of `mean`
        ``nan`` or ``inf`` where no finite predictor gives that mean (a silent neuron, say).
    """
    mean = np.asarray(mean, dtype=float)
    forms = _forms(inverse_link)
    if forms is not None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(forms.link(mean), dtype=float)
    return _search(inverse_link, mean.ravel()).reshape(mean.shape)


# Predictors among which a search looks for a sign change: dense enough that an interval holds one root.
_POSITIVE = np.geomspace(1e-6, 1e6, 241)
_GRID = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])
_BISECTIONS = 60


def _search(inverse_link: Callable, mean) -> np.ndarray:
    """Return roots of ``inverse_link(eta) = mean`` for means (n,), found by bisection."""

    def side(eta, mean):
        return np.sign(np.asarray(inverse_link(jnp.asarray(eta)), dtype=float) - mean)

    grid = side(_GRID, mean[:, None])
    crossing = (
        grid[:, :-1] * grid[:, 1:] <= 0
    )  # NaN compares false: outside the domain there is no root
    # Of several roots the one next to the mean is taken: the positive one for a square.
    first = np.where(crossing, np.abs(_GRID[:-1] - mean[:, None]), np.inf).argmin(axis=1)
    low, high = _GRID[first], _GRID[first + 1]
    start = np.take_along_axis(grid, first[:, None], axis=1)[:, 0]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        same = side(middle, mean) == start
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    error = np.abs(np.asarray(inverse_link(jnp.asarray(high)), dtype=float) - mean)
    # at a jump the sign changes without a root
    found = crossing.any(axis=1) & (error <= 1e-4 * np.maximum(1.0, np.abs(mean)))
    return np.where(found, high, np.nan)


def resolve(inverse_link: str | Callable) -> Callable:
    """Return the inverse link that a name or a function stands for, checked.

    Parameters
    ----------
    inverse_link
        ``"exp"``, ``"softplus"``, ``"logistic"``, ``"expit"``, ``"norm_cdf"``, ``"norm.cdf"``, ``"identity"``,
        ``"one_over_x"``, ``"log_softmax"`` (also with a dotted prefix such as ``"jax.numpy."``), or a function
        of one JAX array that JAX can differentiate.

    Raises
    ------
    TypeError
        If it is neither a string nor callable.
    ValueError
        If the name is unknown, or the function fails on JAX arrays or scalars or cannot be differentiated.
    """
    if isinstance(inverse_link, str):
        return _from_name(inverse_link)
    if not callable(inverse_link):
        raise TypeError(
            "`inverse_link_function` must be a name or a function of the linear predictor, "
            f"but a {type(inverse_link).__name__} was given."
        )
    if _forms(inverse_link) is None:
        _check_callable(inverse_link)
    return inverse_link


def _from_name(name: str) -> Callable:
    short = next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)
    if short not in _NAMES:
        inverse = _INVERSES.get(short.lower())
        hint = (
            f" The inverse of the link {short!r} is {inverse!r}."
            if inverse
            else did_you_mean(short, _NAMES)
        )
        raise ValueError(
            f"Unknown inverse link {name!r}. Known names: {', '.join(sorted(_NAMES))}. "
            f"Any other function can be passed itself.{hint}"
        )
    return _NAMES[short]


def _check_callable(inverse_link: Callable) -> None:
    advice = "Write it with `jax.numpy`, elementwise and differentiable."
    try:
        value = inverse_link(jnp.array([1.0, 2.0, 3.0]))
        scalar = inverse_link(1.0)
        slope = jax.grad(lambda x: jnp.sum(inverse_link(x)))(1.0)
    except Exception as error:
        raise ValueError(
            f"`inverse_link_function` {inverse_link_name(inverse_link)} failed on JAX input: {error}. "
            + advice
        ) from error
    if not isinstance(value, jax.Array) or np.shape(value) != (3,):
        raise ValueError(
            "`inverse_link_function` must return a JAX array of the shape of its input, but returned "
            f"{type(value).__name__} of shape {np.shape(value)}. " + advice
        )
    if np.shape(scalar) != () or not jnp.isfinite(slope):
        raise ValueError(
            "`inverse_link_function` must map a number to a number with a finite derivative. "
            + advice
        )


def canonical(inverse_link: Callable) -> Callable:
    """Return our own function for one of its spellings in JAX, anything else as it is."""
    return _ALIASES.get(inverse_link, inverse_link)


def is_known(inverse_link: Callable) -> bool:
    """Return whether an inverse link is one of those with a name."""
    return _forms(inverse_link) is not None


def inverse_link_name(inverse_link: Callable) -> str:
    """Return the name of an inverse link."""
    inverse_link = _ALIASES.get(inverse_link, inverse_link)
    return getattr(inverse_link, "__name__", type(inverse_link).__name__)
