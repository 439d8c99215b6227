"""The no-U-turn sampler for rows that are read anew in every step.

Trees are built in NumPy, leaf by leaf, by all chains of all lanes at once: a step of these is one call of a function,
which is one pass over the rows. Nothing else is known of them. No chain waits for the tree of another one, except in
the warm-up for the others of its lane, with which it shares a step size. Plan, step sizes and statistics are those of
:mod:`bayesglm._sampling._nuts`; random numbers belong to chains, so that no draw depends on which lanes run beside it.

References
----------
Betancourt (2017), A Conceptual Introduction to Hamiltonian Monte Carlo, appendix A. arXiv:1701.02434
Phan, Pradhan, Jankowiak (2019), Composable Effects for Flexible and Accelerated Probabilistic Programming in NumPyro,
whose checkpoints tell without recursion whether a part of a tree turns back. arXiv:1912.11554
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import expit

from bayesglm._sampling import _nuts, _passes
from bayesglm._sampling._nuts import Draws, Plan

# Error of the energy from which on a trajectory has diverged.
_DIVERGED = 1000.0
# Share of its distance from the mode that a start keeps each time that it lies too far out.
_NEARER = 0.6

_steps, _adapted = jax.jit(_nuts.steps), jax.jit(_nuts.adapted)


class Points(NamedTuple):
    """Positions of chains with their energies and gradients."""

    z: np.ndarray  # (chains, size)
    energy: np.ndarray  # (chains,)
    gradient: np.ndarray

    @classmethod
    def at(cls, evaluate: Callable, z) -> Points:
        """Return the points at positions; the energy is infinite where there is no density."""
        energy, gradient = evaluate(z)
        return cls(z, np.where(np.isnan(energy), np.inf, energy), gradient)

    def take(self, which, other: Points, these=None) -> None:
        """Put points of another array (by default those of the same chains) in the place of some."""
        for mine, its in zip(self, other, strict=True):
            mine[which] = its[which if these is None else these]


def run(
    evaluate: Callable, keys, size: int, plan: Plan, num_samples: int,
    n_mixing: int = 0, edged: bool = False, progress: Callable | None = None,
) -> Draws:  # fmt: skip
    """Sample lanes of which energies are known at one point of each chain at a time.

    Parameters
    ----------
    evaluate
        Function of whitened coordinates (lanes, chains, size) to energies (lanes, chains) and their gradients.
    keys : (lanes, chains)
    n_mixing
        How many of the last coordinates start at the width of their prior.
    edged
        Whether there may be an edge of the domain.
    progress
        Told after each pass the number of transitions made since the last one, a mean over chains.
    """
    shape, flat = keys.shape, lambda a: a.reshape(-1, *a.shape[2:])

    def of_chains(z):
        return tuple(flat(np.asarray(a)) for a in evaluate(z.reshape(*shape, size)))

    noise = [np.random.default_rng(np.asarray(k)) for k in jax.random.key_data(keys.reshape(-1))]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        points = _start(of_chains, noise, size, n_mixing)
        trees = _Trees(of_chains, noise, points, plan.depth, edged)
        return _sample(trees, shape, plan, num_samples, progress or (lambda count: None))


def of_lanes(family, shared, lanes, keys, plan: Plan, num_samples: int, progress=None) -> Draws:
    """Sample one batch of lanes whose rows are in a file, as :func:`bayesglm._sampling._nuts.run` does others."""
    evaluate, n_mixing = _passes.slopes_of(family, shared, lanes), _nuts.n_mixing(lanes)
    size = lanes.centre.shape[-1] + n_mixing
    return run(evaluate, keys, size, plan, num_samples, n_mixing, family.edged, progress)


def _start(evaluate, noise, size: int, n_mixing: int) -> Points:
    """Return over-dispersed starting points, drawn towards the mode until the density is positive."""
    z = np.stack([each.standard_normal(size) for each in noise])
    z[:, : size - n_mixing] *= _nuts.OVERDISPERSION
    while True:
        points = Points.at(evaluate, z)
        steep = np.sum(np.square(points.gradient), axis=1) > _nuts.steepest(size) ** 2
        far = (~np.isfinite(points.energy) | steep) & (np.sum(np.square(z), axis=1) > 1e-12)
        if not far.any():
            return points
        z = np.where(far[:, None], _NEARER * z, z)


def _sample(trees: _Trees, shape, plan: Plan, num_samples: int, progress: Callable) -> Draws:
    """Let each chain take its transitions, and adapt the step sizes of lanes whose chains wait for it."""
    length, chains = plan.warmup + num_samples, shape[0] * shape[1]
    draws = _empty(num_samples, chains, trees.points.z.shape[1])
    log_step = mean_log_step = np.full(shape[0], np.log(_nuts.first_step(trees.points.z.shape[1])))
    made, step = np.zeros(chains, int), np.zeros(chains)
    while True:
        by_lane = made.reshape(shape)
        waiting = ~trees.growing & (made < length)
        level = ~trees.growing.reshape(shape).any(axis=1) & (np.ptp(by_lane, axis=1) == 0)
        due = level & (by_lane[:, 0] > 0) & (by_lane[:, 0] <= plan.warmup)
        if due.any():
            accepted = trees.acceptance.reshape(shape).mean(axis=1)
            new = _adapted(log_step, mean_log_step, accepted, by_lane[:, 0] - 1.0, plan)
            log_step, mean_log_step = np.where(due, np.stack(new), (log_step, mean_log_step))
        begin = np.flatnonzero(waiting & (np.repeat(level, shape[1]) | (made > plan.warmup)))
        if len(begin):
            sizes = (np.repeat(a, shape[1]) for a in (log_step, mean_log_step))
            step[begin] = np.asarray(_steps(*sizes, made, plan))[begin]
            trees.begin(begin, step, np.where(made < plan.warmup, plan.early_depth, plan.depth))
        elif not trees.growing.any():
            return _shaped(draws, shape)
        ended = trees.grow()
        kept = ended[made[ended] >= plan.warmup]
        for all_, new in zip(draws, trees.draw(step), strict=True):
            all_[made[kept] - plan.warmup, kept] = new[kept]
        made[ended] += 1
        progress(len(ended) / chains)


def _empty(num_samples: int, chains: int, size: int) -> Draws:
    number, flag = np.zeros((num_samples, chains)), np.zeros((num_samples, chains), bool)
    copies = [number.copy() for _ in range(4)]
    z = np.zeros((num_samples, chains, size))
    return Draws(z, *copies, flag, flag.copy(), number)


def _shaped(draws: Draws, shape) -> Draws:
    draws = Draws(*(a.reshape(len(a), *shape, *a.shape[2:]) for a in draws))
    return draws._replace(step_size=draws.step_size[..., 0])


class _Trees:
    """One trajectory of each chain; arrays (chains, ...).

    A tree of ``2**depth`` leaves is doubled by a new half on one of its sides. What a half adds counts only once it is
    complete and no part of it turns back.
    """

    def __init__(self, evaluate: Callable, noise, points: Points, depth: int, edged: bool):
        chains, size = points.z.shape
        self._evaluate, self._noise, self._edged = evaluate, noise, edged
        self.points, self._tree, self._half = (Points(*map(np.array, points)) for _ in range(3))
        self.growing = np.zeros(chains, bool)
        self.acceptance = np.zeros(chains)
        empty = lambda *lead: np.zeros((*lead, size))  # noqa: E731
        # of both ends
        self._z, self._r, self._gradient = empty(2, chains), empty(2, chains), empty(2, chains)
        self._weight, self._half_weight = np.zeros(chains), np.zeros(chains)
        self._sum, self._half_sum = empty(chains), empty(chains)
        # momenta at leaves where parts begin, and sums up to them
        self._first, self._sum_to = empty(depth, chains), empty(depth, chains)
        self._step, self._hamiltonian, self._accepted = np.zeros((3, chains))
        self._side, self._leaves, self._steps, self._depth, self._most = np.zeros((5, chains), int)
        self._diverging, self._exited = np.zeros((2, chains), bool)

    def begin(self, chains, step, most) -> None:
        """Begin trees of at most so many doublings."""
        for k in chains:
            self._r[:, k] = self._noise[k].standard_normal(self._r.shape[2])
        momentum = self._r[0, chains]
        self._z[:, chains] = self.points.z[chains]
        self._gradient[:, chains] = self.points.gradient[chains]
        self._tree.take(chains, self.points)
        self._sum[chains], self._weight[chains] = momentum, 0.0
        self._hamiltonian[chains] = self.points.energy[chains] + _kinetic(momentum)
        self._step[chains], self._most[chains] = step[chains], most[chains]
        self._accepted[chains] = self._steps[chains] = self._depth[chains] = 0
        self._diverging[chains] = self._exited[chains] = False
        self.growing[chains] = True
        self._turn(chains)

    def _turn(self, chains) -> None:
        """Choose the side on which a tree grows."""
        self._side[chains] = self._uniform(chains) < 0.5
        self._leaves[chains] = 0

    def _uniform(self, chains) -> np.ndarray:
        return np.array([self._noise[k].random() for k in chains])

    def grow(self) -> np.ndarray:
        """Add a leaf to each growing tree, by one step at one of its ends; return the chains whose trees have ended."""
        chains = np.flatnonzero(self.growing)
        leaf, momentum = self._leapfrog(chains)
        lost = leaf.energy[chains] + _kinetic(momentum) - self._hamiltonian[chains]
        lost = np.where(np.isnan(lost), np.inf, lost)
        self._accepted[chains] += np.exp(-np.maximum(lost, 0.0))
        self._steps[chains] += 1
        self._diverging[chains] = lost > _DIVERGED
        self._propose(chains, leaf, momentum, -lost)
        broken = self._diverging[chains] | self._turns_within(chains, momentum)
        self._leaves[chains] += 1
        full = broken | (self._leaves[chains] == 1 << self._depth[chains])
        return self._join(chains[full], broken[full])

    def _leapfrog(self, chains) -> tuple[Points, np.ndarray]:
        """Step from the ends on which trees grow; return the points of all chains, and the momenta of these."""
        end = self._side[chains], chains
        step = (np.where(self._side[chains], 1.0, -1.0) * self._step[chains])[:, None]
        half = self._r[end] - 0.5 * step * self._gradient[end]
        z = self.points.z.copy()
        z[chains] = self._z[end] + step * half
        leaf = Points.at(self._evaluate, z)
        self._z[end], self._gradient[end] = z[chains], leaf.gradient[chains]
        self._r[end] = half - 0.5 * step * leaf.gradient[chains]
        return leaf, self._r[end]

    def _propose(self, chains, leaf: Points, momentum, weight) -> None:
        """Let leaves replace the proposals of their halves, with the probability of their share of the weight."""
        first = self._leaves[chains] == 0
        before = np.where(first, -np.inf, self._half_weight[chains])
        chosen = first | (self._uniform(chains) < expit(weight - before))
        self._half.take(chains[chosen], leaf)
        self._half_weight[chains] = np.logaddexp(before, weight)
        self._half_sum[chains] = momentum + np.where(first[:, None], 0.0, self._half_sum[chains])

    def _turns_within(self, chains, momentum) -> np.ndarray:
        """Return whether a part of a half that ends with its last leaf turns back, and keep where parts begin.

        Leaf n is the last one of as many parts, of 2, 4, 8, ... leaves, as its number has trailing ones. A part begins
        at the checkpoint of as many ones as there are before these.
        """
        n = self._leaves[chains]
        last = np.bitwise_count(n >> 1).astype(int)
        least = last - np.bitwise_count((~n & (n + 1)) - 1).astype(int) + 1
        even = n % 2 == 0
        at = last[even], chains[even]
        self._first[at], self._sum_to[at] = momentum[even], self._half_sum[chains[even]]
        turns = np.zeros(len(chains), bool)
        for k in range(len(self._first)):
            some = np.flatnonzero((least <= k) & (k <= last))
            its = chains[some]
            first = self._first[k, its]
            total = self._half_sum[its] - self._sum_to[k, its] + first
            turns[some] |= _turns(first, momentum[some], total)
        return turns

    def _join(self, chains, broken) -> np.ndarray:
        """Join complete halves to their trees; return the chains whose trees end, and go on with the others."""
        ratio = np.exp(np.minimum(self._half_weight[chains] - self._weight[chains], 0.0))
        chosen = ~broken & (self._uniform(chains) < ratio)
        self._tree.take(chains[chosen], self._half)
        self._weight[chains] = np.logaddexp(self._weight[chains], self._half_weight[chains])
        self._sum[chains] += self._half_sum[chains]
        self._depth[chains] += 1
        over = broken | _turns(self._r[0, chains], self._r[1, chains], self._sum[chains])
        over |= self._depth[chains] >= self._most[chains]
        self._turn(chains[~over])
        return self._end(chains[over])

    def _end(self, chains) -> np.ndarray:
        self.growing[chains] = False
        self.acceptance[chains] = self._accepted[chains] / self._steps[chains]
        if self._edged and self._diverging[chains].any():
            out = chains[self._diverging[chains]]
            self._exited[out] = self._at_edge(out)
        self.points.take(chains, self._tree)
        return chains

    def _at_edge(self, chains) -> np.ndarray:
        """Return whether trees have left the domain of the link, or a step uphill from an end would.

        See :func:`bayesglm._sampling._nuts.at_edge`.
        """
        gradient, every = self._gradient[:, chains], np.arange(len(chains))
        beyond = np.isnan(gradient).any(axis=(0, 2))
        slope = np.linalg.norm(gradient, axis=2)
        steep = (slope[1] >= slope[0]).astype(int), every
        uphill = gradient[steep] / slope[steep][:, None]
        z = self.points.z.copy()
        z[chains] = self._z[:, chains][steep] + self._step[chains][:, None] * uphill
        return beyond | np.isinf(Points.at(self._evaluate, z).energy[chains])

    def draw(self, step) -> Draws:
        """Return what the last transitions of all chains did."""
        return Draws(
            self.points.z, self.points.energy, self._hamiltonian, self._steps, self.acceptance,
            self._diverging, self._exited, step,
        )  # fmt: skip


def _kinetic(momentum) -> np.ndarray:
    return 0.5 * np.sum(np.square(momentum), axis=-1)


def _turns(one, other, total) -> np.ndarray:
    """Return whether the momentum at one of two ends points against the sum of all, without half of these two."""
    way = total - 0.5 * (one + other)
    return (np.sum(one * way, axis=-1) <= 0) | (np.sum(other * way, axis=-1) <= 0)
