"""The no-U-turn sampler for rows that are read anew in every step.

Trees are built in NumPy, leaf by leaf, by all lanes x chains (*cells*) at once: a step of all cells is one call of a
function, which is one pass over the rows. Nothing else is known of them. No cell waits for the tree of another one,
except in the warm-up for the other chains of its lane, with which it shares a step size. Plan, step sizes and
statistics are those of :mod:`bayesglm._sampling._nuts`; random numbers belong to cells, so that no draw depends on
which lanes run beside it.

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
    """Positions of cells with their energies and gradients."""

    z: np.ndarray  # (cells, size)
    energy: np.ndarray  # (cells,)
    gradient: np.ndarray

    @classmethod
    def at(cls, evaluate: Callable, z) -> Points:
        """Return the points at positions; the energy is infinite where there is no density."""
        energy, gradient = evaluate(z)
        return cls(z, np.where(np.isnan(energy), np.inf, energy), gradient)

    def take(self, which, other: Points, these=None) -> None:
        """Put points of another array (by default those of the same cells) in the place of some."""
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
        Told after each pass the number of transitions made since the last one, a mean over cells.
    """
    shape, flat = keys.shape, lambda a: a.reshape(-1, *a.shape[2:])

    def of_cells(z):
        return tuple(flat(np.asarray(a)) for a in evaluate(z.reshape(*shape, size)))

    noise = [np.random.default_rng(np.asarray(k)) for k in jax.random.key_data(keys.reshape(-1))]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        points = _start(of_cells, noise, size, n_mixing)
        trees = _Trees(of_cells, noise, points, plan.depth, edged)
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
    """Let each cell take its transitions, and adapt the step sizes of lanes whose chains wait for it."""
    length, cells = plan.warmup + num_samples, shape[0] * shape[1]
    draws = _empty(num_samples, cells, trees.points.z.shape[1])
    log_step = mean_log_step = np.full(shape[0], np.log(_nuts.first_step(trees.points.z.shape[1])))
    made, step = np.zeros(cells, int), np.zeros(cells)
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
        progress(len(ended) / cells)


def _empty(num_samples: int, cells: int, size: int) -> Draws:
    number, flag = np.zeros((num_samples, cells)), np.zeros((num_samples, cells), bool)
    copies = [number.copy() for _ in range(4)]
    z = np.zeros((num_samples, cells, size))
    return Draws(z, *copies, flag, flag.copy(), number)


def _shaped(draws: Draws, shape) -> Draws:
    draws = Draws(*(a.reshape(len(a), *shape, *a.shape[2:]) for a in draws))
    return draws._replace(step_size=draws.step_size[..., 0])


