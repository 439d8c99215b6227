"""Solvers by name: those of the package, and the user's own."""

from __future__ import annotations

from typing import NamedTuple

from bayesglm import regularizer
from bayesglm._input import did_you_mean
from bayesglm.solvers._descent import BFGS, LBFGS, NonlinearCG
from bayesglm.solvers._protocol import validate_solver_class
from bayesglm.solvers._proximal import GradientDescent, Newton, ProximalGradient, ProxNewton
from bayesglm.solvers._svrg import SVRG, ProxSVRG

#: The backend of the solvers of the package.
BACKEND = "bayesglm"
_OURS = (
    GradientDescent, ProximalGradient, LBFGS, BFGS, NonlinearCG, Newton, ProxNewton, SVRG, ProxSVRG,
)  # fmt: skip
# Classes by algorithm and backend, and the backend of each algorithm that its name alone stands for.
_REGISTRY: dict[str, dict[str, type]] = {kind.__name__: {BACKEND: kind} for kind in _OURS}
_DEFAULT = dict.fromkeys(_REGISTRY, BACKEND)
# Backends under which the documented system offers an algorithm.
_STAND_FOR_OURS = {
    "GradientDescent": ("optimistix", "optax+optimistix", "jaxopt"),
    "ProximalGradient": ("optimistix", "jaxopt"),
    "LBFGS": ("optax+optimistix", "jaxopt"),
    "BFGS": ("optimistix", "jaxopt"),
    "NonlinearCG": ("optimistix", "jaxopt"),
    "Newton": ("nemos",),
    "SVRG": ("nemos",),
    "ProxSVRG": ("nemos",),
}


for _kind in _OURS:
    regularizer.know_solver(_kind.__name__, _kind.proximal)


class SolverSpec(NamedTuple):
    """A solver by name."""

    algo_name: str
    backend: str
    implementation: type

    @property
    def full_name(self) -> str:
        """Name of algorithm and backend, ``"LBFGS[bayesglm]"``."""
        return f"{self.algo_name}[{self.backend}]"

    @property
    def shortest_name(self) -> str:
        """The algorithm, with the backend only where the name alone stands for another one."""
        return self.algo_name if _DEFAULT[self.algo_name] == self.backend else self.full_name


def get_solver(name: str) -> SolverSpec:
    """Return the solver of the given name.

    Parameters
    ----------
    name
        ``"LBFGS"``, or with a backend, ``"LBFGS[bayesglm]"``. Backends that NeMoS documents for the algorithm, such as
        ``"LBFGS[optax+optimistix]"``, are accepted and mean our own implementation.

    Raises
    ------
    TypeError
        If the name is not a string.
    ValueError
        If no such solver exists.
    """
    if not isinstance(name, str):
        raise TypeError(f"`solver_name` must be a string, but {name!r} was given.")
    algorithm, bracket, rest = name.partition("[")
    _check_known(algorithm, name)
    backends = _REGISTRY[algorithm]
    if not bracket:
        backend = _DEFAULT[algorithm]
    elif rest.removesuffix("]") in backends and rest.endswith("]"):
        backend = rest[:-1]
    elif rest in {f"{each}]" for each in _STAND_FOR_OURS.get(algorithm, ())}:
        backend = BACKEND
    else:
        also = ", ".join(_STAND_FOR_OURS.get(algorithm, ()))
        raise ValueError(
            f"Unknown backend in {name!r}. For {algorithm} there is {', '.join(map(repr, backends))}"
            + (f", and these stand for {BACKEND!r} as well: {also}" if also else "")
            + f". Use {algorithm!r} alone, or `bayesglm.solvers.register` your own."
        )
    return SolverSpec(algorithm, backend, backends[backend])


def _check_known(algorithm, name) -> None:
    if algorithm not in _REGISTRY:
        raise ValueError(
            f"Unknown solver {name!r}. Available: {', '.join(_REGISTRY)}; one of your own must be registered first, "
            f"with `bayesglm.solvers.register`.{did_you_mean(algorithm, _REGISTRY)}"
        )


def register(
    algo_name: str,
    implementation: type,
    backend: str = "custom",
    replace: bool = False,
    default: bool = False,
    validate: bool = True,
    test_ridge_without_aux: bool = False,
    test_ridge_with_aux: bool = False,
) -> None:
    """Make a solver of your own known by a name, for this process.

    An estimator uses it by that name once the regularizer allows it: ``Ridge.allow_solver(algo_name)``.

    Parameters
    ----------
    algo_name
        Name of the algorithm, without brackets.
    implementation
        A class; see :class:`SolverProtocol`.
    backend
        Tells implementations of one algorithm apart, as in ``"LBFGS[custom]"``.
    replace
        Whether it may take the place of one that is registered under these names.
    default
        Whether the name of the algorithm alone stands for it; for a new algorithm it does.
    validate
        Whether to check the methods of the class.
    test_ridge_without_aux, test_ridge_with_aux
        Whether to let it solve a small ridge regression, with a loss that returns a number, or something beside it.

    Raises
    ------
    TypeError
        If the class lacks a method, or a name is not a string.
    ValueError
        If a method does not take the right arguments, or the names are taken.
    """
    for name in (algo_name, backend):
        if not isinstance(name, str):
            raise TypeError(f"Names of solvers must be strings, but {name!r} was given.")
        if not name or set(name) & set("[]"):
            raise ValueError(f"A name of a solver must be a word without brackets, not {name!r}.")
    if backend == BACKEND:
        raise ValueError(f"The backend {BACKEND!r} is the package's own. Choose another name.")
    if validate:
        validate_solver_class(implementation)
    for wanted, has_aux in ((test_ridge_without_aux, False), (test_ridge_with_aux, True)):
        if wanted:
            validate_solver_class(implementation, test_ridge=True, loss_has_aux=has_aux)
    backends = _REGISTRY.get(algo_name, {})
    if backend in backends and not replace:
        raise ValueError(
            f"{algo_name}[{backend}] is registered. Pass `replace=True` to replace it."
        )
    _REGISTRY.setdefault(algo_name, backends)[backend] = implementation
    _DEFAULT.setdefault(algo_name, backend)
    if default:
        _DEFAULT[algo_name] = backend


def set_default_backend(algo_name: str, backend: str) -> None:
    """Choose the implementation that the name of an algorithm alone stands for.

    Raises
    ------
    ValueError
        If there is none of these names.
    """
    _DEFAULT[algo_name] = get_solver(f"{algo_name}[{backend}]").backend


def list_algo_backends(algo_name: str) -> list[str]:
    """Return the backends of an algorithm.

    Raises
    ------
    ValueError
        If there is no such algorithm.
    """
    _check_known(algo_name, algo_name)
    return list(_REGISTRY[algo_name])


def list_available_algorithms() -> list[str]:
    """Return the names of all solvers."""
    return list(_REGISTRY)


def list_available_solvers() -> list[str]:
    """Return the names of all solvers with their backends."""
    return [f"{name}[{backend}]" for name, backends in _REGISTRY.items() for backend in backends]
