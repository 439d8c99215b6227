"""From posteriors to draws: modes, parametrisation, batches of neurons, and a second try for those that fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.diagnostics import split_gelman_rubin
from scipy.special import ndtri
from scipy.stats import rankdata

from bayesglm._design import Stored
from bayesglm._progress import Share
from bayesglm._sampling import _curvature, _laplace, _nuts, _streamed, _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.prior import mixture
from bayesglm.rows import cores

_log = logging.getLogger(__name__)

# Above this product of prior rate and likelihood standard error a prior with a kink is sampled as a scale mixture:
# measured, either form is up to forty times better on its side.
MIXTURE_FROM = 1.5
# What lanes must meet, or they are sampled again with smaller steps, deeper trees and a longer warm-up.
_MAX_RHAT = 1.05
_MAX_DEPTH_HITS = 0.05
# Bytes of draws and rows that all batches under way may hold.
_BATCH_BYTES = 1 << 30
# Lanes that are not worth a thread of their own.
_LEAST_BATCH = 8


class Options(NamedTuple):
    """How to sample."""

    method: str
    num_samples: int
    num_chains: int
    num_warmup: int | None
    batch_size: int | None
    key: Any
    progress: Share  # told the phase and the share that is done
    check: Callable | None  # told how well each predictor is known, (lanes,); may raise


class Sampled(NamedTuple):
    """Draws; arrays (chains, draws, lanes, ...)."""

    coef: np.ndarray  # (..., columns, features)
    intercept: np.ndarray  # (..., columns)
    log_scale: np.ndarray  # (..., responses); empty where it is fixed
    stats: dict[str, np.ndarray]
    khat: np.ndarray | None  # (lanes,) of the normal approximation,
    effective: np.ndarray | None  # (lanes,) and its effective number of draws
    mixture: np.ndarray  # bool (lanes,)
    retried: np.ndarray  # bool (lanes,)
    settled: np.ndarray  # bool (lanes,): chains agree
    mode: tuple  # coefficients (lanes, columns, features) and intercepts at the mode


def take(lanes: Lane, index) -> Lane:
    """Return some of the lanes; without a copy of their rows if they lie beside one another."""
    many = lanes.y.shape[0]
    if len(index) and (np.diff(index) == 1).all():
        index = slice(index[0], index[-1] + 1)
    return jax.tree.map(lambda a: a[index] if a.shape[0] == many else a, lanes)


def _part(shared: Shared, lanes: Lane, batch) -> Lane:
    """Return the lanes of a batch; their rows are put on the device with those of X."""
    part = take(lanes, batch)
    return part if isinstance(shared.X, Stored) else jax.device_put(part)


def posteriors(family: Family, shared: Shared, lanes: Lane, u, options: Options) -> Sampled:
    """Sample all lanes.

    Parameters
    ----------
    u : array (lanes, size)
        Where to look for the modes.
    """
    width = batch_width(family, shared, lanes, options)
    centre, whiten = np.empty_like(lanes.centre), np.empty(lanes.whiten.shape)
    options.progress.phase("modes")
    for batch in batches(len(u), width):
        part = _part(shared, lanes, batch)
        centre[batch], whiten[batch], _ = _laplace.find_modes(family, shared, part, u[batch])
    if options.check is not None:
        options.check(_curvature.predictor_error(family, shared.X, whiten))
    lanes = lanes._replace(centre=centre, whiten=whiten)
    if options.method == "laplace":
        return _approximate(family, shared, lanes, width, options)
    mixture = choose_mixture(family, lanes)
    _log.debug(
        "%d lanes, of which %d as scale mixtures, in batches of %d", len(u), mixture.sum(), width
    )
    parts = []
    for mixed in (False, True):
        index = np.flatnonzero(mixture == mixed)
        if len(index):
            parts.append((index, _sample(family, shared, lanes, index, mixed, width, options)))
    return _joined(parts, mixture)


def batch_width(family: Family, shared: Shared, lanes: Lane, options: Options) -> int:
    """Return the number of lanes in one batch: that asked for, or a share for each core.

    Rows in a file are read for each batch anew, by all cores: there as many lanes as fit are one, and their responses
    are not copied.
    """
    many = len(lanes.centre)
    if options.batch_size is not None:
        return min(many, options.batch_size)
    rows, size = len(shared.X), lanes.centre.shape[1]
    if isinstance(shared.X, Stored):
        rows = 0
    draws = options.num_chains * (options.num_samples + _nuts.CHUNK) * size
    each = 8 * (3 * rows * family.responses + 2 * draws + 4 * size**2)
    most = -(-min(_BATCH_BYTES // each, many) // _side_by_side(shared))
    return int(np.clip(most, min(many, _LEAST_BATCH), many))


def _side_by_side(shared: Shared) -> int:
    """Return the number of batches that run at the same time."""
    return 1 if isinstance(shared.X, Stored) else cores()


def batches(many: int, width: int):
    """Cut lanes into batches of one width; the last one is filled up with the first lanes."""
    order = np.arange(many)
    for first in range(0, many, width):
        batch = order[first : first + width]
        yield np.concatenate([batch, order[: width - len(batch)]])


# -- kinks -----------------------------------------------------------------------------------------


def _weights(family: Family, lanes: Lane):
    """Return n times kappa (lanes, columns, 1) at the modes."""
    log_phi = lanes.centre[:, -family.responses :] if family.sampled else lanes.log_scale
    each = jax.vmap(partial(_target.weights, family), (_target.axes(lanes), 0))
    return np.asarray(each(lanes, jnp.asarray(log_phi)))


def choose_mixture(family: Family, lanes: Lane) -> np.ndarray:
    """Return which lanes are better sampled with their kinked priors as scale mixtures of normals."""
    weight = _weights(family, lanes)
    mixing = mixture.mixing_of(lanes.prior, lanes.mask, weight)
    if mixing is None:
        return np.zeros(len(lanes.centre), bool)
    rate, prior_sd = mixture.kink_scale(mixing, weight)
    n_coef = lanes.mask[0].size
    # with a normal prior of that width: 1 / var = 1 / var_likelihood + 1 / var_prior
    variance = np.sum(np.square(lanes.whiten[:, :n_coef]), axis=2).reshape(rate.shape)
    precision = np.maximum(1.0 / variance - 1.0 / np.square(prior_sd), 1e-300)
    rho = np.where(mixing.member >= 0, rate / np.sqrt(precision), 0.0)
    return rho.max(axis=(1, 2)) > MIXTURE_FROM


def true_modes(family: Family, shared: Shared, lanes: Lane, sampled: Sampled, options: Options):
    """Return the modes of the joint density given the dispersion, kinks as they are, where `fit` does not know a prior.

    The dispersion is fixed at its posterior median.

    Returns
    -------
    : tuple
        Coefficients (lanes, columns, features), intercepts (lanes, columns) and dispersions (lanes, responses or none).
    """
    u = _target.from_columns(family, *sampled.mode)
    scale = sampled.log_scale[0, 0]
    if family.sampled:
        lanes = lanes._replace(log_scale=np.median(sampled.log_scale, axis=(0, 1)))
        scale = np.exp(lanes.log_scale)
    family = family._replace(sampled=False)
    kinks, smooth = None, lanes
    if not lanes.prior.smooth:
        kinks = lanes.prior.kinks.scaled(_weights(family, lanes))
        kinks = kinks.blocked(lanes.mask.shape[1:], u.shape[1])
        smooth = lanes._replace(prior=lanes.prior.quadratic)
    for batch in batches(len(u), batch_width(family, shared, smooth, options)):
        part = _part(shared, smooth, batch)
        some = None if kinks is None else kinks.select(batch)
        u[batch], *_ = _laplace.find_modes(family, shared, part, u[batch], some, _laplace.CLOSER)
    coordinates, intercept, _ = _target.split(family, u, lanes.mask.shape[-1])
    coef, intercept = _target.to_columns(family, coordinates, intercept)
    return np.where(lanes.mask, coef, 0.0), intercept, scale


def as_mixture(family: Family, lanes: Lane) -> tuple[Family, Lane]:
    """Return the same posteriors with scale mixtures in place of priors with a kink."""
    mixing = mixture.mixing_of(lanes.prior, lanes.mask, _weights(family, lanes))
    power = mixture.power(lanes.prior, mixing, lanes.mask, family.responses)
    return family._replace(mixture=True), lanes._replace(mixing=mixing, power=power)


# -- batches ---------------------------------------------------------------------------------------


def _sample(family, shared, lanes, index, mixed, width, options: Options) -> Sampled:
    some = take(lanes, index)
    if mixed:
        family, some = as_mixture(family, some)
    plan = _nuts.MIXTURE if mixed else _nuts.SMOOTH
    if options.num_warmup is not None:
        plan = plan._replace(warmup=options.num_warmup)
    share = len(index) / len(lanes.centre)
    keys = _nuts.chain_keys(options.key, index, options.num_chains)
    found = _in_batches(family, shared, some, keys, plan, min(width, len(index)), options, share)
    failed = np.flatnonzero(_fails(found))
    if len(failed):
        options.progress.phase(f"again {len(failed)}")
        _log.debug("lanes %s are sampled again, with smaller steps", index[failed])
        plan = _nuts.AGAIN._replace(warmup=max(_nuts.AGAIN.warmup, plan.warmup))
        keys = _nuts.chain_keys(
            jax.random.fold_in(options.key, 1), index[failed], options.num_chains
        )
        again = take(some, failed)
        width = batch_width(family, shared, again, options)
        again = _in_batches(family, shared, again, keys, plan, width, options, 0.0)
        for old, new in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
            old[:, :, failed] = new
    retried = np.isin(np.arange(len(index)), failed)
    settled = _rhat(found) <= _allowed_rhat(found)
    mixture, mode = np.full(len(index), mixed), modes(family, some)
    return Sampled(*found, None, None, mixture, retried, settled, mode)


def _in_batches(family, shared, lanes, keys, plan, width, options: Options, share):
    """Return coefficients, intercepts, log scales and statistics of all lanes, (chains, draws, lanes, ...).

    Batches run side by side, each in a thread of its own; no draw depends on the batch of its lane.
    """
    many = len(lanes.centre)
    ordered, stopped = list(batches(many, width)), threading.Event()

    def sample(batch):
        # The scope of the precision belongs to a thread.
        with jax.enable_x64(True):
            part = _part(shared, lanes, batch)
            tell = _progress(options, plan.warmup, share / len(ordered), batch[0] == 0, stopped)
            run = _streamed.of_lanes if isinstance(shared.X, Stored) else _nuts.run
            draws = run(family, shared, part, keys[batch], plan, options.num_samples, tell)
            return _to_parameters(family, part, draws, plan.depth)

    with ThreadPoolExecutor(_side_by_side(shared)) as pool:
        jobs = [pool.submit(sample, batch) for batch in ordered]
        try:
            parts = [job.result() for job in jobs]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return jax.tree.map(lambda *a: np.concatenate(a, axis=2)[:, :, :many], *parts)


def _progress(options: Options, warmup: int, share: float, leads: bool, stopped: threading.Event):
    """Return what tells of transitions of a batch, and ends it where another one failed or was interrupted.

    The phase is that of the batch that leads.
    """
    length, done = warmup + options.num_samples, 0

    def tell(count):
        nonlocal done
        if stopped.is_set():
            raise InterruptedError("Sampling was stopped.")
        done += count
        if leads and share:
            options.progress.phase("warm-up" if done < warmup else "sampling")
        _log.debug("%.0f of %d transitions", done, length)
        options.progress(count / length * share)

    return tell


def _to_parameters(family: Family, lanes: Lane, draws: _nuts.Draws, depth: int):
    """Return (coef, intercept, log scale, statistics), each (chains, draws, lanes, ...)."""
    z = np.moveaxis(draws.z, 2, 0)
    stats = {
        "diverging": draws.diverging & ~draws.exited,
        "left_domain": draws.exited,
        "n_steps": draws.steps.astype(np.int64),
        "tree_depth": np.ceil(np.log2(draws.steps + 1)).astype(np.int64),
        "acceptance_rate": draws.acceptance,
        "energy": draws.hamiltonian,
        "lp": -draws.energy,
        "step_size": np.broadcast_to(draws.step_size[..., None], draws.energy.shape),
    }
    stats["reached_max_treedepth"] = stats["tree_depth"] >= depth
    stats = {name: np.moveaxis(values, 2, 0) for name, values in stats.items()}
    return (*parameters(family, lanes, z), stats)


def parameters(family: Family, lanes: Lane, z):
    """Turn whitened coordinates (chains, draws, lanes, size) into coefficients, intercepts and log scales."""
    lanes = jax.tree.map(np.asarray, lanes)
    size, n_features = lanes.centre.shape[-1], lanes.mask.shape[-1]
    u = lanes.centre + np.einsum("lij,cdlj->cdli", lanes.whiten, z[..., :size], optimize=True)
    coordinates, intercept, log_scale = _target.split(family, u, n_features)
    coef, intercept = _target.to_columns(family, coordinates, intercept)
    if family.mixture:
        coef = _unmix(family, lanes, coef, log_scale, z[..., size:])
    return np.where(lanes.mask, coef, 0.0), intercept, log_scale


def modes(family: Family, lanes: Lane):
    """Return coefficients and intercepts at the modes."""
    family = family._replace(mixture=False)
    z = np.zeros((1, 1, *lanes.centre.shape))
    coef, intercept, _ = parameters(family, lanes._replace(mixing=None), z)
    return coef[0, 0], intercept[0, 0]


@partial(jax.jit, static_argnames="family")
def _unmixed(family: Family, lanes: Lane, coef, log_phi, log_mixing):
    one = lambda lane, *args: _target.mixed(family, lane, *args)[0]  # noqa: E731
    each = jax.vmap(jax.vmap(one, (None, 0, 0, 0)), (None, 0, 0, 0))
    return jax.vmap(each, (_target.axes(lanes), 2, 2, 2), 2)(lanes, coef, log_mixing, log_phi)


def _unmix(family, lanes, coef, log_scale, z):
    log_phi = log_scale if family.sampled else np.broadcast_to(
        lanes.log_scale, (*z.shape[:3], lanes.log_scale.shape[-1])
    )  # fmt: skip
    log_mixing = lanes.mixing.location + lanes.mixing.spread * z
    return np.asarray(_unmixed(family, lanes, coef, log_phi, log_mixing))


# -- checks and second tries -----------------------------------------------------------------------


def _rhat(sampled) -> np.ndarray:
    """Return the largest split R-hat of each lane; of ranks where that of the draws is large.

    A few draws far out inflate the plain one, and ranking all draws would take longer than to draw them.
    """
    flat = [a.reshape(*a.shape[:3], -1) for a in sampled[:3]]
    draws = np.concatenate(flat, axis=-1)
    found = _split_rhat(draws)
    suspect = found > _allowed_rhat(sampled)
    if suspect.any():
        values = draws[..., suspect]
        ranks = rankdata(values.reshape(-1, values.shape[-1]), axis=0)
        found[suspect] = _split_rhat(
            ndtri((ranks - 0.375) / (len(ranks) + 0.25)).reshape(values.shape)
        )
    return found.max(axis=-1)


def _allowed_rhat(sampled) -> float:
    """Return the limit of R-hat: short runs scatter more."""
    return 1.0 + (_MAX_RHAT - 1.0) * max(1.0, 200 / sampled[0].shape[1])


def _fails(sampled) -> np.ndarray:
    """Return the lanes whose chains diverge, disagree, or run into the cap of their trees."""
    stats = sampled[3]
    hits = stats["reached_max_treedepth"].mean(axis=(0, 1))
    diverging = stats["diverging"].any(axis=(0, 1))
    return (_rhat(sampled) > _allowed_rhat(sampled)) | diverging | (hits > _MAX_DEPTH_HITS)


def _split_rhat(values) -> np.ndarray:
    """Return the split R-hat of draws (chains, draws, ...); 1 for constants."""
    found = split_gelman_rubin(values)
    return np.where(np.isnan(found), 1.0, found)


def _joined(parts, mixture) -> Sampled:
    if len(parts) == 1:
        return parts[0][1]
    back = np.argsort(np.concatenate([index for index, _ in parts]), kind="stable")
    both = [sampled for _, sampled in parts]
    join = lambda axis: lambda *a: np.take(np.concatenate(a, axis), back, axis)  # noqa: E731
    arrays = jax.tree.map(join(2), *[tuple(s[:4]) for s in both])
    retried, settled, mode = (
        jax.tree.map(join(0), *[getattr(s, name) for s in both])
        for name in ("retried", "settled", "mode")
    )
    return Sampled(*arrays, None, None, mixture, retried, settled, mode)


# -- normal approximation --------------------------------------------------------------------------


def _approximate(family, shared, lanes, width, options: Options) -> Sampled:
    many, count = len(lanes.centre), options.num_samples * options.num_chains
    size = lanes.centre.shape[1]
    z, energy = np.empty((many, count, size)), np.empty((many, count))
    khat, effective = np.empty(many), np.empty(many)
    for batch in batches(many, width):
        part = _part(shared, lanes, batch)
        keys = _nuts.chain_keys(options.key, batch, 1)[:, 0]
        drawn = _laplace.draw(family, shared, part, keys, count)
        z[batch], khat[batch], energy[batch], effective[batch] = drawn
    shape = (many, options.num_chains, options.num_samples)
    z = np.moveaxis(z.reshape(*shape, size), 0, 2)
    stats = {"lp": -np.moveaxis(energy.reshape(shape), 0, 2)}
    none = np.zeros(many, bool)
    values = parameters(family, lanes, z)
    mode = modes(family, lanes)
    return Sampled(*values, stats, khat, effective, none, none, ~none, mode)
