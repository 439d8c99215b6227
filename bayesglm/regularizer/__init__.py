r"""Regularizers: penalties on the coefficients, and the priors they stand for.

With :math:`n` training rows and :math:`\kappa` the family's factor between loss and log-density, minimising
``mean loss + penalty`` finds the mode of the posterior under the prior :math:`\exp(-n \kappa\, penalty) / Z`.

A regularizer is a name for the terms of a prior (:mod:`bayesglm.prior`), and checks the strength that these take.
"""

from __future__ import annotations

from bayesglm.prior import Scale
from bayesglm.regularizer._absolute import Laplace, Normal
from bayesglm.regularizer._base import Regularizer
from bayesglm.regularizer._base import know_solver as know_solver
from bayesglm.regularizer._documented import ElasticNet, GroupLasso, Lasso, Ridge, UnRegularized
from bayesglm.regularizer._leaves import PerLeaf
from bayesglm.regularizer._names import REGULARIZERS as REGULARIZERS
from bayesglm.regularizer._names import named
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
    "Scale",
    "Smooth",
    "UnRegularized",
]


def resolve(regularizer) -> Regularizer:
    """Return the regularizer that a name, an object, or a dict of these for the leaves of X stands for.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If it is none of these.
    """
    return PerLeaf(regularizer) if isinstance(regularizer, dict) else named(regularizer)
