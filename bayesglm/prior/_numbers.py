"""What a report says of a prior: how much it informs, where it is flat, and how wide it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Share of a direction that a coefficient has in what is flat, below which rounding alone can be behind it.
_NOTHING = 1e-10


class Numbers(NamedTuple):
    """Arrays (blocks, features), for coefficients in use."""

    share: np.ndarray  # of the information on each coefficient, from 0 to 1
    sd: np.ndarray  # NaN where the prior is flat
    flat: np.ndarray  # bool


def numbers(curvature, covariance, used) -> Numbers:
    """Return the numbers of normal priors.

    Parameters
    ----------
    curvature : array (blocks, features), or (blocks, features, features)
        Precisions, diagonal or not.
    covariance : array (blocks, features, features)
        Of the posterior.
    used : bool array (blocks, features)
    """
    if curvature.ndim == 2:
        precision = np.where(used, curvature, 0.0)
        proper = used & (precision > 0)
        variance = np.diagonal(covariance, axis1=-2, axis2=-1)
        sd = np.where(proper, 1.0 / np.sqrt(np.where(proper, precision, 1.0)), np.nan)
        share = np.minimum(precision * variance, 1.0)
        return Numbers(share, sd, used & ~proper)
    both = used[..., :, None] & used[..., None, :]
    curvature = np.where(both, curvature, 0.0)
    values, vectors = np.linalg.eigh(curvature)
    top = np.max(values, axis=-1, keepdims=True, initial=0.0)
    none = values <= top * values.shape[-1] * np.finfo(float).eps
    inverse = np.where(none, 0.0, 1.0 / np.where(none, 1.0, values))
    variance = np.sum(np.square(vectors) * inverse[..., None, :], axis=-1)
    flat = used & (np.sum(np.square(vectors) * none[..., None, :], axis=-1) > _NOTHING)
    share = np.clip(np.sum(curvature * covariance, axis=-1), 0.0, 1.0)
    return Numbers(share, np.where(used & ~flat, np.sqrt(variance), np.nan), flat)
