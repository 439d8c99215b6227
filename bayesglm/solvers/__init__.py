"""Solvers, their names, and what they accept.

A solver minimises ``mean loss + penalty`` for many lanes (neurons) at once. What it can do is said once, by the class:
`proximal` solvers handle penalties with kinks, `stochastic` ones work on mini-batches.
"""

from __future__ import annotations

import inspect

from bayesglm.solvers._descent import BFGS, LBFGS, NonlinearCG
from bayesglm.solvers._metric import DENSE_LIMIT
from bayesglm.solvers._protocol import OptimizationInfo, SolverProtocol, validate_solver_class
from bayesglm.solvers._proximal import GradientDescent, Newton, ProximalGradient, ProxNewton
from bayesglm.solvers._registry import (
    SolverSpec,
    get_solver,
    list_algo_backends,
    list_available_algorithms,
    list_available_solvers,
    register,
    set_default_backend,
)
from bayesglm.solvers._run import Solver, State, numerics, put, refined, run, select
from bayesglm.solvers._svrg import SVRG, ProxSVRG
from bayesglm.solvers._svrg_theory import batch_size_and_stepsize

__all__ = [
    "BFGS",
    "DENSE_LIMIT",
    "LBFGS",
    "SVRG",
    "GradientDescent",
    "Newton",
    "NonlinearCG",
    "OptimizationInfo",
    "ProxNewton",
    "ProxSVRG",
    "ProximalGradient",
    "Solver",
    "SolverProtocol",
    "SolverSpec",
    "State",
    "batch_size_and_stepsize",
    "get_accepted_arguments",
    "get_solver",
    "get_solver_documentation",
    "is_ours",
    "list_algo_backends",
    "list_available_algorithms",
    "list_available_solvers",
    "make_solver",
    "numerics",
    "put",
    "refined",
    "register",
    "run",
    "select",
    "set_default_backend",
    "validate_solver_class",
]


def get_accepted_arguments(solver: str | type) -> set[str]:
    """Return the names that `solver_kwargs` may hold for a solver.

    Parameters
    ----------
    solver
        Name or class.
    """
    kind = get_solver(solver).implementation if isinstance(solver, str) else solver
    return set(kind.get_accepted_arguments())


def get_solver_documentation(solver: str | type, show_help: bool = False) -> str:
    """Return what a solver does, with its arguments and defaults.

    Parameters
    ----------
    solver
        Name or class.
    show_help
        Also print it.
    """
    kind = get_solver(solver).implementation if isinstance(solver, str) else solver
    text = f"{kind.__name__}{inspect.signature(kind)}\n\n{inspect.getdoc(kind) or ''}".rstrip()
    if show_help:
        print(text)
    return text


def is_ours(kind: type) -> bool:
    """Return whether a class is a solver of this package, and not of the user's own."""
    return issubclass(kind, Solver)


def check_arguments(solver_name: str, solver_kwargs: dict) -> None:
    """Raise if a solver does not take these arguments.

    Raises
    ------
    NameError
        If a name is unknown (the documented type).
    ValueError
        If a value cannot be used.
    """
    accepted = get_accepted_arguments(solver_name)
    unknown = sorted(set(solver_kwargs) - accepted)
    if unknown:
        raise NameError(
            f"`solver_kwargs` {unknown} are not accepted by the solver {solver_name!r}. "
            f"It accepts {sorted(accepted)}."
        )
    if not is_ours(get_solver(solver_name).implementation):
        return  # the names mean what the user's class says
    for name, least in _LEAST.items():
        value = solver_kwargs.get(name)
        whole = isinstance(least, int)
        if value is not None and not (_is_number(value, whole) and value >= least):
            raise ValueError(
                f"`{name}` in `solver_kwargs` must be a number of at least {least}"
                f"{', an integer,' if whole else ','} but {value!r} was given."
            )


#: Smallest values of arguments; where that is an integer, all of them are.
_LEAST = {"tol": 0.0, "maxiter": 1, "stepsize": 0.0, "batch_size": 1, "memory_size": 0}


def _is_number(value, whole: bool) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, (str, bool)) and (not whole or number.is_integer())


def make_solver(solver_name: str, solver_kwargs: dict):
    """Return a solver of the given name and arguments; None, or a step of 0, means the default."""
    kwargs = {name: value for name, value in solver_kwargs.items() if value is not None}
    for name in kwargs.keys() & _LEAST:
        kwargs[name] = type(_LEAST[name])(kwargs[name])  # an integral float is an integer
    if kwargs.get("stepsize") == 0:
        del kwargs["stepsize"]
    return get_solver(solver_name).implementation(**kwargs)
