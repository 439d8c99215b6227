"""A regularizer for each leaf of X."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from bayesglm._design import leaf_paths, leaf_slices
from bayesglm._input import did_you_mean
from bayesglm.prior import Prior, Scale
from bayesglm.prior import moved as moved_term
from bayesglm.regularizer._base import Regularizer
from bayesglm.regularizer._names import named

Path = tuple[Any, ...]


class PerLeaf(Regularizer):
    r"""A regularizer for each leaf of X; a leaf that is left out is not regularized.

    The strength of the estimator is a dict likewise, without those leaves whose regularizer takes none; one that is
    left out is the default of its regularizer, and a single number is that of all. Both mirror X: a dict in it is a
    dict here. The prior is that of independent leaves, :math:`p(w) = \prod_l p_l(w_l)`, and groups of GroupLasso lie
    within their leaf.

    Parameters
    ----------
    regularizers : dict
        For each leaf a name, a regularizer, or a dict of these.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> rng = np.random.default_rng(1)
    >>> X = {"stimulus": rng.normal(size=(200, 8)), "history": rng.normal(size=(200, 3))}
    >>> y = rng.poisson(1.0, size=200)
    >>> kinds = {"stimulus": nmo.regularizer.Smooth(order=2), "history": "Ridge"}
    >>> strengths = {"stimulus": 1.0, "history": 0.1}
    >>> model = nmo.glm.GLM(regularizer=kinds, regularizer_strength=strengths).fit(X, y)
    >>> model = model.set_params(regularizer__stimulus__order=1, regularizer_strength__history=0.2)
    >>> model.regularizer
    PerLeaf({'stimulus': Smooth(order=1), 'history': Ridge()})
    """

    def __init__(self, regularizers):
        if isinstance(regularizers, PerLeaf):
            regularizers = regularizers.regularizers
        self._parts = dict(_parts(regularizers, ()))
        if not self._parts:
            raise ValueError(
                "A dict of regularizers needs at least one leaf of X, but is empty. Use None for no regularizer."
            )
        names = list(map(_joined, self._parts))
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Two leaves have the name {twice[0]!r}. Rename one.")

    @property
    def regularizers(self) -> dict:
        """The regularizers in the structure of X."""
        return _nested(self._parts)

    def __getitem__(self, leaf):
        """Return the regularizer of a leaf."""
        return self.regularizers[leaf]

    def __repr__(self):
        return f"PerLeaf({self.regularizers!r})"

    # -- parameters --------------------------------------------------------------------------------

    def get_params(self, deep=True) -> dict[str, Any]:
        """Return the regularizers, ``stimulus``, and their parameters, ``stimulus__order``."""
        if not deep:
            return {"regularizers": self.regularizers}
        found: dict[str, Any] = {}
        for path, part in self._parts.items():
            name = _joined(path)
            found[name] = part
            found |= {f"{name}__{k}": v for k, v in part.get_params().items()}
        return found

    def set_params(self, **params):
        """Set regularizers or their parameters, as :meth:`get_params` names them.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        for name, value in sorted(params.items(), key=lambda item: item[0].count("__")):
            path, inner = self._path_of(name)
            if inner:
                part = copy.copy(self._parts[path])  # it may be shared
                value = part.set_params(**{inner: value})
            self._parts = self._parts | {path: named(value)}
        return self

    def _path_of(self, name: str) -> tuple[Path, str]:
        """Return the leaf that a parameter is of, and the name of the parameter there, which may be empty."""
        for path in sorted(self._parts, key=lambda path: -len(_joined(path))):
            leaf = _joined(path)
            if name == leaf or name.startswith(f"{leaf}__"):
                return path, name[len(leaf) + 2 :]
        known = list(map(_joined, self._parts))
        raise ValueError(
            f"There is no regularizer of a leaf {name!r}. There are {known}.{did_you_mean(name, known)}"
        )

    def __sklearn_clone__(self):
        return PerLeaf(self.regularizers)

    def strength_params(self, strength: dict) -> dict[str, Any]:
        """Return the strength of each leaf that has one, given or by default, by the name of the leaf."""
        given = dict(_leaves_of(strength, self._parts))
        some = {path: part for path, part in self._parts.items() if _takes_strength(part)}
        return {
            _joined(path): given.get(path, part.default_strength) for path, part in some.items()
        }

    def with_strength_of(self, strength: dict, name: str, value) -> dict:
        """Return strengths with that of one leaf replaced.

        Raises
        ------
        ValueError
            If there is no such leaf.
        """
        path, inner = self._path_of(name)
        if inner:
            raise ValueError(f"A strength has no parameter {inner!r}.")
        return _nested(dict(_leaves_of(strength, self._parts)) | {path: value})

    # -- solvers -----------------------------------------------------------------------------------

    @property
    def smooth(self):
        """Whether all leaves have differentiable penalties."""
        return all(part.smooth for part in self._parts.values())

    @property
    def flat(self):
        """Whether no leaf has a prior."""
        return all(part.flat for part in self._parts.values())

    @property
    def allowed_solvers(self):
        """Names of the solvers that can minimise with the penalties of all leaves."""
        first, *rest = (part.allowed_solvers for part in self._parts.values())
        return tuple(name for name in first if all(name in other for other in rest))

    def check_solver(self, name):
        """Raise a ValueError if the solver cannot minimise with the penalty of some leaf."""
        for path, part in self._parts.items():
            try:
                part.check_solver(name)
            except ValueError as error:
                raise ValueError(f"Leaf {_shown(path)}: {error}") from error

    # -- strengths ---------------------------------------------------------------------------------

    @property
    def default_strength(self):
        """An empty dict: the default of every leaf; None if no leaf has a strength."""
        return {} if any(map(_takes_strength, self._parts.values())) else None

    def check_strength(self, strength):
        """Return those strengths that were given, as a dict in the structure of X.

        Raises
        ------
        TypeError, ValueError
            If one is refused, or is of a leaf that has none.
        """
        if strength is None or self.default_strength is None and not strength:
            return self.default_strength
        if isinstance(strength, dict):
            given = dict(_leaves_of(strength, self._parts))
        else:
            given = {path: strength for path, part in self._parts.items() if _takes_strength(part)}
        some = (path for path in self._parts if given.get(path) is not None)
        return _nested({path: self._checked(path, given[path]) for path in some})

    def _checked(self, path: Path, value):
        part = self._parts[path]
        if not _takes_strength(part):
            raise ValueError(
                f"`regularizer_strength` has an entry for the leaf {_shown(path)}, but {type(part).__name__} has no "
                "strength. Leave it out."
            )
        if isinstance(value, tuple) and not isinstance(part.default_strength, tuple):
            raise ValueError(
                f"Leaf {_shown(path)}: the strength {value!r} is a pair for ElasticNet; give {type(part).__name__} a "
                "number."
            )
        return _of_leaf(path, part.check_strength, value)

    def left_to_default(self, strength):
        """Return in words which strengths were not given, and what is used."""
        given = dict(_leaves_of(strength or {}, self._parts))
        left = {
            path: p for path, p in self._parts.items() if path not in given and _takes_strength(p)
        }
        each = (
            f"{type(p).__name__} of the leaf {_shown(k)}; using {p.default_strength}"
            for k, p in left.items()
        )
        return ", and for ".join(each)

    # -- the prior ---------------------------------------------------------------------------------

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Refuse: terms depend on the names of the leaves; see :meth:`prior`."""
        raise NotImplementedError(
            "A regularizer for each leaf has no terms without these: use `prior`."
        )

    def prior(self, strength, mask, structure, widths, name="strength"):
        """Return the prior of coefficients.

        Raises
        ------
        TypeError, ValueError
            If X has no such leaves, or a leaf refuses its strength or its features.
        """
        paths = leaf_paths(structure)
        self._check_leaves(paths)
        given, terms = dict(_leaves_of(strength or {}, self._parts)), []
        for path, rows, width in zip(paths, leaf_slices(widths), widths, strict=True):
            part = self._parts.get(path)
            if part is None or part.flat:
                continue
            value = given[path] if path in given else part.check_strength(part.default_strength)
            single = (jax.tree.structure(0), (width,), name)
            found = _of_leaf(path, part.prior, value, mask[rows], *single)
            terms += [moved_term(term, range(rows.start, rows.stop)) for term in found.terms]
        return Prior.of(tuple(terms), mask)

    def known(self, strength):
        """Return strengths with one in place of those that are to be learned."""
        given = _leaves_of(strength or {}, self._parts)
        return _nested({path: self._parts[path].known(value) for path, value in given})

    def scales(self, strength, terms, structure, widths):
        """Return how the strength of each term is to be learned, None where it is known; None if all are."""
        given = dict(_leaves_of(strength or {}, self._parts))
        if not any(isinstance(value, Scale) for value in given.values()):
            return None
        leaf = np.repeat(np.arange(len(widths)), widths)  # of each feature
        paths = leaf_paths(structure)
        # features of a term are all of one leaf
        first = (0 if term.features is None else term.features[0] for term in terms)
        found = (given.get(paths[leaf[row]]) for row in first)
        return tuple(value if isinstance(value, Scale) else None for value in found)

    def resolved(self, strength, learned):
        """Return strengths with what was learned in place of each Scale."""
        found = {}
        for path, value in _leaves_of(strength or {}, self._parts):
            leaf = learned
            for key in path:
                leaf = leaf[key]
            found[path] = self._parts[path].resolved(value, leaf)
        return _nested(found)

    def _check_leaves(self, paths: list[Path]) -> None:
        if () in paths:
            raise ValueError(
                f"`regularizer` is a dict for the leaves {', '.join(map(_shown, self._parts))} of X, but X is a single "
                "matrix. Give X as a dict of matrices (`bayesglm.Leaves` makes one of columns), or one regularizer."
            )
        for path in self._parts:
            if path in paths:
                continue
            inside = [each for each in paths if each[: len(path)] == path]
            if inside:
                raise ValueError(
                    f"{_shown(path)} is no leaf of X, but a part with the leaves {', '.join(map(_shown, inside))}: "
                    "give `regularizer` a dict for these."
                )
            known = list(map(_joined, paths))
            raise ValueError(
                f"`regularizer` names the leaf {_shown(path)}, but X has no such leaf: it has "
                f"{', '.join(map(_shown, paths))}.{did_you_mean(_joined(path), known)}"
            )


def _parts(regularizers, path: Path) -> Iterator[tuple[Path, Regularizer]]:
    if not isinstance(regularizers, dict):
        raise TypeError(f"`regularizers` must be a dict, but {regularizers!r} was given.")
    for key, value in regularizers.items():
        here = (*path, key)
        if isinstance(value, PerLeaf):
            value = value.regularizers
        if isinstance(value, dict):
            yield from _parts(value, here)
        else:
            yield here, _of_leaf(here, named, value)


def _of_leaf(path: Path, function, *args):
    """Return what a function says, naming the leaf if it refuses."""
    try:
        return function(*args)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Leaf {_shown(path)}: {error}") from error


def _leaves_of(strength: dict, parts, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Return the entries of a dict of strengths by the path of their leaf."""
    for key, value in strength.items():
        here = (*path, key)
        if here in parts:
            yield here, value
        elif isinstance(value, dict) and any(each[: len(here)] == here for each in parts):
            yield from _leaves_of(value, parts, here)
        else:
            known = list(map(_joined, parts))
            raise ValueError(
                f"`regularizer_strength` has an entry {value!r} for {_shown(here)}, which is no leaf with a "
                f"regularizer. Those are {', '.join(map(_shown, parts))}.{did_you_mean(_joined(here), known)}"
            )


def _nested(by_path: dict[Path, Any]) -> dict:
    found: dict = {}
    for path, value in by_path.items():
        place = found
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return found


def _takes_strength(part: Regularizer) -> bool:
    return part.default_strength is not None


def _joined(path: Path) -> str:
    return "__".join(map(str, path))


def _shown(path: Path) -> str:
    return (
        "[" + "][".join(map(repr, path)) + "]" if len(path) > 1 else repr(path[0]) if path else "()"
    )


__all__ = ["PerLeaf"]
