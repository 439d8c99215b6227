"""What a solver of the user's own must have to fit an estimator, and how that is checked."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm.regularizer import Ridge


@runtime_checkable
class SolverProtocol(Protocol):
    """A solver of your own: a class with these methods, for :func:`bayesglm.solvers.register`.

    It minimises ``unregularized_loss(params, *args)`` plus the penalty, for all neurons together. Parameters are tuples
    (coef, intercept) in the structure of X; `args` are X and y, and behind them weights and offsets where there are
    any, so hand on all of them. ``regularizer.penalized_loss(unregularized_loss, init_params, regularizer_strength)``
    is the sum, and ``regularizer.get_proximal_operator(init_params, regularizer_strength)`` serves kinks.

    A method ``get_optim_info(state)``, which returns an :class:`OptimizationInfo`, is optional.
    """

    def __init__(
        self,
        unregularized_loss,
        regularizer,
        regularizer_strength,
        has_aux,
        init_params=None,
        **kwargs,
    ):
        """Take the loss, the penalty and, by name, what :meth:`get_accepted_arguments` says.

        Parameters
        ----------
        unregularized_loss : callable
            Of parameters and data; returns a number, or a number and something beside it.
        regularizer : Regularizer
        regularizer_strength
            As the estimator has it.
        has_aux : bool
            Whether the loss returns something beside the number; the estimators of this package always say False.
        init_params : tuple (coef, intercept)
            Parameters of the structure and shapes to come.
        """

    def init_state(self, init_params, *args) -> Any:
        """Return the state before the first step."""

    def update(self, params, state, *args) -> tuple:
        """Take one step; return parameters, state, and what the loss returns beside the number (or None)."""

    def run(self, init_params, *args) -> tuple:
        """Take all steps; return as :meth:`update` does."""

    @classmethod
    def get_accepted_arguments(cls) -> set[str]:
        """Return the names that `solver_kwargs` may hold."""


class OptimizationInfo(NamedTuple):
    """What a solver of your own says about a run."""

    function_val: Any
    num_steps: int
    converged: bool
    reached_max_steps: bool


_FIRST_ARGUMENTS = {
    "__init__": ("unregularized_loss", "regularizer", "regularizer_strength", "has_aux", "init_params"),
    "init_state": ("init_params",),
    "update": ("params", "state"),
    "run": ("init_params",),
}  # fmt: skip


def validate_solver_class(
    solver_class: type, test_ridge: bool = False, loss_has_aux: bool = False
) -> None:
    """Check that a class can serve as a solver.

    Parameters
    ----------
    solver_class
        See :class:`SolverProtocol`.
    test_ridge
        Also let it solve a small ridge regression.
    loss_has_aux
        Whether the loss of that returns something beside the number.

    Raises
    ------
    TypeError
        If it is not a class, or lacks a method; the error names all that are missing.
    ValueError
        If a method does not take the arguments, or the regression is not solved.
    """
    if not isinstance(solver_class, type):
        raise TypeError(f"A solver must be a class, but {solver_class!r} was given.")
    needed = ("init_state", "update", "run", "get_accepted_arguments")
    missing = [name for name in needed if not callable(getattr(solver_class, name, None))]
    if solver_class.__init__ is object.__init__:
        missing.insert(0, "__init__")
    if missing:
        raise TypeError(
            f"{solver_class.__name__} cannot serve as a solver: it lacks {', '.join(f'`{m}`' for m in missing)}. "
            "See `bayesglm.solvers.SolverProtocol`."
        )
    wrong = list(_wrong_signatures(solver_class))
    if wrong:
        raise ValueError(f"{solver_class.__name__} cannot serve as a solver: {'; '.join(wrong)}.")
    if test_ridge:
        _solve_ridge(solver_class, loss_has_aux)


def _wrong_signatures(kind):
    for method, first in _FIRST_ARGUMENTS.items():
        parameters = list(inspect.signature(getattr(kind, method)).parameters.values())[1:]
        named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        takes_more = any(p.kind is p.VAR_POSITIONAL for p in parameters) or method == "__init__"
        if tuple(named[: len(first)]) != first or not takes_more:
            more = "" if method == "__init__" else ", *args"
            yield f"`{method}` must take ({', '.join(first)}{more}), but takes ({', '.join(map(str, parameters))})"
    accepted = inspect.getattr_static(kind, "get_accepted_arguments")
    if not isinstance(accepted, (classmethod, staticmethod)):
        yield "`get_accepted_arguments` must be a class method"


def _solve_ridge(kind, has_aux: bool) -> None:
    """Raise a ValueError unless the class solves a regression whose answer is known."""
    with jax.enable_x64(True):
        X, y = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), jnp.array([2.0, 1.0, 0.0])
        hessian = 2.0 * (X.T @ X) / 3.0 + jnp.eye(2)  # the columns sum to zero
        expected = np.linalg.solve(hessian, 2.0 * X.T @ y / 3.0), np.mean(y)[None]

        def loss(params, X, y):
            value = jnp.mean(jnp.square(X @ params[0] + params[1] - y))
            return (value, None) if has_aux else value

        start = jnp.zeros(2), jnp.zeros(1)
        solver = kind(loss, Ridge(), 1.0, has_aux, start)
        state = solver.init_state(start, X, y)
        for method, given in (("update", (start, state)), ("run", (start,))):
            found = getattr(solver, method)(*given, X, y)
            if not (isinstance(found, tuple) and len(found) == 3):
                raise ValueError(
                    f"`{method}` of {kind.__name__} must return (params, state, aux), but returned {found!r}."
                )
        error = max(float(abs(a - b).max()) for a, b in zip(found[0], expected, strict=True))
    if not error < 0.1:  # the coefficients are of order one
        raise ValueError(
            f"{kind.__name__} does not solve a ridge regression of three rows: it ends at {found[0]}, but the optimum "
            f"is {expected}."
        )
