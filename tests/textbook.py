"""Formulas as they stand in textbooks, written independently of the package."""

import numpy as np


def penalty(kind, strength, coef, used=1, leaves=(slice(None),)):
    """Penalty of coefficients (features,) or (features, columns): groups are the leaves of each column."""
    if kind == "UnRegularized":
        return 0.0
    if kind == "Ridge":
        return 0.5 * np.sum(strength * coef**2)
    if kind == "Lasso":
        return np.sum(strength * np.abs(coef))
    if kind == "ElasticNet":
        strength, ratio = strength
        return np.sum(strength * ((1 - ratio) / 2 * coef**2 + ratio * np.abs(coef)))
    columns = coef.reshape(len(coef), -1).T
    sizes = np.broadcast_to(used, coef.shape).reshape(len(coef), -1).T
    return sum(
        strength * np.sqrt(size[rows].sum()) * np.linalg.norm(column[rows])
        for rows in leaves
        for column, size in zip(columns, sizes, strict=True)
    )
