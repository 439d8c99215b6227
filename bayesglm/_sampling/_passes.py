"""Energies, gradients and curvatures of many posteriors, for rows in memory, or in a file that is read once.

In memory one program does all of it. Of a file, what the rows see of the coordinates is taken first, then the sums over
its pieces, then what these mean in the coordinates; the parts are the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesglm._design import Stored, pieces
from bayesglm._sampling import _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.rows import Data, Matrix, Shards, block_rows, even

# Directions in which the curvature is taken at once, and points at which the energy is.
DIRECTIONS, _POINTS = 8, 32


def curvature(family: Family, shared: Shared, lanes: Lane, u):
    """Return energies (lanes,), gradients and Hessians with priors made smooth; rows in a file are read once."""
    of_all = _curvature
    if isinstance(shared.X, Stored):
        of_all = _curvature_of_file
    return tuple(map(np.asarray, of_all(family, shared, lanes, u)))


@partial(jax.jit, static_argnames="family")
def _curvature(family: Family, shared: Shared, lanes: Lane, u):
    def one(lane, u):
        slopes = partial(_target.surrogate_slopes, family, shared, lane)
        (value, gradient), (_, hessian) = _along(slopes, (u,), (_directions(u.shape[0]),))
        return value, gradient, hessian[: len(u)]

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, u)


def _directions(size: int):
    """Return all unit vectors, filled up to a number of directions that are taken at once."""
    return jnp.eye(-(-size // DIRECTIONS) * DIRECTIONS, size)


def _along(function, at, directions):
    """Return the value of a function, and its derivatives along directions (count, ...)."""
    groups = jax.tree.map(lambda a: a.reshape(-1, DIRECTIONS, *a.shape[1:]), directions)
    each = jax.vmap(lambda direction: jax.jvp(function, at, direction))
    value, along = lax.map(each, groups)
    flat = lambda a: a.reshape(-1, *a.shape[2:])  # noqa: E731
    return jax.tree.map(lambda a: a[0, 0], value), jax.tree.map(flat, along)


def _curvature_of_file(family: Family, shared: Shared, lanes: Lane, u):
    shards, shared, lanes = _apart(shared, lanes)
    at, along = _seen(family, lanes, u)
    found, derivatives = shards.map(
        lambda data: _sums_along(family, data, at, along),
        partial(jax.tree.map, np.add), (_sums_along, family, u.shape),
    )  # fmt: skip
    return _finished(family, shared, lanes, u, found, derivatives)


def _without_rows(lanes: Lane) -> Lane:
    return lanes._replace(y=lanes.y[..., :1], weight=None, offset=None)


def _shards_of(X: Stored, rows) -> Shards:
    """Return rows in a file beside responses, weights and offsets in lanes."""

    def read(begin: int, end: int, new: int) -> Data:
        y, weight, offset = (None if a is None else np.asarray(a)[..., begin:end] for a in rows)
        weight = weight * (np.arange(begin, end) >= new)
        return Data(Matrix(X[begin:end]), y, weight, offset, None)

    parts = tuple(partial(read, *ends) for ends in even(len(X), len(pieces(X))))
    return Shards(parts, len(X), len(rows[0]), 1, X.dtype, np.zeros(X.shape[1]))


@partial(jax.jit, static_argnames="family")
def _seen(family: Family, lanes: Lane, u):
    """Return what the rows see of u, and its derivatives along all directions."""

    def one(lane, u):
        function = partial(_target.seen, family, lane)
        return _along(function, (u,), (_directions(u.shape[0]),))

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, u)


@partial(jax.jit, static_argnames="family")
def _sums_along(family: Family, data: Data, at, along):
    """Return what the rows of a shard add up to, and its derivatives along directions."""

    def one(data, at, along):
        return _along(lambda *at: _target.of_rows(family, data, *at), at, along)

    return _over_lanes(one, data, at, along)


def _over_lanes(function, data: Data, *more):
    """Map a function over the lanes of a shard, which share its features."""
    own, many = data[1:4], len(data.y)
    axes = jax.tree.map(lambda a: 0 if a.shape[0] == many else None, own)
    each = lambda own, *more: function(Data(data.X, *own, None), *more)  # noqa: E731
    return jax.vmap(each, (axes, *(0 for _ in more)))(own, *more)


@partial(jax.jit, static_argnames="family")
def _finished(family: Family, shared: Shared, lanes: Lane, u, found, derivatives):
    """Return energies, gradients and Hessians, given what rows add up to."""

    def one(lane, u, found, derivatives):
        function = partial(_target.with_priors, family, shared, lane)
        directions = _directions(u.shape[0]), derivatives
        (value, gradient), (_, hessian) = _along(function, (u, found), directions)
        return value, gradient, hessian[: len(u)]

    axes = _target.axes(lanes), 0, 0, 0
    return jax.vmap(one, axes)(lanes, u, found, derivatives)


def energies(family: Family, shared: Shared, lanes: Lane, z) -> np.ndarray:
    """Return the energies at whitened coordinates (lanes, count, size), (lanes, count)."""
    if not isinstance(shared.X, Stored):
        return np.asarray(_energies(family, shared, lanes, z))
    shards, shared, lanes = _apart(shared, lanes)
    at, without = _seen_at(family, shared, lanes, z)
    return np.asarray(_with_sums(family, without, _summed_at(family, shards, at)))


def slopes_of(family: Family, shared: Shared, lanes: Lane) -> Callable:
    """Return a function of whitened coordinates (lanes, count, size) to energies (lanes, count) and gradients.

    Each call goes over the rows once, in blocks that stay in cache.
    """
    shards, shared, lanes = _apart(shared, lanes)
    lanes, of_lane = jax.device_put(lanes), lanes.mask.shape[1]

    def evaluate(z):
        columns = z.shape[0] * z.shape[1] * of_lane
        own = family._replace(block=block_rows(shards.n_features, columns))
        at, _ = _seen_at(family, shared, lanes, z)
        found = _slopes_with_sums(family, shared, lanes, z, _summed_at(own, shards, at))
        return tuple(map(np.asarray, found))

    return evaluate


def _apart(shared: Shared, lanes: Lane) -> tuple[Shards, Shared, Lane]:
    """Return the rows by themselves, and what is left."""
    return _shards_of(shared.X, lanes[:3]), shared._replace(X=None), _without_rows(lanes)


def _summed_at(family: Family, shards: Shards, at):
    """Return what all rows add up to at each of many points of each lane."""
    shape = tuple(a.shape for a in at)
    return shards.map(
        lambda data: _sums_at(family, data, at),
        partial(jax.tree.map, np.add), (_sums_at, family, shape),
    )  # fmt: skip


@partial(jax.jit, static_argnames="family")
def _energies(family: Family, shared: Shared, lanes: Lane, z):
    def one(lane, z):
        return lax.map(partial(_target.energy, family, shared, lane), z, batch_size=_POINTS)

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, z)


@partial(jax.jit, static_argnames="family")
def _seen_at(family: Family, shared: Shared, lanes: Lane, z):
    """Return what the rows see of z, and the energy without them with the logs of dispersions."""

    def one(lane, z):
        def point(z):
            value, *arguments = _target.without_rows(family, shared, lane, z)
            return _target.joined(*arguments), (value, arguments[2])

        return jax.vmap(point)(z)

    return jax.vmap(one, (_target.axes(lanes), 0))(lanes, z)


@partial(jax.jit, static_argnames="family")
def _sums_at(family: Family, data: Data, at):
    """Return what the rows of a shard add up to at each of many points of each lane."""

    def one(data, at):
        return lax.map(lambda at: _target.of_rows(family, data, *at), at, batch_size=_POINTS)

    return _over_lanes(one, data, at)


@partial(jax.jit, static_argnames="family")
def _with_sums(family: Family, without, found):
    def point(without, found):
        value, log_phi = without
        return value + _target.outside_infinite(_target.energy_slopes(family, log_phi, found)[0])

    return jax.vmap(jax.vmap(point))(without, found)


@partial(jax.jit, static_argnames="family")
def _slopes_with_sums(family: Family, shared: Shared, lanes: Lane, z, found):
    """Return energies and gradients in z, given what rows add up to there."""

    def point(lane, z, found):
        def without(z):
            value, *arguments = _target.without_rows(family, shared, lane, z)
            return value, tuple(arguments)

        (value, arguments), pullback = jax.vjp(without, z)
        more, *slopes = _target.energy_slopes(family, arguments[2], found)
        (gradient,) = pullback((jnp.ones_like(value), tuple(slopes)))
        return value + _target.outside_infinite(more), gradient

    each = jax.vmap(point, (None, 0, 0))
    return jax.vmap(each, (_target.axes(lanes), 0, 0))(lanes, z, found)
