"""The no-U-turn sampler on many lanes and chains at once.

All lanes x chains run in lock-step: one program reads the design matrix once for all. That pays only if trees have
about the same depth everywhere, which whitening sees to: the target of every lane is close to a standard normal
distribution. Each lane adapts a step size of its own, on its own chains, and keeps it: skewed lanes need smaller steps
than others, and no draw depends on which lanes run beside it.

References
----------
Hoffman, Gelman (2014), The No-U-Turn Sampler. https://jmlr.org/papers/v15/hoffman14a.html
Betancourt (2017), A Conceptual Introduction to Hamiltonian Monte Carlo. arXiv:1701.02434
"""

from __future__ import annotations

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
# All directions of a whitened normal density turn at the same rate. Trees of 3, 7, 15 steps that span nearly a whole
# turn come back to where they started, do not notice, and go on for a hundred; those that span half to nine tenths of
# one stop there. Steps are taken from these windows, and below them as they are.
_WINDOWS = ((0.23, 0.38), (0.48, 0.75), (1.05, 1.25))
# Next to these only careful steps are smaller: whoever needs less is sampled again, among its like.
_LEAST_STEP = _WINDOWS[0][0]
# Share of a step that a careful one takes.
_CAREFUL = 0.45
# Spread of the starting points, in posterior standard deviations.
OVERDISPERSION = 2.0


class Plan(NamedTuple):
    """How long to warm up, and towards what.

    Trees have up to ``2**depth - 1`` steps. Whitened ones need 3 to 15 where priors are smooth, which pays at a lower
    acceptance; scale mixtures, and what failed once, have narrow places that only small steps enter.
    """

    warmup: int
    acceptance: float
    least_step: float
    snap: bool  # whether steps are kept off resonance
    early_depth: int
    depth: int


SMOOTH = Plan(100, 0.7, _LEAST_STEP, True, 3, 6)
MIXTURE = Plan(300, 0.9, 0.0, False, 5, 8)
AGAIN = Plan(300, 0.95, 0.0, False, 6, 10)


class Chains(NamedTuple):
    """Where all chains are: arrays (lanes, chains, ...), and the adaptation of step sizes (lanes,)."""

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
    exited: Any  # ended at the edge of the domain of the link
    step_size: Any  # (draws, lanes)


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
        z = OVERDISPERSION * drawn.at[len(lane.centre) :].divide(OVERDISPERSION)
        bound = steepest(len(z))

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
    log_step = jnp.full(len(z), jnp.log(jnp.asarray(step, z.dtype)))
    return Chains(z, value, gradient, log_step, log_step)


def steepest(size: int) -> float:
    """Return the norm of a gradient from which on a start lies too far out.

    An exponential link can reach far beyond what the sampler would come back from in time.
    """
    return 20.0 * size


def _transition(family, max_depth, shared, lane, step, depth, z, value, gradient, key):
    key_momentum, key_tree = jax.random.split(key)
    potential = partial(_target.energy, family, shared, lane)
    _, update = velocity_verlet(potential, euclidean_kinetic_energy)
    momentum = jax.random.normal(key_momentum, z.shape)
    tree = build_tree(
        update, euclidean_kinetic_energy, IntegratorState(z, momentum, value, gradient),
        jnp.ones_like(z), step, key_tree, max_tree_depth=(depth, max_depth),
    )  # fmt: skip
    exited = tree.diverging & at_edge(potential, tree, step) if family.edged else False
    draw = Draws(
        tree.z_proposal, tree.z_proposal_pe, value + 0.5 * jnp.sum(jnp.square(momentum)),
        tree.num_proposals, tree.sum_accept_probs / tree.num_proposals, tree.diverging,
        exited, (),
    )  # fmt: skip
    return draw, tree.z_proposal_grad


def at_edge(potential, tree, step):
    """Return whether an end of a tree lies beyond the edge of the domain, or so close that a step uphill leads there.

    Next to the edge the energy may rise like a logarithm, and a step of any size can land where it throws the next one
    off: that says nothing about the posterior, while a divergence in the midst of the domain does.
    """
    beyond = jnp.isnan(tree.z_left_grad).any() | jnp.isnan(tree.z_right_grad).any()
    left, right = jnp.linalg.norm(tree.z_left_grad), jnp.linalg.norm(tree.z_right_grad)
    steep = left > right
    z, slope = jnp.where(steep, tree.z_left, tree.z_right), jnp.where(steep, left, right)
    uphill = jnp.where(steep, tree.z_left_grad, tree.z_right_grad) / slope
    return beyond | jnp.isinf(potential(z + step * uphill))


