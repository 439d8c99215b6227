"""Priors of coefficients, which are penalties: terms, and precisions of normal ones.

A regularizer is a name for a tuple of terms. A term knows its penalty, its proximal operator and its density; what
solvers, samplers, the joint density and the report need is derived from these.
"""

from bayesglm.prior import _mixture as mixture
from bayesglm.prior._gaussian import Gaussian
from bayesglm.prior._group import GroupLaplace
from bayesglm.prior._kinked import ElasticNet, Laplace, Separable
from bayesglm.prior._lanes import LanePrior, index_of
from bayesglm.prior._mixture import Mixing
from bayesglm.prior._numbers import Numbers, numbers
from bayesglm.prior._precision import Banded, Dense, Diagonal, Kronecker, Pinned, Precision
from bayesglm.prior._prior import Prior
from bayesglm.prior._scale import BOUNDS, Scale
from bayesglm.prior._terms import Flat, Term, moved

__all__ = [
    "BOUNDS",
    "Banded",
    "Dense",
    "Diagonal",
    "ElasticNet",
    "Flat",
    "Gaussian",
    "GroupLaplace",
    "Kronecker",
    "LanePrior",
    "Laplace",
    "Mixing",
    "Numbers",
    "Pinned",
    "Precision",
    "Prior",
    "Scale",
    "Separable",
    "Term",
    "index_of",
    "mixture",
    "moved",
    "numbers",
]
