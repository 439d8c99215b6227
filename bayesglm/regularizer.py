r"""Regularizers: penalties on the coefficients, and the priors they stand for.

With :math:`n` training rows and :math:`\kappa` the family's factor between loss and log-density, minimising
``mean loss + penalty`` finds the mode of the posterior under the prior :math:`\exp(-n \kappa\, penalty) / Z`.

A regularizer is a name for the terms of a prior (:mod:`bayesglm.prior`), and checks the strength that these take.
"""

from __future__ import annotations

import abc
import copy

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import prior
from bayesglm._component import Component
from bayesglm._design import leaf_slices, per_coefficient
from bayesglm._design import split as design_split
from bayesglm._input import did_you_mean, strengths
from bayesglm.prior import Prior, Scale, Term

__all__ = ["ElasticNet", "GroupLasso", "Lasso", "Regularizer", "Ridge", "Scale", "UnRegularized"]


# Solvers of the package, and whether they can minimise penalties with kinks; `bayesglm.solvers` says so of its own.
_SOLVERS: dict[str, bool] = {}


def know_solver(name: str, proximal: bool) -> None:
    """Let regularizers know a solver of the package, and whether it can minimise penalties with kinks."""
    _SOLVERS[name] = proximal


def _is_learned(strength) -> bool:
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
        """Strength used where none is given."""
        return 1.0

    def check_strength(self, strength):
        """Return the strength in its canonical form: a float, an array, or a pytree of these; Scale to learn it.

        Raises
        ------
        TypeError
            If it is not numeric.
        ValueError
            If a strength is negative or not finite, or is to be learned for a prior with a kink.
        """
        if _is_learned(strength):
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
                "(`sklearn.model_selection.GridSearchCV`), or use Ridge."
            )
        return Scale() if isinstance(strength, str) else strength

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

    def prior(self, strength, mask, broadcast, leaf_slices) -> Prior:
        """Return the prior; parameters as for :meth:`terms`.

        Raises
        ------
        ValueError
            If strengths or terms do not fit the features, or there is a kink that `smooth` denies.
        """
        found = Prior.of(self.terms(strength, mask, broadcast, leaf_slices), mask)
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

        def broadcast(value):
            return per_coefficient(value, structure, widths, outputs, "strength")

        def to_lane(coef):
            coef = jnp.concatenate([jnp.asarray(leaf) for leaf in jax.tree.leaves(coef)])
            return coef.reshape(len(coef), -1).T[None]

        def back(lane):
            return design_split(structure, widths, lane[0].T.reshape(shape))

        strength, slices = self.check_strength(strength), leaf_slices(widths)
        mask = np.ones(shape, bool) if self._used is None else self._used
        found = self.prior(strength, mask, broadcast, slices)
        return found.in_lanes(1), to_lane, back

    def __repr__(self):
        return f"{type(self).__name__}()"


class UnRegularized(Regularizer):
    """No penalty: a flat prior. Any strength is ignored."""

    @property
    def default_strength(self):
        """None."""
        return None

    def check_strength(self, strength):
        """Return None: no strength is needed."""

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the flat term."""
        return prior.Flat()


class Ridge(Regularizer):
    """Penalty ``strength / 2 * sum(coef**2)``: a normal prior.

    References
    ----------
    Hoerl, Kennard (1970). doi:10.1080/00401706.1970.10488634
    """

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the normal term."""
        return prior.Gaussian(strength=broadcast(strength))


class Lasso(Regularizer):
    """Penalty ``strength * sum(abs(coef))``: a Laplace prior.

    References
    ----------
    Tibshirani (1996) doi:10.1111/j.2517-6161.1996.tb02080.x; Park, Casella (2008) doi:10.1198/016214508000000337
    """

    smooth = False

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the Laplace term."""
        return prior.Laplace(broadcast(strength))


class ElasticNet(Regularizer):
    """Penalty ``strength * sum((1 - ratio) / 2 * coef**2 + ratio * abs(coef))``.

    The strength of the estimator is a pair (strength, ratio) with ratios in [0, 1]; a single value
    is a strength with the ratio 0.5.

    References
    ----------
    Zou, Hastie (2005). doi:10.1111/j.1467-9868.2005.00503.x
    """

    smooth = False

    @property
    def default_strength(self):
        """``(1.0, 0.5)``."""
        return (1.0, 0.5)

    def check_strength(self, strength):
        """Return the pair (strength, ratio).

        Raises
        ------
        TypeError
            If a tuple does not have two entries, or an entry is not numeric.
        ValueError
            If a ratio is outside [0, 1].
        """
        if _is_learned(strength):
            return self.check_scale(strength)
        if not isinstance(strength, tuple):
            strength = (strength, 0.5)
        if len(strength) != 2:
            raise TypeError(
                "`regularizer_strength` of ElasticNet must be a pair (strength, ratio), "
                f"but a tuple of length {len(strength)} was given."
            )
        ratio = strengths(strength[1], "regularizer ratio")
        if any(np.any(np.asarray(leaf) > 1) for leaf in jax.tree.leaves(ratio)):
            raise ValueError(
                f"The ratio of ElasticNet must lie in [0, 1], but {strength[1]!r} was given."
            )
        return (strengths(strength[0], "regularizer_strength"), ratio)

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the elastic net term."""
        value, ratio = (broadcast(part) for part in strength)
        return prior.ElasticNet(value * ratio, value * (1.0 - ratio))


