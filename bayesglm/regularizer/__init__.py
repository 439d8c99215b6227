r"""Regularizers: penalties on the coefficients, and the priors they stand for.

With :math:`n` training rows and :math:`\kappa` the family's factor between loss and log-density, minimising
``mean loss + penalty`` finds the mode of the posterior under the prior :math:`\exp(-n \kappa\, penalty) / Z`.

A regularizer is a name for the terms of a prior (:mod:`bayesglm.prior`), and checks the strength that these take.
"""

from __future__ import annotations

from bayesglm._input import did_you_mean
from bayesglm.regularizer._absolute import Laplace, Normal
from bayesglm.regularizer._base import Regularizer
from bayesglm.regularizer._base import know_solver as know_solver
from bayesglm.regularizer._documented import ElasticNet, GroupLasso, Lasso, Ridge, UnRegularized
from bayesglm.regularizer._leaves import PerLeaf
from bayesglm.regularizer._structured import GaussianProcess, Quadratic, Smooth

__all__ = [
    "ElasticNet",
    "GaussianProcess",
    "GroupLasso",
    "Laplace",
    "Lasso",
    "Normal",
    "PerLeaf",
    "Quadratic",
    "Regularizer",
    "Ridge",
    "Smooth",
    "UnRegularized",
]

REGULARIZERS = {
    kind.__name__: kind
    for kind in (
        UnRegularized, Ridge, Lasso, ElasticNet, GroupLasso, Smooth, GaussianProcess, Quadratic, Normal, Laplace,
    )
}  # fmt: skip


def resolve(regularizer) -> Regularizer:
    """Return the regularizer that a name, an object, or a dict of these for the leaves of X stands for.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an instance.
    """
    if regularizer is None:
        return UnRegularized()
    if isinstance(regularizer, dict):
        return PerLeaf(regularizer)
    if isinstance(regularizer, str):
        name = regularizer.rsplit(".", 1)[-1]
        if name not in REGULARIZERS:
            raise ValueError(
                f"Unknown regularizer {regularizer!r}. Known: {', '.join(REGULARIZERS)}."
                f"{did_you_mean(name, REGULARIZERS)}"
            )
        if name == "Quadratic":
            raise ValueError(
                "Quadratic has no default: give `Quadratic(precision)`, with a matrix."
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
            "`regularizer` must be a name or an instance of `bayesglm.regularizer.Regularizer`, or a dict of these for "
            f"the leaves of X, but {regularizer!r} was given."
        )
    return regularizer