@partial(jax.jit, static_argnames=("family", "max_depth"))
def advance(
    family: Family, max_depth: int, shared: Shared, lanes: Lane, keys, chains: Chains, plan: Plan,
    first, count,
):  # fmt: skip
    """Take `count` transitions from the `first` on, at most `CHUNK`."""
    many, n_chains, size = chains.z.shape
    cells = jnp.zeros((CHUNK, many, n_chains))
    none = cells > 0
    draws = Draws(
        jnp.zeros((CHUNK, many, n_chains, size)), cells, cells, cells, cells, none, none,
        jnp.zeros((CHUNK, many)),
    )  # fmt: skip

    def one(lane, step, depth, z, value, gradient, key):
        transition = partial(_transition, family, max_depth, shared, lane, step, depth)
        return jax.vmap(transition)(z, value, gradient, key)

    of_lanes = jax.vmap(one, (_target.axes(lanes), 0, None, 0, 0, 0, 0))

    def body(t, carry):
        chains, draws = carry
        i = first + t
        step = steps(chains.log_step, chains.mean_log_step, i, plan)
        depth = jnp.where(i < plan.warmup, plan.early_depth, plan.depth)
        now = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, i)))(keys)
        draw, gradient = of_lanes(lanes, step, depth, chains.z, chains.energy, chains.gradient, now)
        draw = draw._replace(step_size=step)
        draws = jax.tree.map(lambda all_, new: all_.at[t].set(new.astype(all_.dtype)), draws, draw)
        accepted = draw.acceptance.mean(axis=1)
        new = adapted(chains.log_step, chains.mean_log_step, accepted, i, plan)
        return Chains(draw.z, draw.energy, gradient, *new), draws

    return lax.fori_loop(0, count, body, (chains, draws))


def steps(log_step, mean_log_step, i, plan: Plan):
    """Return the step size of each lane in its transition number `i`."""
    careful = jnp.where(_is_careful(i, plan.warmup), _CAREFUL, 1.0)
    frozen = jnp.maximum(jnp.exp(mean_log_step), plan.least_step) * careful
    frozen = jnp.where(plan.snap, off_resonance(frozen), frozen)
    return jnp.where(i < plan.warmup, jnp.exp(log_step) * careful, frozen)


def _is_careful(i, warmup):
    """Return whether a transition takes a small step: every eighth, and every other one early on.

    Where the density falls off faster than at its mode, the usual step can be unstable, and a chain would stay there.
    """
    return (i % 8 == 7) | ((i < warmup // 2) & (i % 2 == 1))


def adapted(log_step, mean_log_step, acceptance, i, plan: Plan):
    """Return log step sizes moved towards the target acceptance (Robbins-Monro), and averages over the second half."""
    active = (i < plan.warmup) & ~_is_careful(i, plan.warmup)
    gain = jnp.where(active, 1.5 * (i + 3.0) ** -0.6, 0.0)
    log_step = log_step + gain * (acceptance - plan.acceptance)
    seen = jnp.maximum(i - plan.warmup // 2, 0.0)
    average = mean_log_step + (log_step - mean_log_step) / (seen + 1.0)
    return log_step, jnp.where(active, average, mean_log_step)


def off_resonance(step):
    """Return the step size next to the given one at which trees stop in time."""
    snapped = step
    for low, high in _WINDOWS:
        snapped = jnp.where(step > 0.8 * low, jnp.clip(step, low, high), snapped)
    return snapped


def first_step(size: int) -> float:
    """Return the step size at which adaptation starts: it falls with the fourth root of the dimension."""
    return 1.4 * size**-0.25


def n_mixing(lanes: Lane) -> int:
    """Return the number of mixing variables of a lane."""
    return 0 if lanes.mixing is None else lanes.mixing.shape.shape[-1]


def run(family, shared, lanes, keys, plan: Plan, num_samples, progress=None):
    """Sample one batch of lanes.

    Parameters
    ----------
    keys : (lanes, chains)
    progress : callable, optional
        Told the number of transitions after each chunk.

    Returns
    -------
    Draws
        As NumPy arrays, warm-up left out.
    """
    step = np.float64(first_step(lanes.centre.shape[-1] + n_mixing(lanes)))
    start_keys = jax.vmap(jax.vmap(lambda k: jax.random.fold_in(k, 2**31 - 1)))(keys)
    chains = start(family, shared, lanes, start_keys, step)
    kept = []
    for first in range(0, plan.warmup + num_samples, CHUNK):
        count = min(CHUNK, plan.warmup + num_samples - first)
        chains, draws = advance(
            family, plan.depth, shared, lanes, keys, chains, plan, first, count
        )  # fmt: skip
        new = slice(max(0, plan.warmup - first), count)
        kept.append(jax.tree.map(lambda a, new=new: np.asarray(a)[new], draws))
        if progress is not None:
            progress(count)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
