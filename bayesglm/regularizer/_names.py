"""Regularizers by their names."""

from __future__ import annotations

from bayesglm._input import did_you_mean
from bayesglm.regularizer._absolute import Laplace, Normal
from bayesglm.regularizer._base import Regularizer
from bayesglm.regularizer._documented import ElasticNet, GroupLasso, Lasso, Ridge, UnRegularized
from bayesglm.regularizer._structured import GaussianProcess, Quadratic, Smooth

REGULARIZERS = {
    kind.__name__: kind
    for kind in (
        UnRegularized, Ridge, Lasso, ElasticNet, GroupLasso, Smooth, GaussianProcess, Quadratic, Normal, Laplace,
    )
}  # fmt: skip


def named(regularizer) -> Regularizer:
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
