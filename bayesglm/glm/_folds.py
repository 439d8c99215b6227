"""Which rows train and which test, by number of fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayesglm.glm._problem import Problem

#: What a row bears that is in no fold; folds are numbered by bytes.
NO_FOLD = 255


@dataclass(frozen=True, eq=False)
class Folds:
    """Folds whose tests do not overlap.

    Parameters
    ----------
    lines : uint8 array (lines, samples)
        In the first line the fold that tests a row; in others, folds that neither test nor train with it.
    count : int
    """

    lines: np.ndarray
    count: int

    @classmethod
    def of(cls, splits, n_samples: int) -> Folds:
        """Return the folds of pairs of indices (train, test).

        Raises
        ------
        ValueError
            If two tests, or train and test of a fold, overlap, a part is empty, or there are more than 255 folds.
        """
        splits = [tuple(_indices(part, n_samples) for part in pair) for pair in splits]
        if not 2 <= len(splits) <= NO_FOLD:
            raise ValueError(f"There must be 2 to {NO_FOLD} folds, but `cv` gives {len(splits)}.")
        lines = [np.full(n_samples, NO_FOLD, np.uint8)]
        for k, (train, test) in enumerate(splits):
            trains, tests = (_mask(part, n_samples) for part in (train, test))
            for name, part in (("train", trains), ("test", tests)):
                if not part.any():
                    raise ValueError(f"Fold {k} of `cv` has no rows to {name} with.")
            if (trains & tests).any():
                raise ValueError(
                    f"Fold {k} of `cv` trains with rows that it tests, such as row {np.argmax(trains & tests)}."
                )
            twice = tests & (lines[0] != NO_FOLD)
            if twice.any():
                raise ValueError(
                    f"Row {np.argmax(twice)} is tested by two folds of `cv`. Use a splitter whose tests do not overlap "
                    "(KFold, GroupKFold, TimeSeriesSplit, BlockedKFold; not one that repeats or shuffles anew)."
                )
            lines[0][tests] = k
            _write(lines, ~trains & ~tests, k)
        return cls(np.stack(lines), len(splits))

    def trains(self, fold: int) -> np.ndarray:
        """Return which rows a fold trains with, bool (samples,)."""
        return ~(self.lines == fold).any(axis=0)

    def tests(self, fold: int) -> np.ndarray:
        """Return which rows a fold tests, bool (samples,)."""
        return self.lines[0] == fold

    def training(self, problem: Problem, fold: int) -> Problem:
        """Return the problem with no weight on the rows that a fold does not train with."""
        weight = problem.rows.weight * self.trains(fold)[:, None]
        return replace(problem, rows=replace(problem.rows, weight=weight))


def _write(lines: list, left, fold: int) -> None:
    """Write the number of a fold beside rows that it leaves out, where a line has room."""
    left = left.copy()
    for line in lines[1:]:
        free = left & (line == NO_FOLD)
        line[free] = fold
        left &= ~free
    if left.any():
        lines.append(np.where(left, fold, NO_FOLD).astype(np.uint8))


def _indices(part, n_samples: int) -> np.ndarray:
    part = np.asarray(part)
    if part.dtype == bool and part.shape == (n_samples,):
        return np.flatnonzero(part)
    if part.ndim != 1 or (part.size and part.dtype.kind not in "iu"):
        raise ValueError(
            f"`cv` must give pairs of row numbers (train, test), but gave {part.dtype} of shape {part.shape}."
        )
    if part.size and (part.min() < 0 or part.max() >= n_samples):
        raise ValueError(
            f"`cv` must give row numbers from 0 to {n_samples - 1}, but gave {part.min()} to {part.max()}."
        )
    if _mask(part, n_samples).sum() < part.size:
        raise ValueError("`cv` gave a row twice in one fold; a row counts once, or by its weight.")
    return part


def _mask(index, n_samples: int) -> np.ndarray:
    found = np.zeros(n_samples, bool)
    found[index.astype(int)] = True  # an empty list has no integers
    return found
