"""Folds of time series."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np


class BlockedKFold:
    """Contiguous blocks of rows, each tested by a fit that has not seen what lies within a gap of it.

    Neighbouring bins of a recording are alike; without a gap, those beside a block give it away.

    Parameters
    ----------
    n_splits : int
        Number of blocks, at least 2.
    gap : int
        Rows on both sides of a block that its fold does not train with: at least the length of history filters.

    Examples
    --------
    >>> import bayesglm as nmo
    >>> folds = nmo.model_selection.BlockedKFold(3, gap=1)
    >>> [train.tolist() for train, test in folds.split(range(9))]
    [[4, 5, 6, 7, 8], [0, 1, 7, 8], [0, 1, 2, 3, 4]]
    """

    def __init__(self, n_splits=5, gap=0):
        for name, value, least in (("n_splits", n_splits, 2), ("gap", gap, 0)):
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or value < least:
                raise ValueError(
                    f"`{name}` must be an integer of at least {least}, but {value!r} was given."
                )
        self.n_splits, self.gap = int(n_splits), int(gap)

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of folds; arguments are ignored."""
        return self.n_splits

    def split(self, X, y=None, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Return an iterator over the rows that train and test, as integer arrays.

        Parameters
        ----------
        X : array (samples, ...), or a pytree of these
        y, groups
            Ignored.

        Raises
        ------
        ValueError
            If there are fewer rows than blocks, or a fold is left without rows to train with.
        """
        n = len(X) if not isinstance(X, dict) else len(jax.tree.leaves(X)[0])
        if n < self.n_splits:
            raise ValueError(f"{self.n_splits} blocks need as many rows, but there are {n}.")
        every, bounds = np.arange(n), np.linspace(0, n, self.n_splits + 1).astype(int)
        for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
            far = (every < begin - self.gap) | (every >= end + self.gap)
            if not far.any():
                raise ValueError(
                    f"A gap of {self.gap} rows leaves nothing of {n} to train with. Use a shorter gap or fewer blocks."
                )
            yield every[far], every[begin:end]

    def __repr__(self):
        return f"BlockedKFold(n_splits={self.n_splits}, gap={self.gap})"
