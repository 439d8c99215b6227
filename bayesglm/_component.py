"""What observation models and regularizers have in common: parameters that are arguments of their constructors."""

from __future__ import annotations

import copy
import inspect
import operator
from typing import Any


class Component:
    """A part of an estimator with scikit-learn's parameters.

    A subclass takes them by name in ``__init__`` and keeps each under its name, as it came: then it is cloned, searched
    over (``observation_model__scale``) and saved with its estimator.
    """

    def get_params(self, deep=True) -> dict[str, Any]:
        """Return the constructor arguments.

        Raises
        ------
        AttributeError
            If one is not kept under its name.
        """
        return parameters(self)

    def set_params(self, **params):
        """Set constructor arguments.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        known = list(self.get_params())
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ValueError(
                f"Invalid parameters {unknown} for {type(self).__name__}. Valid are {known}."
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def frozen(self):
        """Return a copy that stands for the parameters of now in compiled programs: the same while they are."""
        now = tuple(self.get_params().values())
        known, kept = self.__dict__.get("_frozen", ((), None))
        if kept is None or len(known) != len(now) or any(map(operator.is_not, known, now)):
            kept = copy.copy(self)
            self._frozen = now, kept
        return kept


def parameters(component) -> dict[str, Any]:
    """Return the constructor arguments of any object that keeps them under their names.

    Raises
    ------
    AttributeError
        If it does not.
    """
    kind = type(component)
    if kind.__init__ is object.__init__:
        return {}
    found = {}
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(component, name):
            raise AttributeError(
                f"{kind.__name__}.__init__ takes {name!r}, but there is no attribute of that name. Keep it, "
                f"`self.{name} = {name}`, or write `get_params`."
            )
        found[name] = getattr(component, name)
    return found
