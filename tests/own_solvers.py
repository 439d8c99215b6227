"""Solvers of the user's own, by the documented protocol: one for smooth penalties, and one for all."""

import contextlib
import copy
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from bayesglm import regularizer
from bayesglm.solvers import OptimizationInfo, _registry


@contextlib.contextmanager
def registry_kept():
    """Forget, at the end, which solvers were registered and allowed within."""
    before = copy.deepcopy(_registry._REGISTRY), dict(_registry._DEFAULT)
    kinds = [regularizer.Regularizer, *regularizer.REGULARIZERS.values()]
    allowed = {kind: kind.__dict__.get("_also_allowed", ()) for kind in kinds}
    try:
        yield
    finally:
        for table, old in zip((_registry._REGISTRY, _registry._DEFAULT), before, strict=True):
            table.clear()
            table.update(old)
        for kind in kinds:
            kind._also_allowed = allowed[kind]


class State(NamedTuple):
    iter_num: int
    value: Any


class Scipy:
    """BFGS of SciPy on the penalised loss, as one vector."""

    def __init__(
        self,
        unregularized_loss,
        regularizer,
        regularizer_strength,
        has_aux,
        init_params=None,
        max_steps=200,
        tolerance=1e-9,
    ):
        penalized = regularizer.penalized_loss(
            unregularized_loss, init_params, regularizer_strength
        )
        self.has_aux, self.max_steps, self.tolerance = has_aux, max_steps, tolerance
        self.value_and_gradient = jax.jit(jax.value_and_grad(penalized, has_aux=has_aux))

    @classmethod
    def get_accepted_arguments(cls):
        return {"max_steps", "tolerance"}

    def init_state(self, init_params, *args):
        return State(0, None)

    def update(self, params, state, *args):
        return self._steps(params, state, 1, *args)

    def run(self, init_params, *args):
        return self._steps(init_params, self.init_state(init_params), self.max_steps, *args)

    def _steps(self, params, state, most, *args):
        start, unravel = ravel_pytree(params)

        def flat(x):
            value, gradient = self.value_and_gradient(unravel(jax.numpy.asarray(x)), *args)
            value = value[0] if self.has_aux else value
            return float(value), np.asarray(ravel_pytree(gradient)[0], float)

        options = {"maxiter": most, "gtol": self.tolerance}
        found = scipy.optimize.minimize(flat, start, jac=True, method="BFGS", options=options)
        params = unravel(jax.numpy.asarray(found.x, start.dtype))
        return params, State(state.iter_num + found.nit, found.fun), None

    def get_optim_info(self, state):
        return OptimizationInfo(state.value, state.iter_num, True, state.iter_num >= self.max_steps)


class Fista:
    """Accelerated proximal gradients with a fixed step (Beck, Teboulle 2009, doi:10.1137/080716542)."""

    def __init__(
        self,
        unregularized_loss,
        regularizer,
        regularizer_strength,
        has_aux,
        init_params=None,
        steps=800,
        stepsize=0.2,
    ):
        self.gradient = jax.grad(unregularized_loss, has_aux=has_aux)
        self.prox = regularizer.get_proximal_operator(init_params, regularizer_strength)
        self.has_aux, self.steps, self.stepsize = has_aux, steps, stepsize

    @classmethod
    def get_accepted_arguments(cls):
        return {"steps", "stepsize"}

    def init_state(self, init_params, *args):
        return init_params, 1.0

    def update(self, params, state, *args):
        ahead, t = state
        gradient = self.gradient(ahead, *args)
        gradient = gradient[0] if self.has_aux else gradient
        moved = jax.tree.map(lambda p, g: p - self.stepsize * g, ahead, gradient)
        new = self.prox(moved, scaling=self.stepsize)
        following = 0.5 * (1.0 + (1.0 + 4.0 * t * t) ** 0.5)
        ahead = jax.tree.map(lambda n, p: n + (t - 1.0) / following * (n - p), new, params)
        return new, (ahead, following), None

    def run(self, init_params, *args):
        def all_steps(params, *args):
            state = self.init_state(params)
            return jax.lax.fori_loop(
                0, self.steps, lambda _, c: self.update(*c, *args)[:2], (params, state)
            )

        params, state = jax.jit(all_steps)(init_params, *args)
        return params, state, None
