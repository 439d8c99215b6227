r"""What every regularizer is: penalties on the coefficients, and the priors they stand for."""

from __future__ import annotations

import abc
import copy
import inspect

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._component import Component
from bayesglm._design import leaf_slices, per_coefficient
from bayesglm._design import split as design_split
from bayesglm._input import strengths
from bayesglm.prior import Prior, Scale, Term

# Solvers of the package, and whether they can minimise penalties with kinks; `bayesglm.solvers` says so of its own.
_SOLVERS: dict[str, bool] = {}


def know_solver(name: str, proximal: bool) -> None:
    """Let regularizers know a solver of the package, and whether it can minimise penalties with kinks."""
    _SOLVERS[name] = proximal


def is_learned(strength) -> bool:
    """Return whether a strength is one to learn."""
    return isinstance(strength, Scale) or (isinstance(strength, str) and strength == "auto")


def _able(smooth: bool) -> tuple[str, ...]:
    return tuple(name for name, proximal in _SOLVERS.items() if smooth or proximal)


class Regularizer(Component, abc.ABC):
    """A penalty on the coefficients (never on the intercept) and the prior it stands for.

    A regularizer holds no strength: the estimator does.
    """

    #: Whether all of its terms are differentiable.
    smooth: bool = True
    #: Names of solvers of the user's own, beside those that the classes above this one allow.
    _also_allowed: tuple[str, ...] = ()
    #: Coefficients in use, (features, *outputs), where a mask leaves some out.
    _used: np.ndarray | None = None

    @property
    def allowed_solvers(self) -> tuple[str, ...]:
        """Names of the solvers that can minimise with this penalty."""
        ours = _able(self.smooth)
        users = (kind.__dict__.get("_also_allowed", ()) for kind in type(self).__mro__)
        return tuple(dict.fromkeys((*ours, *(name for names in users for name in names))))

    @classmethod
    def allow_solver(cls, name: str) -> None:
        """Let a solver of your own be used with all regularizers of this class.

        Parameters
        ----------
        name
            Of the algorithm, as :func:`bayesglm.solvers.register` knows it; all its backends are meant.

        Raises
        ------
        TypeError
            If it is no string.
        ValueError
            If it is a solver of this package that cannot minimise penalties with kinks, and this is one.
        """
        if not isinstance(name, str):
            raise TypeError(f"The name of a solver must be a string, but {name!r} was given.")
        name = name.partition("[")[0]
        kinked = _able(smooth=False)
        if not cls.smooth and name in _able(smooth=True) and name not in kinked:
            raise ValueError(
                f"The solver {name!r} cannot minimise the penalty of {cls.__name__}, which is not differentiable at "
                f"zero. Register a solver of your own under another name, or use one of {', '.join(kinked)}."
            )
        cls._also_allowed = (*cls.__dict__.get("_also_allowed", ()), name)

    @property
    def default_solver(self) -> str:
        """Name of the solver used where none is named."""
        return "LBFGS" if self.smooth else "ProximalGradient"

    def check_solver(self, name: str) -> None:
        """Raise a ValueError if the solver cannot minimise with this penalty."""
        if name not in self.allowed_solvers:
            raise ValueError(
                f"The solver {name!r} is not allowed for {type(self).__name__}"
                + ("" if self.smooth else ", whose penalty is not differentiable at zero")
                + f". Allowed solvers: {', '.join(self.allowed_solvers)}."
            )

    @property
    def default_strength(self):
        """Strength used where none is given; None for a regularizer that takes none."""
        return 1.0

    @property
    def flat(self) -> bool:
        """Whether it is no prior at all, whatever the strength."""
        return False

    def left_to_default(self, strength) -> str:
        """Return in words which strengths were not given, and what is used; empty if none is missing.

        Parameters
        ----------
        strength
            As the estimator has it; None if it was not given.
        """
        if strength is not None or self.default_strength is None:
            return ""
        return f"{type(self).__name__}; using {self.default_strength}"

    def check_strength(self, strength):
        """Return the strength in its canonical form: a float, an array, or a pytree of these; Scale to learn it.

        Raises
        ------
        TypeError
            If it is not numeric.
        ValueError
            If a strength is negative or not finite, or is to be learned for a prior with a kink.
        """
        if is_learned(strength):
            return self.check_scale(strength)
        return strengths(strength, "regularizer_strength")

    def check_scale(self, strength) -> Scale:
        """Return what is said of a strength to be learned: `Scale()` for "auto".

        Raises
        ------
        ValueError
            If the prior has a kink.
        """
        if not self.smooth:
            raise ValueError(
                f"The strength of {type(self).__name__} cannot be learned by `fit`: with a kink in the prior, the mode "
                "says little of the evidence. Choose one by cross-validation "
                "(`bayesglm.model_selection.StrengthSearchCV`), or use Ridge."
            )
        return Scale() if isinstance(strength, str) else strength

    def known(self, strength):
        """Return a strength, as :meth:`check_strength` returns it, with one in place of what is to be learned."""
        return 1.0 if isinstance(strength, Scale) else strength

    def scales(self, strength, terms, structure, widths) -> tuple[Scale | None, ...] | None:
        """Return how the strength of each term is to be learned, None where it is known; None if all are.

        Parameters
        ----------
        strength
            As :meth:`check_strength` returns it.
        terms : tuple of Term
        structure, widths
            Tree structure of the design, and numbers of features of its leaves.
        """
        return (strength,) * len(terms) if isinstance(strength, Scale) else None

    def resolved(self, strength, learned):
        """Return a strength with what was learned, in the structure of the coefficients, in place of a Scale."""
        return learned if isinstance(strength, Scale) else strength

    def with_strength(self, value, strength):
        """Return an estimator's strength with another number in its place; what is no strength is kept."""
        return value

    def of_coefficients(self, values, strength, tree, leaf_slices):
        """Return an estimator's strength from one for each coefficient, all features of a neuron having the same.

        Parameters
        ----------
        values : array (features, *outputs)
        strength
            As :meth:`check_strength` returns it; what is no strength is kept.
        tree : callable
            Turns arrays (features, *outputs) into the structure of X.
        leaf_slices : list of slice
            Features of each leaf of the design.
        """
        return self.with_strength(tree(values), strength)

    @abc.abstractmethod
    def terms(self, strength, mask, broadcast, leaf_slices) -> Term | tuple[Term, ...]:
        """Return the terms of the prior, for different features each.

        Parameters
        ----------
        strength
            As :meth:`check_strength` returns it.
        mask : bool array (features, *outputs)
            Coefficients in use.
        broadcast : callable
            Turns one strength (scalar, array or pytree) into an array (features, *outputs).
        leaf_slices : list of slice
            Features of each leaf of the design.
        """

    def prior(self, strength, mask, structure, widths, name: str = "strength") -> Prior:
        """Return the prior of coefficients.

        Parameters
        ----------
        strength
            As :meth:`check_strength` returns it.
        mask : bool array (features, *outputs)
            Coefficients in use.
        structure, widths
            Tree structure of X, and the number of features of each leaf.
        name : str
            What errors call the strength.

        Raises
        ------
        ValueError
            If strengths or terms do not fit the features, or there is a kink that `smooth` denies.
        """

        def broadcast(value):
            return per_coefficient(value, structure, widths, mask.shape[1:], name)

        found = Prior.of(self.terms(strength, mask, broadcast, leaf_slices(widths)), mask)
        if self.smooth and not found.smooth:
            raise ValueError(
                f"{type(self).__name__} has a term with a kink, but says that it is smooth. Set `smooth = False` in "
                "the class."
            )
        return found

    def penalized_loss(self, loss, params, strength):
        """Return the loss with the penalty added, a function of the same arguments.

        Parameters
        ----------
        loss : callable
            Of parameters (coef, intercept) and data; returns a number, or a number and something beside it.
        params : tuple (coef, intercept)
            Parameters of the structure and shapes to come.
        strength
            As the estimator takes it.
        """
        penalty, to_lane, _ = self._of_params(params, strength)

        def penalized(params, *args):
            found = loss(params, *args)
            value = penalty.value(to_lane(params[0]))[0]
            return (found[0] + value, *found[1:]) if isinstance(found, tuple) else found + value

        return penalized

    def get_proximal_operator(self, params, strength):
        r"""Return the proximal operator of the penalty, a function ``prox(params, strength=None, scaling=1.0)``.

        It returns the minimiser over coefficients of `scaling` times the penalty plus half the squared distance, and
        the intercept as it is.

        Parameters
        ----------
        params, strength
            As in :meth:`penalized_loss`. A strength given to the operator takes the place of this one.

        References
        ----------
        Parikh, Boyd (2013), Proximal Algorithms. doi:10.1561/2400000003
        """

        def prox(params, strength=strength, scaling=1.0):
            penalty, to_lane, back = self._of_params(params, strength)
            return back(penalty.whole_prox(to_lane(params[0]), scaling)), params[1]

        return prox

    def within(self, mask):
        """Return this regularizer for parameters of which only those in the mask (features, *outputs) are in use."""
        other = copy.copy(self)
        other._used = None if mask.all() else mask
        return other

    def _of_params(self, params, strength):
        """Return the prior of parameters as one lane, and what brings coefficients there and back."""
        leaves, structure = jax.tree.flatten(params[0])
        widths, outputs = tuple(map(len, leaves)), np.shape(leaves[0])[1:]
        shape = (sum(widths), *outputs)

        def to_lane(coef):
            coef = jnp.concatenate([jnp.asarray(leaf) for leaf in jax.tree.leaves(coef)])
            return coef.reshape(len(coef), -1).T[None]

        def back(lane):
            return design_split(structure, widths, lane[0].T.reshape(shape))

        mask = np.ones(shape, bool) if self._used is None else self._used
        found = self.prior(self.check_strength(strength), mask, structure, widths)
        return found.in_lanes(1), to_lane, back

    def __repr__(self):
        kept = inspect.signature(type(self).__init__).parameters
        given = (
            f"{k}={v!r}" for k, v in self.get_params().items() if _is_worth_showing(v, kept.get(k))
        )
        return f"{type(self).__name__}({', '.join(given)})"


def _is_worth_showing(value, parameter) -> bool:
    """Whether ``repr`` shows a parameter: what is short, and no default."""
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(value)):
        return False
    return parameter is None or repr(value) != repr(parameter.default)
