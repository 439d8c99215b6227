"""How attributes of an estimator are made and shown."""

from __future__ import annotations

import jax
import numpy as np

from bayesglm._layout import Layout, shown


def argument(name: str, doc: str) -> property:
    """Return a constructor argument as an attribute that is resolved and checked when it is set."""

    def get(self):
        return getattr(self._settings, name)

    def set_(self, value):
        self._take(*self._settings.having(name, value), {name})

    return property(get, set_, doc=doc)


def learned(name: str, doc: str) -> property:
    """Return something of the strengths that `fit` has learned as an attribute; None where it has learned none."""

    def get(self):
        found = self._held.learned
        if found is None:
            return None
        return jax.tree.map(shown, found.shown(getattr(found, name), self._held.layout))

    return property(get, doc=doc)


def as_shown(layout: Layout, params):
    """Return (coef, intercept) as the user sees them."""
    coef, intercept = params
    return jax.tree.map(shown, layout.tree(coef)), shown(np.atleast_1d(intercept))
