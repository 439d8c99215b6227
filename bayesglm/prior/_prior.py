"""A prior of coefficients: independent terms, and everything that is derived from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpyro.distributions as dist

from bayesglm.prior import _distributions
from bayesglm.prior._lanes import LanePrior, index_of
from bayesglm.prior._terms import Flat, Term, rows_of

# Precision of a mean that is one with the intercept, per row, in units of the predictor.
_PINNED = 1e3
# Singular value below which directions of several classes are the same.
_SAME = 1e-8


@dataclass(frozen=True)
class Prior:
    """Independent terms, and which coefficients are in use; flat where no term is.

    Parameters
    ----------
    terms : tuple of Term
        Of different features each, with arrays in full: see :meth:`of`.
    mask : bool array (features, *outputs)
        Coefficients in use.
    """

    terms: tuple[Term, ...]
    mask: np.ndarray

    @classmethod
    def of(cls, terms, mask) -> Prior:
        """Return the prior of terms whose arrays may yet broadcast.

        Raises
        ------
        ValueError
            If two terms cover the same feature, or an array does not fit the features.
        """
        terms = terms if isinstance(terms, tuple) else (terms,)
        for term in terms:
            if not isinstance(term, Term):
                raise TypeError(
                    f"A prior is made of terms (`bayesglm.prior`), but {term!r} was given."
                )
        covered = np.zeros(len(mask), int)
        terms = tuple(t.replace(features=rows_of(t.features, len(mask))) for t in terms)
        for term in terms:
            covered[index_of(term.features)] += 1
        if (covered > 1).any():
            raise ValueError(
                f"Feature {int(np.argmax(covered > 1))} has {covered.max()} terms, but a prior has one for each. "
                "Add up their precisions in one term."
            )
        return cls(tuple(t.of_shape(mask[index_of(t.features)].shape) for t in terms), mask)

    def _masked(self, term) -> np.ndarray:
        return self.mask[index_of(term.features)]

    @property
    def smooth(self) -> bool:
        """Whether it is differentiable everywhere."""
        return all(term.smooth for term in self.terms)

    @property
    def flat(self) -> bool:
        """Whether it is flat whatever the strength."""
        return all(isinstance(term, Flat) for term in self.terms)

    @property
    def absolute(self) -> bool:
        """Whether some strength does not count per row: a mode then depends on their number, and on the dispersion."""
        return any(term.unit == "absolute" for term in self.terms)

    @property
    def pins(self) -> list:
        """Features of each term that :meth:`pinned` gave a prior of their mean."""
        return [term.features for term in self.terms if term.is_pinned]

    def pinned(self, sum_of, n_rows: float) -> Prior:
        """Return the prior with what it and the intercept leave undecided decided.

        Where the features of a term sum to a constant, the mean of their coefficients is one with the intercept. If the
        term is flat along it, it gets a normal prior around zero, as if a thousand times the rows had been seen with a
        curvature of one: next to nothing beside the standard error of an intercept, and no trouble for solvers.
        Predictor and other directions do not depend on it: whatever moves the mean, the intercept takes up.

        Parameters
        ----------
        sum_of : callable
            Returns the number that some features sum to in every row, or None where they do not.
        n_rows : float
        """
        terms = []
        for term in self.terms:
            total = None
            if term.leaves_constant_free(self._masked(term)):
                total = sum_of(index_of(term.features))
            if total is not None:
                rate = _PINNED * total**2 * (n_rows if term.unit == "absolute" else 1.0)
                term = term.pinned(self._masked(term), rate)
            terms.append(term)
        return Prior(tuple(terms), self.mask)

    def mapped(self, function) -> Prior:
        """Return the prior with a function of each array with an entry per coefficient."""
        return Prior(tuple(term.mapped(function) for term in self.terms), self.mask)

    def select(self, neurons) -> Prior:
        """Return the prior of some of the neurons."""
        return Prior(tuple(term.select(neurons) for term in self.terms), self.mask[:, neurons])

    def ties(self, n_neurons: int) -> bool:
        """Return whether coefficients of several neurons depend on one another."""
        return n_neurons > 1 and any(term.ties(n_neurons) for term in self.terms)

    def in_lanes(self, n_lanes: int) -> LanePrior:
        """Return the prior in lane form."""

        def to_lanes(array):
            array = np.asarray(array)
            return np.moveaxis(array.reshape(len(array), n_lanes, -1), 0, -1)

        some = (term for term in self.terms if not isinstance(term, Flat))
        return LanePrior(tuple(t.in_lanes(to_lanes, self._masked(t)) for t in some))

    # -- propriety ---------------------------------------------------------------------------------

    def unpenalised(self) -> np.ndarray:
        """Return which coefficients in use have no prior at all, bool (features, *outputs)."""
        found = self.mask.copy()
        for term in self.terms:
            index = index_of(term.features)
            found[index] &= ~term.proper(self._masked(term))
        return found

    def null_space(self, neuron: int, n_neurons: int) -> np.ndarray:
        """Return flat directions of one neuron, beside coefficients without any prior, (features, directions)."""
        found = [np.zeros((len(self.mask), 0))]
        for term in self.terms:
            if not term.couples:
                continue
            mask = self._masked(term)
            columns = (len(mask), n_neurons, -1)
            mask, positive = (
                a.reshape(columns)[:, neuron] for a in (mask, np.broadcast_to(term.strength > 0, mask.shape))
            )  # fmt: skip
            patterns = np.unique(mask.T[positive.any(axis=0)], axis=0)
            inner = [term.null_space(used) for used in patterns]
            if len(inner) > 1:  # what any class has
                vectors, values, _ = np.linalg.svd(
                    np.concatenate(inner, axis=1), full_matrices=False
                )
                inner = [vectors[:, values > _SAME]]
            for each in inner:
                directions = np.zeros((len(self.mask), each.shape[1]))
                directions[index_of(term.features)] = each
                found.append(directions)
        return np.concatenate(found, axis=1)

    def unseen_shifts(self, n_neurons: int) -> np.ndarray:
        """Return whether it is flat along some change of coefficients common to all classes, bool (neurons,)."""
        by_class = lambda a: a.reshape(len(a), n_neurons, -1)  # noqa: E731
        found = by_class(self.unpenalised()).all(axis=2).any(axis=0)
        for term in self.terms:
            if term.couples:
                mask = self._masked(term)
                used, strong = by_class(mask).all(axis=2), by_class(term.proper(mask)).any(axis=2)
                for k in np.flatnonzero(strong.any(axis=0)):
                    found[k] |= bool(term.null_space(used[:, k]).shape[1])
        return found

    def convexity(self) -> float | None:
        """Return the smallest curvature of the penalty where that is the strength of normal priors, else None."""
        if self.flat or not self.smooth or any(term.couples for term in self.terms):
            return None
        found = np.zeros(self.mask.shape)
        for term in self.terms:
            found[index_of(term.features)] = term.convexity()
        return float(found.min()) if found.size else None

    def counted(self, used, rank) -> np.ndarray:
        """Return the parameters of a smooth fit, per neuron and class: all in use, or the rank where all is flat.

        Parameters
        ----------
        used : bool array (features, neurons)
        rank : callable
            Rank of the given columns of X.
        """
        if not self.flat or rank(np.arange(len(used))) == len(used):
            return used.sum(axis=0)
        patterns, which = np.unique(used, axis=1, return_inverse=True)
        return np.array([rank(np.flatnonzero(column)) for column in patterns.T])[which.ravel()]

    # -- density -----------------------------------------------------------------------------------

    def zero_sum(self, n_classes: int | None) -> bool:
        """Return whether coefficients live in the subspace where they sum to zero over the classes.

        The likelihood of a softmax does not see a shift that is common to all classes. Where the prior does not single
        out a class either, leaving that direction out is exact: it is the marginal of the full model.
        """
        if n_classes is None or not (self.mask == self.mask[..., :1]).all():
            return False
        return all(term.same_for_classes() for term in self.terms)

    def distribution(self, n_kappa, zero_sum: bool = False) -> dist.Distribution:
        r"""Return the density :math:`\exp(-n \kappa \cdot penalty) / Z` of coefficients (features, *outputs).

        Parameters
        ----------
        n_kappa : scalar or array that broadcasts to the outputs
            Number of rows times the family's kappa.
        zero_sum : bool
            Whether coefficients sum to zero over the last output, as :meth:`zero_sum` says.
        """
        n = len(self.mask)
        parts = [(np.arange(n)[index_of(t.features)], t, self._masked(t)) for t in self.terms]
        rest = np.setdiff1d(np.arange(n), np.concatenate([[], *(rows for rows, *_ in parts)]))
        if len(rest) or not parts:
            parts.append((rest.astype(int), Flat(), self.mask[rest.astype(int)]))
        if len(parts) == 1:
            return parts[0][1].distribution(n_kappa, self.mask, zero_sum)
        each = tuple(term.distribution(n_kappa, mask, zero_sum) for _, term, mask in parts)
        rows = tuple(tuple(rows.tolist()) for rows, *_ in parts)
        return _distributions.Joined(each, rows, self.mask.shape, zero_sum)

    def unused(self) -> np.ndarray:
        """Return the coefficients out of use that have no density of their own, bool (features, *outputs)."""
        found = ~self.mask
        for term in self.terms:
            if term.covers_unused():
                found[index_of(term.features)] = False
        return found
