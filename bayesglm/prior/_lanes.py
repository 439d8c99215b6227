"""A prior as solvers and samplers take it: lanes first, features last."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm.prior._terms import Bend, Term, namespace


def index_of(features):
    """Return what picks the covered rows."""
    if features is None:
        return slice(None)
    if isinstance(features, range):
        return slice(features.start, features.stop, features.step)
    return np.array(features, int)


def _taken(array, features):
    return array if features is None else array[..., index_of(features)]


def _placed(whole, part, features):
    """Return `whole` with the covered rows replaced."""
    if features is None:
        return part
    if isinstance(whole, np.ndarray):
        whole = whole.copy()
        whole[..., index_of(features)] = part
        return whole
    whole = whole.astype(jnp.promote_types(whole.dtype, part.dtype))
    return whole.at[..., index_of(features)].set(part)


def _dot(a, b):
    return np.einsum("...cp,...cp->...", a, b)


class LanePrior(NamedTuple):
    """Independent terms in lane form; every array has the lanes, or one, on its first axis.

    Coefficients are (lanes, columns, features), and out of use where they are zero and stay so. Methods from
    :meth:`energy` on take one lane, without that axis, in JAX.
    """

    terms: tuple[Term, ...]

    @property
    def smooth(self) -> bool:
        """Whether it is differentiable everywhere."""
        return all(term.smooth for term in self.terms)

    @property
    def flat(self) -> bool:
        """Whether there is nothing but flat priors."""
        return not self.terms

    @property
    def couples(self) -> bool:
        """Whether its curvature is more than a diagonal."""
        return any(term.couples for term in self.terms)

    @property
    def informs(self) -> bool:
        """Whether some strength is not zero."""
        return any(np.any(np.asarray(getattr(t, n)) > 0) for t in self.terms for n in t.strengths)

    def select(self, lanes) -> LanePrior:
        """Return the prior of some of the lanes."""
        return jax.tree.map(lambda a: a if len(a) == 1 else a[lanes], self)

    # -- the penalty -------------------------------------------------------------------------------

    def value(self, coef):
        """Return the penalty of each lane, (lanes,)."""
        found = [term.value(_taken(coef, term.features)) for term in self.terms]
        return sum(found, namespace(coef).zeros(len(coef), coef.dtype))

    def _sum_of(self, name, coef, terms=None):
        total = 0.0
        for term in self.terms if terms is None else terms:
            part = getattr(term, name)(_taken(coef, term.features))
            if part is not None and term.features is None:
                total = total + part
            elif part is not None:
                total = total + _placed(namespace(coef).zeros_like(coef), part, term.features)
        return total

    def pull(self, coef):
        """Return the gradient of the quadratic part; 0.0 without one."""
        return self._sum_of("pull", coef)

    def coupled_pull(self, coef):
        """Return the gradient of what :meth:`prox` leaves out."""
        return self._sum_of("pull", coef, [term for term in self.terms if term.couples])

    def along(self, coef, step):
        """Return slope and curvature of the quadratic part along a step, each (lanes,)."""
        slope, bend, zero = self.pull(coef), self._sum_of("push", step), np.zeros(len(coef))
        if np.ndim(slope) == 0:
            return zero, zero
        return _dot(slope, step), _dot(bend, step)

    def curvature_along(self, step):
        """Return the curvature of the quadratic part along a step, (lanes,)."""
        bend = self._sum_of("push", step)
        return 0.0 if np.ndim(bend) == 0 else _dot(bend, step)

    def diagonal(self, shape, coupled: bool = True):
        """Return the diagonal of the quadratic part's curvature; zero without one.

        Parameters
        ----------
        coupled : bool
            Whether terms count whose curvature is more than that.
        """
        total = np.zeros(shape)
        for term in self.terms:
            if hasattr(term, "diagonal") and (coupled or not term.couples):
                index = index_of(term.features)
                if term.features is None:
                    total = total + np.broadcast_to(term.diagonal(), shape)
                else:
                    total[..., index] += term.diagonal()
        return total

    def add_coupling(self, hessian, mask):
        """Return matrices (lanes, columns, features, features) with the coupled terms' curvature, where in use."""
        if not self.couples:
            return hessian
        hessian, both = hessian.copy(), mask[..., :, None] & mask[..., None, :]
        for term in self.terms:
            if term.couples:
                rows = np.arange(hessian.shape[-1])[index_of(term.features)]
                where = (..., rows[:, None], rows[None, :])
                hessian[where] += np.where(both[where], term.matrix(), 0.0)
        return hessian

    def log_det(self, mask):
        """Return the log-determinants on the ranges of the precisions, for each normal term (lanes, columns)."""
        some = [term for term in self.terms if hasattr(term, "log_det")]
        return [term.log_det(_taken(mask, term.features)) for term in some]

    def trace(self, covariance):
        """Return traces of precisions times covariances (lanes, columns, features, features), of each normal term."""
        found = []
        for term in self.terms:
            if hasattr(term, "trace"):
                rows = np.arange(covariance.shape[-1])[index_of(term.features)]
                found.append(term.trace(covariance[..., rows[:, None], rows[None, :]]))
        return found

    # -- kinks -------------------------------------------------------------------------------------

    @property
    def kinks(self) -> LanePrior:
        """What is left without quadratic parts."""
        return LanePrior(tuple(kink for term in self.terms if (kink := term.kink()) is not None))

    @property
    def quadratic(self) -> LanePrior:
        """What is left without kinks."""
        some = ((t if t.smooth else t.quadratic()) for t in self.terms)
        return LanePrior(tuple(t for t in some if t is not None))

    def prox(self, coef, step):
        r"""Return the minimiser over `w` of :math:`\sum_j (w_j - c_j)^2 / (2 t_j) + penalty(w)`, lane by lane.

        Coupled terms are left out.

        Parameters
        ----------
        coef : array (lanes, columns, features)
            The point c.
        step : scalar or array that broadcasts to the shape of `coef`
            The step t; constant within a group.

        References
        ----------
        Parikh, Boyd (2013), Proximal Algorithms, section 6.5. doi:10.1561/2400000003
        """
        for term in self.terms:
            if not term.couples:
                coef = _proximal(term, coef, step)
        return coef

    def whole_prox(self, coef, step: float):
        """Return the minimiser with coupled terms."""
        for term in self.terms:
            coef = _proximal(term, coef, step)
        return coef

    def bend(self, coef, mask) -> Bend:
        """Return active coefficients, slope and curvature where the kinked prior is smooth."""
        active, slope, curvature = mask, np.zeros_like(coef), None
        for term in self.terms:
            found, index = term.bend(_taken(coef, term.features)), index_of(term.features)
            active = _placed(active, active[..., index] & found.active, term.features)
            slope = _placed(slope, found.slope, term.features)
            if found.curvature is None:
                continue
            if term.features is None:
                curvature = found.curvature
                continue
            if curvature is None:
                curvature = np.zeros((*coef.shape, coef.shape[-1]))
            rows = np.arange(coef.shape[-1])[index]
            curvature[..., rows[:, None], rows[None, :]] = found.curvature
        return Bend(active, slope, curvature)

    def crossing(self, new, old):
        """Return where a step crosses a kink at zero, bool."""
        found = np.zeros(new.shape, bool)
        for term in self.terms:
            part = term.crossing(*(_taken(a, term.features) for a in (new, old)))
            found = _placed(found, part, term.features)
        return found

    def level(self, diagonal):
        """Return a diagonal raised to what :meth:`prox` can take: constant within groups."""
        for term in self.terms:
            part = term.level(_taken(diagonal, term.features))
            diagonal = _placed(diagonal, part, term.features)
        return diagonal

    def recentred(self, mask, coef, n_classes: int):
        """Return `coef` shifted, by the same number for all classes, to the least penalty that is known.

        Parameters
        ----------
        mask : bool array that broadcasts to the shape of `coef`
            Coefficients in use: a feature is shifted where all its classes are.
        """
        by_class = lambda a: a.reshape(len(a), -1, n_classes, a.shape[-1])  # noqa: E731
        free = by_class(np.broadcast_to(mask, coef.shape)).all(2, keepdims=True)
        new = by_class(coef)
        for term in self.terms:
            some = (_taken(a, term.features) for a in (new, free))
            new = _placed(new, term.recentred(*some), term.features)
        new = new.reshape(coef.shape)
        old_value, new_value = (self.value(w) for w in (coef, new))
        # Rounding must not move what has no better place.
        better = new_value < old_value * (1.0 - 1e-14)
        return np.where(better[:, None, None], new, coef)

    def blocked(self, shape, size: int) -> LanePrior:
        """Return the prior of coefficients (lanes, blocks, size), with some columns in each block.

        Parameters
        ----------
        shape : tuple
            Columns in a block, and features; coordinates beyond these, up to `size`, are flat.
        """
        return LanePrior(tuple(_blocked(term, shape, size) for term in self.terms))

    def scaled(self, n_kappa) -> LanePrior:
        """Return the prior in units of the log-density, given n times kappa (lanes, columns, 1)."""
        return LanePrior(tuple(term.scaled(n_kappa) for term in self.terms))

    def per_row(self, n_kappa) -> LanePrior:
        """Return the prior with absolute terms in units of the loss, given n times kappa (lanes, columns, 1)."""
        of_loss = lambda t: t.replace(unit="row").scaled(1.0 / n_kappa).replace(unit="row")  # noqa: E731
        return LanePrior(tuple(of_loss(t) if t.unit == "absolute" else t for t in self.terms))

    # -- the density of one lane -------------------------------------------------------------------

    def _energy_by(self, name, coef, n_kappa, mask, flag):
        total = 0.0
        for term in self.terms:
            some = (_taken(a, term.features) for a in (coef, mask))
            coef_t, mask_t = some
            total = total + getattr(term, name)(coef_t, n_kappa, mask_t, flag)
        return total

    def energy(self, coef, n_kappa, mask, normalised: bool):
        """Return minus the log-density up to a constant; see :meth:`Term.energy`."""
        return self._energy_by("energy", coef, n_kappa, mask, normalised)

    def stand_in(self, coef, n_kappa, mask, normalised: bool):
        """Return the energy of normal priors of the same variance in place of those with a kink."""
        return self._energy_by("stand_in", coef, n_kappa, mask, normalised)

    def log_prob(self, coef, n_kappa, mask, zero_sum: bool):
        """Return the normalised log-density of the coefficients in use."""
        return self._energy_by("log_prob", coef, n_kappa, mask, zero_sum)

    def power(self, mask, responses: int, kinked: bool = True) -> np.ndarray:
        """Return the power of n kappa in the normalisation, (lanes, responses).

        Parameters
        ----------
        kinked : bool
            Whether terms with a kink count; as scale mixtures they have none.
        """
        some = [term for term in self.terms if kinked or term.smooth]
        each = (term.power(_taken(mask, term.features), responses) for term in some)
        return sum(each, np.zeros((len(mask), responses)))


def _proximal(term: Term, coef, step):
    if term.features is not None and np.ndim(step):
        step = _taken(jnp.broadcast_to(step, coef.shape), term.features)
        step = np.asarray(step) if isinstance(coef, np.ndarray) else step
    return _placed(coef, term.prox(_taken(coef, term.features), step), term.features)


def _blocked(term: Term, shape, size: int) -> Term:
    columns, n_features = shape
    rows = np.arange(n_features)[index_of(term.features)]
    positions = (np.arange(columns)[:, None] * n_features + rows).ravel()

    def reshaped(a):  # arrays of groups stay as they are
        return a if a.ndim < 3 else a.reshape(len(a), -1, len(positions))

    features = tuple(positions.tolist())
    if features == tuple(range(len(features))):
        features = None if len(features) == size else range(len(features))
    return term.mapped(reshaped).replace(features=features)
