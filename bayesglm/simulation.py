"""Simulate a recurrent network of Poisson GLMs, and make coupling filters for it.

An estimator's `simulate` is feed-forward: its features are given. Here a neuron's past spikes, and
those of the others, are features of its present, so that time has to be walked through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, xlogy

__all__ = ["difference_of_gammas", "regress_filter", "simulate_recurrent"]


def simulate_recurrent(
    coupling_coef: ArrayLike,
    feedforward_coef: ArrayLike,
    intercepts: ArrayLike,
    random_key: jax.Array,
    feedforward_input: ArrayLike,
    coupling_basis_matrix: ArrayLike,
    init_y: ArrayLike,
    inverse_link_function: Callable = jax.nn.softplus,
) -> tuple[jax.Array, jax.Array]:
    r"""Draw spike counts from a recurrently coupled Poisson GLM.

    With :math:`B` the basis of :math:`W` lags and :math:`y_{-W}, \dots, y_{-1}` from `init_y`,

    .. math::

        y_{tn} \sim \text{Poisson}(\mu_{tn}), \qquad \mu_{tn} = f\Big(b_n + \sum_i v_{ni} x_{tni}
        + \sum_{m, k} w_{nmk} \sum_{l=1}^{W} B_{l-1, k}\, y_{t-l, m}\Big)

    Parameters
    ----------
    coupling_coef : (neurons, neurons, basis functions)
        Weights w, indexed (receiver, sender, basis function).
    feedforward_coef : (neurons, inputs)
        Weights v.
    intercepts : (neurons,)
        Intercepts b.
    random_key : JAX random key
        Split into one key per time bin.
    feedforward_input : (time bins, neurons, inputs)
        Input x; sets the length of the simulation.
    coupling_basis_matrix : (window, basis functions)
        Basis B; row 0 weighs the most recent bin.
    init_y : (window, neurons)
        Counts before the first bin, the oldest first.
    inverse_link_function : callable
        Link f. Compiled once per function, so pass the same object again rather than a new lambda.

    Returns
    -------
    spikes : (time bins, neurons), integer
        Counts y. Where a mean is not finite (a network whose excitation feeds on itself) they
        mean nothing.
    rates : (time bins, neurons)
        The means mu.

    Raises
    ------
    ValueError
        If an input has the wrong number of dimensions, or two inputs disagree on a length.
    TypeError
        If an input is not a numeric array, or the link is not callable.
    """
    if not callable(inverse_link_function):
        raise TypeError(
            "`inverse_link_function` must be a callable, for instance `jax.numpy.exp`, but is "
            f"{inverse_link_function!r}."
        )
    arrays = {
        "coupling_coef": _as_array("coupling_coef", coupling_coef, 3),
        "feedforward_coef": _as_array("feedforward_coef", feedforward_coef, 2),
        "intercepts": _as_array("intercepts", intercepts, 1),
        "feedforward_input": _as_array("feedforward_input", feedforward_input, 3),
        "coupling_basis_matrix": _as_array("coupling_basis_matrix", coupling_basis_matrix, 2),
        "init_y": _as_array("init_y", init_y, 2),
    }
    _check_lengths(arrays)
    return _simulate(random_key, inverse_link_function=inverse_link_function, **arrays)


@partial(jax.jit, static_argnames="inverse_link_function")
def _simulate(
    random_key,
    coupling_coef,
    feedforward_coef,
    intercepts,
    feedforward_input,
    coupling_basis_matrix,
    init_y,
    inverse_link_function,
):
    """Walk through time; the window of recent counts is the state."""
    oldest_first = coupling_basis_matrix[::-1]
    weights = coupling_coef.reshape(len(intercepts), -1)
    drive = jnp.einsum("tni,ni->tn", feedforward_input, feedforward_coef) + intercepts

    def step(window, inputs):
        key, drive_now = inputs
        features = window.T @ oldest_first
        rate = inverse_link_function(weights @ features.ravel() + drive_now)
        count = jax.random.poisson(key, rate)
        window = jnp.concatenate([window[1:], count[None].astype(window.dtype)])
        return window, (count, rate)

    keys = jax.random.split(random_key, len(drive))
    return jax.lax.scan(step, init_y, (keys, drive))[1]


def difference_of_gammas(
    ws: int,
    upper_percentile: float = 0.99,
    inhib_a: float = 1.0,
    excit_a: float = 2.0,
    inhib_b: float = 1.0,
    excit_b: float = 2.0,
) -> NDArray:
    """Return a coupling filter: an excitatory minus an inhibitory Gamma density, of unit norm.

    Parameters
    ----------
    ws : int
        Window size in bins.
    upper_percentile : float in [0, 1)
        The window ends where both distribution functions have reached this value.
    inhib_a, excit_a : float
        Shapes, at least 1 (below, the density is infinite at lag 0).
    inhib_b, excit_b : float
        Rates, positive.

    Returns
    -------
    (ws,)
        The filter at equally spaced lags, 2-norm 1.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or the two densities cancel.
    """
    if not (isinstance(ws, int | np.integer) and ws >= 1):
        raise ValueError(f"`ws` must be a positive integer, but is {ws!r}.")
    if not 0 <= upper_percentile < 1:
        raise ValueError(f"`upper_percentile` must lie in [0, 1), but is {upper_percentile!r}.")
    if not (inhib_a >= 1 and excit_a >= 1):
        raise ValueError(
            f"The Gamma shapes must be at least 1, but `inhib_a` is {inhib_a!r} and `excit_a` is "
            f"{excit_a!r}."
        )
    if not (inhib_b > 0 and excit_b > 0):
        raise ValueError(
            f"The Gamma rates must be positive, but `inhib_b` is {inhib_b!r} and `excit_b` is "
            f"{excit_b!r}."
        )
    shape, rate = np.array([[inhib_a, excit_a], [inhib_b, excit_b]], dtype=float)
    lags = np.linspace(0, np.max(gammaincinv(shape, upper_percentile) / rate), ws)
    inhibition, excitation = _gamma_density(lags, shape[:, None], rate[:, None])
    difference = excitation - inhibition
    norm = np.linalg.norm(difference)
    if norm == 0:
        raise ValueError(
            "The two Gamma densities cancel at every lag. Give excitation and inhibition different "
            "parameters, and use more than one bin."
        )
    return difference / norm


def regress_filter(coupling_filters: ArrayLike, eval_basis: ArrayLike) -> NDArray:
    """Return the basis weights that reproduce coupling filters best, by least squares.

    Parameters
    ----------
    coupling_filters : (window, neurons, neurons)
    eval_basis : (window, basis functions)

    Returns
    -------
    (neurons, neurons, basis functions)
        Entry (i, j) belongs to the filter ``coupling_filters[:, i, j]``; ready to be the
        `coupling_coef` of `simulate_recurrent` if the filters are indexed (receiver, sender).

    Raises
    ------
    ValueError
        If an input has the wrong number of dimensions, or the window sizes differ.
    TypeError
        If an input is not numeric.
    """
    # Through NumPy: the inputs are kept in float64, whatever JAX's default.
    filters = np.asarray(coupling_filters)
    basis = np.asarray(eval_basis)
    for name, array, ndim in (("coupling_filters", filters, 3), ("eval_basis", basis, 2)):
        _check_numeric(name, array.dtype)
        _check_ndim(name, array, ndim)
    if len(filters) != len(basis):
        raise ValueError(
            "`coupling_filters` and `eval_basis` must have the same window size (length of axis "
            f"0), but have {len(filters)} and {len(basis)}."
        )
    weights = np.linalg.lstsq(basis, filters.reshape(len(filters), -1), rcond=None)[0]
    return weights.T.reshape(*filters.shape[1:], basis.shape[1])


def _gamma_density(x: NDArray, shape: NDArray, rate: NDArray) -> NDArray:
    return np.exp(xlogy(shape - 1, x) + xlogy(shape, rate) - rate * x - gammaln(shape))


def _as_array(name: str, value: ArrayLike, ndim: int) -> jax.Array:
    """Return `value` as a real JAX array in the default precision, or raise."""
    try:
        # Through NumPy, which tells text from numbers; JAX reads some texts as dtypes.
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be an array of numbers, but its {type(value).__qualname__} cannot be "
            f"read as one: {error}"
        ) from error
    _check_numeric(name, array.dtype)
    _check_ndim(name, array, ndim)
    return jnp.asarray(array, dtype=float)


def _check_numeric(name: str, dtype: np.dtype) -> None:
    is_real = any(jnp.issubdtype(dtype, kind) for kind in (np.integer, np.floating, np.bool_))
    if not is_real:
        raise TypeError(f"`{name}` must be an array of real numbers, but its dtype is {dtype}.")


def _check_ndim(name: str, array: jax.Array | NDArray, ndim: int) -> None:
    if array.ndim != ndim:
        raise ValueError(
            f"`{name}` must be {ndim}-dimensional, but has {array.ndim} dimensions, shape "
            f"{array.shape}."
        )


def _check_lengths(arrays: dict[str, jax.Array]) -> None:
    """Raise if axes that mean the same differ in length."""
    axes = {
        "number of neurons": (
            ("intercepts", 0),
            ("coupling_coef", 0),
            ("coupling_coef", 1),
            ("feedforward_coef", 0),
            ("feedforward_input", 1),
            ("init_y", 1),
        ),
        "number of inputs": (("feedforward_coef", 1), ("feedforward_input", 2)),
        "number of basis functions": (("coupling_coef", 2), ("coupling_basis_matrix", 1)),
        "window size": (("coupling_basis_matrix", 0), ("init_y", 0)),
    }
    for what, places in axes.items():
        lengths = [arrays[name].shape[axis] for name, axis in places]
        if len(set(lengths)) > 1:
            found = ", ".join(
                f"`{name}` has {length} (axis {axis})"
                for (name, axis), length in zip(places, lengths, strict=True)
            )
            raise ValueError(f"Inconsistent {what}: {found}. They must agree.")