class GroupLasso(Regularizer):
    r"""Penalty :math:`\sum_g strength_g \sqrt{p_g} \lVert w_g \rVert_2`.

    :math:`p_g` counts the coefficients of the group that are in use (not masked).

    Parameters
    ----------
    mask : array (n_groups, *coef shape), or a pytree of these that mirrors the coefficients
        1 where a coefficient belongs to a group; at most one group for each, and coefficients in no group are not
        penalised. By default the features of each leaf of the design form one group for each neuron (and class).

    References
    ----------
    Yuan, Lin (2006). doi:10.1111/j.1467-9868.2005.00532.x
    """

    smooth = False

    def __init__(self, mask=None):
        self.mask = mask

    @property
    def mask(self):
        """Groups, as given."""
        return self._mask

    @mask.setter
    def mask(self, value):
        if isinstance(value, (list, tuple)) and all(map(np.isscalar, jax.tree.leaves(value))):
            value = np.asarray(value)  # nested lists of numbers, not a pytree of scalars
        if value is not None:
            _check_group_mask(value)
        self._mask = value

    def check_strength(self, strength):
        """Return a number or an array (n_groups,).

        Raises
        ------
        ValueError
            If it is an array of more than one dimension.
        """
        value = super().check_strength(strength)
        if not isinstance(value, float) and np.ndim(value) != 1:
            raise ValueError(
                "`regularizer_strength` of GroupLasso must be a number or an array (n_groups,), "
                f"but {strength!r} was given."
            )
        return value

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the group term."""
        if self.mask is None:
            group = _column_groups(mask.shape, leaf_slices)
        else:
            group = _groups_of_mask(self.mask, mask.shape, leaf_slices)
        n_groups = int(group.max()) + 1 if self.mask is None else len(jax.tree.leaves(self.mask)[0])
        if not isinstance(strength, float) and strength.shape != (n_groups,):
            raise ValueError(
                f"`regularizer_strength` has shape {strength.shape}, but there are {n_groups} groups; "
                f"expected a number or an array of shape ({n_groups},)."
            )
        size = np.bincount(group[(group >= 0) & mask], minlength=n_groups)
        return prior.GroupLaplace(np.sqrt(size) * strength, np.where(mask, group, -1))


def _column_groups(shape, leaf_slices):
    """One group for each leaf and each column of coefficients."""
    n_columns = int(np.prod(shape[1:], dtype=int))
    group = np.empty((shape[0], n_columns), dtype=int)
    for i, rows in enumerate(leaf_slices):
        group[rows] = i * n_columns + np.arange(n_columns)
    return group.reshape(shape)


def _groups_of_mask(mask, shape, leaf_slices):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mask)]
    widths = [rows.stop - rows.start for rows in leaf_slices] if len(leaves) > 1 else shape[:1]
    expected = [(len(leaves[0]), width, *shape[1:]) for width in widths]
    if [leaf.shape for leaf in leaves] != expected:
        raise ValueError(
            f"The mask of GroupLasso has leaves of shape {[leaf.shape for leaf in leaves]}, but "
            f"{expected} was expected: (n_groups, *coef shape)."
        )
    stacked = np.concatenate(leaves, axis=1).astype(bool)
    return np.where(stacked.any(axis=0), stacked.argmax(axis=0), -1)


def _check_group_mask(mask) -> None:
    leaves = jax.tree.leaves(mask)
    try:
        leaves = [np.asarray(leaf, dtype=float) for leaf in leaves]
    except (TypeError, ValueError) as error:
        raise TypeError("The mask of GroupLasso must be an array or a pytree of arrays.") from error
    if not leaves or any(leaf.ndim < 2 for leaf in leaves):
        raise ValueError("The mask of GroupLasso must have shape (n_groups, *coef shape).")
    if len({len(leaf) for leaf in leaves}) > 1:
        raise ValueError(
            "All leaves of the mask of GroupLasso must have the same number of groups, but they have "
            f"{[len(leaf) for leaf in leaves]}."
        )
    if not all(np.isin(leaf, (0, 1)).all() for leaf in leaves):
        raise ValueError("The mask of GroupLasso must hold zeros and ones only.")
    if any((leaf.sum(axis=0) > 1).any() for leaf in leaves):
        raise ValueError("A coefficient can be in one group of GroupLasso at most.")
    if not any(leaf.any() for leaf in leaves):
        raise ValueError("The mask of GroupLasso is empty: no coefficient is in a group.")


REGULARIZERS = {
    kind.__name__: kind for kind in (UnRegularized, Ridge, Lasso, ElasticNet, GroupLasso)
}


def resolve(regularizer) -> Regularizer:
    """Return the regularizer that a name or an object stands for.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an instance.
    """
    if regularizer is None:
        return UnRegularized()
    if isinstance(regularizer, str):
        name = regularizer.rsplit(".", 1)[-1]
        if name not in REGULARIZERS:
            raise ValueError(
                f"Unknown regularizer {regularizer!r}. Known: {', '.join(REGULARIZERS)}."
                f"{did_you_mean(name, REGULARIZERS)}"
            )
        return REGULARIZERS[name]()
    if type(regularizer).__module__.partition(".")[0] == "nemos":
        name = type(regularizer).__name__
        raise TypeError(
            f"`regularizer` is NeMoS's {name}, which has no prior. Use `bayesglm.regularizer.{name}` or the name "
            f"{name!r}."
        )
    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            "`regularizer` must be a name or an instance of `bayesglm.regularizer.Regularizer`, "
            f"but {regularizer!r} was given."
        )
    return regularizer
