"""The no-U-turn sampler on many lanes and chains at once.

All lanes x chains run in lock-step: one program reads the design matrix once for all. That pays only if trees have
about the same depth everywhere, which whitening sees to: the target of every lane is close to a standard normal
distribution, so one step size serves all. It is adapted on a fixed set of pilot lanes and then frozen.

References
----------
Hoffman, Gelman (2014), The No-U-Turn Sampler. https://jmlr.org/papers/v15/hoffman14a.html
Betancourt (2017), A Conceptual Introduction to Hamiltonian Monte Carlo. arXiv:1701.02434
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro.infer.hmc_util import (
    IntegratorState,
    build_tree,
    euclidean_kinetic_energy,
    velocity_verlet,
)

from bayesglm._sampling import _target
from bayesglm._sampling._target import Family, Lane, Shared

# Draws of one call of the compiled program, after which progress is shown and an interrupt is heard.
CHUNK = 50
# Lanes whose acceptance rates decide on the step size.
PILOTS = 8
# Trees of up to 2**depth - 1 steps; whitened trees need 3 to 15 where priors are smooth.
DEPTH, MIXTURE_DEPTH = 6, 8
_WARMUP_DEPTH, _MIXTURE_WARMUP_DEPTH = 3, 5
_TARGET_ACCEPTANCE, _MIXTURE_ACCEPTANCE = 0.7, 0.9
_CAREFUL = 0.45
# All directions of a whitened normal density turn at the same rate. Trees of 3, 7, 15 steps that span nearly a whole
# turn come back to where they started, do not notice, and go on for a hundred; those that span half to nine tenths of
# one stop there. Steps are taken from these windows, and below them as they are.
_WINDOWS = ((0.23, 0.38), (0.48, 0.75), (1.05, 1.25))
# Spread of the starting points, in posterior standard deviations.
_OVERDISPERSION = 2.0


class Chains(NamedTuple):
    """Where all chains are: arrays (lanes, chains, ...), and the adaptation of the common step size."""

    z: Any
    energy: Any
    gradient: Any
    log_step: Any
    mean_log_step: Any


class Draws(NamedTuple):
    """What chains did: arrays (draws, lanes, chains, ...)."""

    z: Any
    energy: Any  # potential
    hamiltonian: Any  # total energy at the start of the transition, for E-BFMI
    steps: Any
    acceptance: Any
    diverging: Any
    exited: Any  # left the domain of the link
    step_size: Any  # (draws,)


def chain_keys(key, neurons, num_chains: int):
    """Return one key for each chain of each neuron, (neurons, chains), whatever the batch."""
    of_neuron = jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(neurons))
    return jax.vmap(lambda k: jax.vmap(partial(jax.random.fold_in, k))(jnp.arange(num_chains)))(
        of_neuron
    )


def _over_chains(function, lanes: Lane, n_arguments: int):
    """Map over lanes, and over the chains within."""
    each = jax.vmap(function, (None,) + (0,) * n_arguments)
    return jax.vmap(each, (_target.axes(lanes),) + (0,) * n_arguments)


@partial(jax.jit, static_argnames="family")
def start(family: Family, shared: Shared, lanes: Lane, keys, step) -> Chains:
    """Return over-dispersed starting points, drawn towards the mode until the density is positive."""

    def one(lane, key):
        evaluate = jax.value_and_grad(partial(_target.energy, family, shared, lane))
        n_mixing = 0 if lane.mixing is None else len(lane.mixing.shape)
        drawn = jax.random.normal(key, (len(lane.centre) + n_mixing,))
        z = _OVERDISPERSION * drawn.at[len(lane.centre) :].divide(_OVERDISPERSION)
        # An exponential link can reach far beyond what the sampler would come back from in time.
        bound = 20.0 * len(z)

        # the first round evaluates the point as it is; one call site compiles in half the time of two
        def shrink(state):
            z, value, _ = state
            z = jnp.where(jnp.isnan(value), 1.0, 0.6) * z
            value, gradient = evaluate(z)
            return z, jnp.where(jnp.isnan(value), jnp.inf, value), gradient

        def far(state):
            z, value, gradient = state
            lost = ~jnp.isfinite(value) | (jnp.sum(jnp.square(gradient)) > bound**2)
            return lost & (jnp.sum(jnp.square(z)) > 1e-12)

        unseen = jnp.full((), jnp.nan, z.dtype)
        return lax.while_loop(far, shrink, (z, unseen, jnp.zeros_like(z)))

    z, value, gradient = _over_chains(one, lanes, 1)(lanes, keys)
    log_step = jnp.log(jnp.asarray(step, z.dtype))
    return Chains(z, value, gradient, log_step, log_step)


def _transition(family, max_depth, shared, lane, z, value, gradient, key, step, depth):
    key_momentum, key_tree = jax.random.split(key)
    potential = partial(_target.energy, family, shared, lane)
    _, update = velocity_verlet(potential, euclidean_kinetic_energy)
    momentum = jax.random.normal(key_momentum, z.shape)
    tree = build_tree(
        update, euclidean_kinetic_energy, IntegratorState(z, momentum, value, gradient),
        jnp.ones_like(z), step, key_tree, max_tree_depth=(depth, max_depth),
    )  # fmt: skip
    ends = jnp.isnan(tree.z_left_grad).any() | jnp.isnan(tree.z_right_grad).any()
    draw = Draws(
        tree.z_proposal, tree.z_proposal_pe, value + 0.5 * jnp.sum(jnp.square(momentum)),
        tree.num_proposals, tree.sum_accept_probs / tree.num_proposals, tree.diverging,
        tree.diverging & ends, step,
    )  # fmt: skip
    return draw, tree.z_proposal_grad


@partial(jax.jit, static_argnames=("family", "max_depth"))
def advance(
    family: Family, max_depth: int, shared: Shared, lanes: Lane, keys, pilots, chains: Chains,
    schedule, adapt, warmup, first, count,
):  # fmt: skip
    """Take `count` transitions from the `first` on, at most `CHUNK`.

    Parameters
    ----------
    pilots : array (lanes,)
        Weights of the lanes in the adaptation of the step size.
    schedule : array (CHUNK,)
        Step sizes to take, unless `adapt`.
    warmup : int
        Number of transitions that adapt the step size.
    """
    many, n_chains, size = chains.z.shape
    cells = jnp.zeros((CHUNK, many, n_chains))
    none = cells > 0
    draws = Draws(
        jnp.zeros((CHUNK, many, n_chains, size)), cells, cells, cells, cells, none, none,
        jnp.zeros(CHUNK),
    )  # fmt: skip

    def body(t, carry):
        chains, draws = carry
        i = first + t
        adapted = jnp.where(i < warmup, chains.log_step, chains.mean_log_step)
        careful = _is_careful(i, warmup)
        own = jnp.exp(adapted) * jnp.where(careful, _CAREFUL, 1.0)
        if not family.mixture:
            own = jnp.where(i < warmup, own, off_resonance(own))
        step = jnp.where(adapt, own, schedule[t])
        early = _MIXTURE_WARMUP_DEPTH if family.mixture else _WARMUP_DEPTH
        depth = jnp.where(i < warmup, early, max_depth)

        def one(lane, z, value, gradient, key):
            return _transition(
                family, max_depth, shared, lane, z, value, gradient,
                jax.random.fold_in(key, i), step, depth,
            )  # fmt: skip

        draw, gradient = _over_chains(one, lanes, 4)(
            lanes, chains.z, chains.energy, chains.gradient, keys
        )
        draw = draw._replace(step_size=step)
        draws = jax.tree.map(lambda all_, new: all_.at[t].set(new.astype(all_.dtype)), draws, draw)
        active = (i < warmup) & ~careful
        target = _MIXTURE_ACCEPTANCE if family.mixture else _TARGET_ACCEPTANCE
        log_step, mean = _adapt(chains, draw, pilots, i, warmup, active, target)
        return Chains(draw.z, draw.energy, gradient, log_step, mean), draws

    return lax.fori_loop(0, count, body, (chains, draws))


def _is_careful(i, warmup):
    """Return whether a transition takes a small step: every eighth, and every other one early on.

    Where the density falls off faster than at its mode, the common step can be unstable, and a chain would stay there.
    """
    return (i % 8 == 7) | ((i < warmup // 2) & (i % 2 == 1))


def _adapt(chains: Chains, draw: Draws, pilots, i, warmup, active, target):
    """Move the log step size towards the target acceptance (Robbins-Monro), averaging over the second half."""
    mean = jnp.sum(pilots * draw.acceptance.mean(axis=1)) / jnp.sum(pilots)
    gain = 1.5 * (i + 3.0) ** -0.6
    log_step = chains.log_step + jnp.where(active, gain * (mean - target), 0.0)
    seen = jnp.maximum(i - warmup // 2, 0.0)
    average = chains.mean_log_step + (log_step - chains.mean_log_step) / (seen + 1.0)
    return log_step, jnp.where(active, average, chains.mean_log_step)


def off_resonance(step):
    """Return the step size next to the given one at which trees stop in time."""
    snapped = step
    for low, high in _WINDOWS:
        snapped = jnp.where(step > 0.8 * low, jnp.clip(step, low, high), snapped)
    return snapped


def first_step(size: int) -> float:
    """Return the step size at which adaptation starts: it falls with the fourth root of the dimension."""
    return 1.4 * size**-0.25


class Schedule:
    """Step sizes that the first batch takes, chunk by chunk; the other batches wait for them."""

    def __init__(self):
        self._chunks: list[np.ndarray] = []
        self._ended = False
        self._changed = threading.Condition()

    def put(self, steps) -> None:
        """Add the steps of the next chunk."""
        with self._changed:
            self._chunks.append(steps)
            self._changed.notify_all()

    def end(self) -> None:
        """Let those that wait, or come back for more, fail."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def get(self, chunk: int) -> np.ndarray:
        """Return the steps of a chunk, once they are known.

        Raises
        ------
        InterruptedError
            After :meth:`end`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._chunks) > chunk)
            if self._ended:
                raise InterruptedError("Sampling was stopped.")
            return self._chunks[chunk]


def run(
    family, shared, lanes, keys, pilots, num_warmup, num_samples, schedule, leads, progress=None
):
    """Sample one batch of lanes.

    Parameters
    ----------
    keys : (lanes, chains)
    pilots : array (lanes,)
    schedule : Schedule
    leads : bool
        Whether this batch adapts the step size, or takes over what another one found.
    progress : callable, optional
        Told the number of transitions after each chunk.

    Returns
    -------
    Draws
        As NumPy arrays, warm-up left out.
    """
    n_mixing = 0 if lanes.mixing is None else lanes.mixing.shape.shape[-1]
    step = np.float64(first_step(lanes.centre.shape[-1] + n_mixing))
    start_keys = jax.vmap(jax.vmap(lambda k: jax.random.fold_in(k, 2**31 - 1)))(keys)
    chains = start(family, shared, lanes, start_keys, step)
    depth = MIXTURE_DEPTH if family.mixture else DEPTH
    kept = []
    for first in range(0, num_warmup + num_samples, CHUNK):
        count = min(CHUNK, num_warmup + num_samples - first)
        steps = np.zeros(CHUNK) if leads else schedule.get(first // CHUNK)
        chains, draws = advance(
            family, depth, shared, lanes, keys, pilots, chains, steps, leads, num_warmup, first, count
        )  # fmt: skip
        if leads:
            schedule.put(np.asarray(draws.step_size))
        new = slice(max(0, num_warmup - first), count)
        kept.append(jax.tree.map(lambda a, new=new: np.asarray(a)[new], draws))
        if progress is not None:
            progress(count)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
