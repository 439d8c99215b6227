"""Functions of one response, traced by JAX once and then computed by NumPy on arrays of any shape: nothing is compiled.

The formulas stay where they are, in `jax.numpy`, and derivatives are those of JAX. What is traced is a function of
scalars, or of one vector (the classes), so that every step is elementwise or goes over the classes. Numbers become
arrays of any shape, and the axis of a vector comes before their axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import special

# What each primitive of JAX is in NumPy, where that needs no parameters.
_PLAIN = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "add_any": np.add,
    "and": np.logical_and, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "ceil": np.ceil, "cos": np.cos,
    "cosh": np.cosh, "digamma": special.psi, "div": np.divide, "eq": np.equal, "erf": special.erf,
    "erf_inv": special.erfinv, "erfc": special.erfc, "exp": np.exp, "exp2": np.exp2,
    "expm1": np.expm1, "floor": np.floor, "ge": np.greater_equal, "gt": np.greater,
    "is_finite": np.isfinite, "le": np.less_equal, "lgamma": special.gammaln, "log": np.log,
    "log1p": np.log1p, "logistic": special.expit, "lt": np.less, "max": np.maximum,
    "min": np.minimum, "mul": np.multiply, "ne": np.not_equal, "neg": np.negative,
    "not": np.logical_not, "or": np.logical_or, "pow": np.power, "sign": np.sign, "sin": np.sin,
    "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tan": np.tan,
    "tanh": np.tanh, "xor": np.logical_xor,
}  # fmt: skip
_LOGICAL = {"and", "not", "or", "xor"}  # of bits, if they are given integers
_SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier"}
_SAME_IF = {"broadcast_in_dim", "convert_element_type", "reshape"}  # neither shape nor type changes
# Calls of a function, once, as it is (loops have one, too), and the parameters that may hold it.
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint"}
_CALLED = ("jaxpr", "call_jaxpr")
# Neutral second operands: x + 0, x * 1 and their like are x.
_NEUTRAL = {"add": 0.0, "add_any": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}
_COMMUTE = {"add", "add_any", "mul"}
_ONES = np.ones(1)


class _Unknown(Exception):
    """A step that NumPy has no word for."""


class _Step(NamedTuple):
    """One call: positions of what it takes, and of what it gives."""

    function: Callable
    takes: tuple[int, ...]
    gives: int


def interpreted(function: Callable, *arguments) -> Callable | None:
    """Return a function of arrays that does to each of their entries what `function` does to numbers.

    Parameters
    ----------
    function
        In `jax.numpy`; it returns a tuple.
    *arguments
        One example of each argument: numbers, or vectors of one length.

    Returns
    -------
    : callable or None
        None if it cannot be traced for numbers, or has a step without a counterpart in NumPy.
    """
    try:
        with jax.enable_x64(True):
            traced = jax.make_jaxpr(function)(*arguments)
            return _Translation(traced, len(arguments)).finished()
    except Exception:  # of anyone's code, about which the compiled program says more
        return None


class _Translation:
    """Steps in NumPy, each of them once, without those that nothing depends on.

    What is known already is an array in `known`; the rest are positions in a list of values.
    """

    def __init__(self, traced, n_arguments: int):
        self.steps: list[_Step] = []
        self.known: dict[int, Any] = {}
        self.seen: dict[Any, int] = {}
        self.size = n_arguments
        self.n_arguments = n_arguments
        self.results = self.call(traced.jaxpr, traced.consts, range(n_arguments))

    def constant(self, value) -> int:
        value = np.asarray(value)
        if value.ndim > 1:
            raise _Unknown("a matrix")
        key = value.dtype.str, value.shape, value.tobytes()
        if key not in self.seen:
            self.known[self.size] = value
            self.seen[key] = self.size
            self.size += 1
        return self.seen[key]

    def call(self, jaxpr, consts, given) -> list[int]:
        """Translate a function, given the positions of its arguments; return those of its results."""
        names = dict(zip(jaxpr.invars, given, strict=True))
        names.update(zip(jaxpr.constvars, map(self.constant, consts), strict=True))

        def position(atom) -> int:
            return self.constant(atom.val) if hasattr(atom, "val") else names[atom]

        for equation in jaxpr.eqns:
            takes = tuple(map(position, equation.invars))
            if equation.primitive.name in _CALLS:
                inner = next(equation.params[k] for k in _CALLED if k in equation.params)
                parts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                gives = self.call(*parts, takes)
            else:
                gives = [self.step(equation, takes)]
            names.update(zip(equation.outvars, gives, strict=True))
        return [position(atom) for atom in jaxpr.outvars]

    def step(self, equation, takes) -> int:
        name = equation.primitive.name
        same = self._unchanged(name, equation, takes)
        if same is not None:
            return same
        function = _PLAIN.get(name) or _with_parameters(name, equation)
        if name in _LOGICAL and any(a.aval.dtype != bool for a in equation.invars):
            raise _Unknown(name)
        if all(t in self.known for t in takes):
            with np.errstate(all="ignore"):
                return self.constant(function(*(self.known[t] for t in takes)))
        key = name, str(equation.params), takes
        if key not in self.seen:
            self.steps.append(_Step(function, takes, self.size))
            self.seen[key] = self.size
            self.size += 1
        return self.seen[key]

    def _unchanged(self, name, equation, takes) -> int | None:
        """Return the operand that a step returns as it is, if it does."""
        result = equation.outvars[0].aval
        same = [
            a.aval.shape == result.shape and a.aval.dtype == result.dtype for a in equation.invars
        ]
        if name in _SAME or (name in _SAME_IF and same[0]):
            return takes[0]
        if name in _NEUTRAL:
            if same[0] and self._is(takes[1], _NEUTRAL[name]):
                return takes[0]
            if name in _COMMUTE and same[1] and self._is(takes[0], _NEUTRAL[name]):
                return takes[1]
        if name == "select_n" and self.known.get(takes[0], _ONES).ndim == 0:
            return takes[1 + int(self.known[takes[0]])]
        return None

    def _is(self, position: int, number: float) -> bool:
        return position in self.known and bool(np.all(self.known[position] == number))

    def finished(self) -> Callable:
        """Return the function."""
        needed, steps = set(self.results), []
        for step in reversed(self.steps):
            if step.gives in needed:
                needed.update(step.takes)
                steps.append(step)
        steps.reverse()
        blank = [self.known.get(i) if i in needed else None for i in range(self.size)]
        vectors = [i for i, value in enumerate(blank) if value is not None and value.ndim]
        n_arguments, results = self.n_arguments, self.results

        def run(*arguments):
            values = blank.copy()
            values[:n_arguments] = arguments
            for i in vectors:
                axes = max(np.ndim(a) for a in arguments) - 1
                values[i] = values[i].reshape(-1, *(1,) * axes)
            for function, takes, gives in steps:
                values[gives] = function(*[values[i] for i in takes])
            return [values[i] for i in results]

        return run


def _with_parameters(name: str, equation) -> Callable:
    """Return what a primitive with parameters does."""
    make = _MADE.get(name)
    if make is None:
        raise _Unknown(name)
    return make(equation)


def _power(equation) -> Callable:
    exponent = equation.params["y"]
    if exponent == 2:
        return np.square
    return np.reciprocal if exponent == -1 else lambda x: x**exponent


def _converted(equation) -> Callable:
    dtype = equation.params["new_dtype"]
    return lambda x: np.asarray(x).astype(dtype)


def _selected(equation) -> Callable:
    if len(equation.invars) != 3:
        raise _Unknown("select_n")
    return lambda which, no, yes: np.where(which, yes, no)


def _broadcast(equation) -> Callable:
    before, after = (v.aval.shape for v in (equation.invars[0], equation.outvars[0]))
    if len(after) != 1 or len(equation.invars) != 1:
        raise _Unknown("an array of rows")

    def repeat(x):
        x = np.asarray(x)
        x = x if before else x[None]
        return x if len(x) == after[0] else np.broadcast_to(x, (*after, *x.shape[1:]))

    return repeat


def _reshaped(equation) -> Callable:
    before, after = (v.aval.shape for v in (equation.invars[0], equation.outvars[0]))
    if (before, after) == ((), (1,)):
        return lambda x: np.asarray(x)[None]
    if (before, after) == ((1,), ()):
        return lambda x: x[0]
    raise _Unknown("reshape")


def _reduced(operation) -> Callable:
    def make(equation) -> Callable:
        if equation.invars[0].aval.ndim == 0:  # it would be a sum over rows, where there are some
            raise _Unknown("a sum")
        return lambda x: operation(x, axis=0)

    return make


def _rounded(equation) -> Callable:
    if equation.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise _Unknown("round")
    return np.rint


def _counted(equation) -> Callable:
    if len(equation.params["shape"]) != 1:
        raise _Unknown("iota")
    return lambda: np.arange(equation.params["shape"][0], dtype=equation.params["dtype"])


_MADE = {
    "broadcast_in_dim": _broadcast,
    "clamp": lambda _: lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "convert_element_type": _converted,
    "integer_pow": _power,
    "iota": _counted,
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_sum": _reduced(np.sum),
    "reshape": _reshaped,
    "round": _rounded,
    "rsqrt": lambda _: lambda x: 1.0 / np.sqrt(x),
    "select_n": _selected,
    "squeeze": _reshaped,
}