class _Trees:
    """One trajectory of each cell; arrays (cells, ...).

    A tree of ``2**depth`` leaves is doubled by a new half on one of its sides. What a half adds counts only once it is
    complete and no part of it turns back.
    """

    def __init__(self, evaluate: Callable, noise, points: Points, depth: int, edged: bool):
        cells, size = points.z.shape
        self._evaluate, self._noise, self._edged = evaluate, noise, edged
        self.points, self._tree, self._half = (Points(*map(np.array, points)) for _ in range(3))
        self.growing = np.zeros(cells, bool)
        self.acceptance = np.zeros(cells)
        empty = lambda *lead: np.zeros((*lead, size))  # noqa: E731
        # of both ends
        self._z, self._r, self._gradient = empty(2, cells), empty(2, cells), empty(2, cells)
        self._weight, self._half_weight = np.zeros(cells), np.zeros(cells)
        self._sum, self._half_sum = empty(cells), empty(cells)
        # momenta at leaves where parts begin, and sums up to them
        self._first, self._sum_to = empty(depth, cells), empty(depth, cells)
        self._step, self._hamiltonian, self._accepted = np.zeros((3, cells))
        self._side, self._leaves, self._steps, self._depth, self._most = np.zeros((5, cells), int)
        self._diverging, self._exited = np.zeros((2, cells), bool)

    def begin(self, cells, step, most) -> None:
        """Begin trees of at most so many doublings."""
        for k in cells:
            self._r[:, k] = self._noise[k].standard_normal(self._r.shape[2])
        momentum = self._r[0, cells]
        self._z[:, cells] = self.points.z[cells]
        self._gradient[:, cells] = self.points.gradient[cells]
        self._tree.take(cells, self.points)
        self._sum[cells], self._weight[cells] = momentum, 0.0
        self._hamiltonian[cells] = self.points.energy[cells] + _kinetic(momentum)
        self._step[cells], self._most[cells] = step[cells], most[cells]
        self._accepted[cells] = self._steps[cells] = self._depth[cells] = 0
        self._diverging[cells] = self._exited[cells] = False
        self.growing[cells] = True
        self._turn(cells)

    def _turn(self, cells) -> None:
        """Choose the side on which a tree grows."""
        self._side[cells] = self._uniform(cells) < 0.5
        self._leaves[cells] = 0

    def _uniform(self, cells) -> np.ndarray:
        return np.array([self._noise[k].random() for k in cells])

    def grow(self) -> np.ndarray:
        """Add a leaf to each growing tree, by one step at one of its ends; return the cells whose trees have ended."""
        cells = np.flatnonzero(self.growing)
        leaf, momentum = self._leapfrog(cells)
        lost = leaf.energy[cells] + _kinetic(momentum) - self._hamiltonian[cells]
        lost = np.where(np.isnan(lost), np.inf, lost)
        self._accepted[cells] += np.exp(-np.maximum(lost, 0.0))
        self._steps[cells] += 1
        self._diverging[cells] = lost > _DIVERGED
        self._propose(cells, leaf, momentum, -lost)
        broken = self._diverging[cells] | self._turns_within(cells, momentum)
        self._leaves[cells] += 1
        full = broken | (self._leaves[cells] == 1 << self._depth[cells])
        return self._join(cells[full], broken[full])

    def _leapfrog(self, cells) -> tuple[Points, np.ndarray]:
        """Step from the ends on which trees grow; return the points of all cells, and the momenta of these."""
        end = self._side[cells], cells
        step = (np.where(self._side[cells], 1.0, -1.0) * self._step[cells])[:, None]
        half = self._r[end] - 0.5 * step * self._gradient[end]
        z = self.points.z.copy()
        z[cells] = self._z[end] + step * half
        leaf = Points.at(self._evaluate, z)
        self._z[end], self._gradient[end] = z[cells], leaf.gradient[cells]
        self._r[end] = half - 0.5 * step * leaf.gradient[cells]
        return leaf, self._r[end]

    def _propose(self, cells, leaf: Points, momentum, weight) -> None:
        """Let leaves replace the proposals of their halves, with the probability of their share of the weight."""
        first = self._leaves[cells] == 0
        before = np.where(first, -np.inf, self._half_weight[cells])
        chosen = first | (self._uniform(cells) < expit(weight - before))
        self._half.take(cells[chosen], leaf)
        self._half_weight[cells] = np.logaddexp(before, weight)
        self._half_sum[cells] = momentum + np.where(first[:, None], 0.0, self._half_sum[cells])

    def _turns_within(self, cells, momentum) -> np.ndarray:
        """Return whether a part of a half that ends with its last leaf turns back, and keep where parts begin.

        Leaf n is the last one of as many parts, of 2, 4, 8, ... leaves, as its number has trailing ones. A part begins
        at the checkpoint of as many ones as there are before these.
        """
        n = self._leaves[cells]
        last = np.bitwise_count(n >> 1).astype(int)
        least = last - np.bitwise_count((~n & (n + 1)) - 1).astype(int) + 1
        even = n % 2 == 0
        at = last[even], cells[even]
        self._first[at], self._sum_to[at] = momentum[even], self._half_sum[cells[even]]
        turns = np.zeros(len(cells), bool)
        for k in range(len(self._first)):
            some = np.flatnonzero((least <= k) & (k <= last))
            its = cells[some]
            first = self._first[k, its]
            total = self._half_sum[its] - self._sum_to[k, its] + first
            turns[some] |= _turns(first, momentum[some], total)
        return turns

    def _join(self, cells, broken) -> np.ndarray:
        """Join complete halves to their trees; return the cells whose trees end, and go on with the others."""
        ratio = np.exp(np.minimum(self._half_weight[cells] - self._weight[cells], 0.0))
        chosen = ~broken & (self._uniform(cells) < ratio)
        self._tree.take(cells[chosen], self._half)
        self._weight[cells] = np.logaddexp(self._weight[cells], self._half_weight[cells])
        self._sum[cells] += self._half_sum[cells]
        self._depth[cells] += 1
        over = broken | _turns(self._r[0, cells], self._r[1, cells], self._sum[cells])
        over |= self._depth[cells] >= self._most[cells]
        self._turn(cells[~over])
        return self._end(cells[over])

    def _end(self, cells) -> np.ndarray:
        self.growing[cells] = False
        self.acceptance[cells] = self._accepted[cells] / self._steps[cells]
        if self._edged and self._diverging[cells].any():
            out = cells[self._diverging[cells]]
            self._exited[out] = self._at_edge(out)
        self.points.take(cells, self._tree)
        return cells

    def _at_edge(self, cells) -> np.ndarray:
        """Return whether trees have left the domain of the link, or a step uphill from an end would.

        See :func:`bayesglm._sampling._nuts.at_edge`.
        """
        gradient, every = self._gradient[:, cells], np.arange(len(cells))
        beyond = np.isnan(gradient).any(axis=(0, 2))
        slope = np.linalg.norm(gradient, axis=2)
        steep = (slope[1] >= slope[0]).astype(int), every
        uphill = gradient[steep] / slope[steep][:, None]
        z = self.points.z.copy()
        z[cells] = self._z[:, cells][steep] + self._step[cells][:, None] * uphill
        return beyond | np.isinf(Points.at(self._evaluate, z).energy[cells])

    def draw(self, step) -> Draws:
        """Return what the last transitions of all cells did."""
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
