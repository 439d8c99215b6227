"""How constructor arguments are attributes of an estimator."""

from __future__ import annotations


def argument(name: str, doc: str) -> property:
    """Return a constructor argument as an attribute that is resolved and checked when it is set."""

    def get(self):
        return getattr(self._settings, name)

    def set_(self, value):
        self._take(*self._settings.having(name, value), {name})

    return property(get, set_, doc=doc)


def learned(name: str, doc: str) -> property:
    """Return something of the strengths that `fit` has learned as an attribute."""
    return property(lambda self: self._held.of_learned(name), doc=doc)
