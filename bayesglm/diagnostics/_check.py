"""A check: numbers of all neurons, graded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesglm.diagnostics._definitions import DEFINITIONS, PROBABILITY, Definition

__all__ = ["Check", "grade"]

STATUSES = ("ok", "caution", "fail")
#: Neurons that a message names.
_NAMED = 5


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : str
        Key in :data:`bayesglm.diagnostics.DEFINITIONS`.
    status : "ok", "caution", "fail" or "unknown"
        The worst of all neurons; "unknown" where it could not be made.
    value : float
        The worst number.
    values : array (neurons,)
        The number of each neuron; NaN where it is not known.
    grades : int array (neurons,)
        0 ok, 1 caution, 2 fail, -1 unknown.
    limits : tuple
        For caution and for failure, as used; None where there is none.
    neurons : tuple
        Labels of the neurons that are not ok, worst first.
    message : str
        The result in words.
    advice : str
        What would help where the check is not ok, for the model at hand.
    """

    name: str
    status: str
    value: float
    values: np.ndarray = field(repr=False)
    grades: np.ndarray = field(repr=False)
    limits: tuple[float | None, float | None] = (None, None)
    neurons: tuple = ()
    message: str = ""
    advice: str = ""

    @property
    def definition(self) -> Definition:
        """What is measured, limits and source."""
        return DEFINITIONS[self.name]

    @property
    def remedy(self) -> str:
        """What to do; empty where nothing is wrong."""
        return self.advice if self.status in ("caution", "fail") else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        definition = self.definition
        return {
            "name": self.name, "title": definition.title, "status": self.status, "value": number(self.value),
            "limits": {"caution": self.limits[0], "fail": self.limits[1],
                       "smaller_is_worse": definition.smaller_is_worse},
            "neurons": [plain(label) for label in self.neurons], "message": self.message, "remedy": self.remedy,
            "measure": definition.measure, "source": definition.source,
        }  # fmt: skip


def number(value) -> float | str | None:
    """Return a number that JSON can hold: infinities as text, NaN as None."""
    value = float(value)
    if np.isnan(value):
        return None
    return value if np.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def plain(label):
    """Return a label as JSON can hold it."""
    return label.item() if isinstance(label, np.generic) else label


def grade(
    name: str,
    values,
    labels,
    *,
    p_value=None,
    caution=None,
    grades=None,
    most=2,
    where=None,
    note="",
) -> Check:
    """Grade the numbers of all neurons.

    Parameters
    ----------
    name
        Of the definition.
    values : array (neurons,)
    labels : sequence or None
        Of the neurons; None for a model of one.
    p_value : array (neurons,), optional
        How probable such a deviation is by chance; the limits count only where it is not.
    caution : float, optional
        A limit in place of that of the definition.
    grades : int array (neurons,), optional
        Grades known already.
    most : int or int array (neurons,)
        The worst grade there can be.
    where : sequence of str, optional
        What in each neuron is worst, such as the name of a parameter.
    note : str
        Added to the message.
    """
    definition = DEFINITIONS[name]
    limits = _limits(definition, caution)
    values = np.atleast_1d(np.asarray(values, float))
    if grades is None:
        grades = _grades(definition, values, limits)
        if p_value is not None:
            chance = (grades > 0) & (np.atleast_1d(p_value) > PROBABILITY / len(values))
            grades = np.where(chance, 0, grades)
            if chance.any() and grades.max() < 1:
                note = f"{note} Deviations within chance.".strip()
    grades = np.minimum(np.broadcast_to(grades, values.shape), most)
    badness = -values if definition.smaller_is_worse else values
    order = np.lexsort((-np.nan_to_num(badness, nan=-np.inf), -grades))
    status = "unknown" if grades.max() < 0 else STATUSES[grades.max()]
    n_bad = int(np.sum(grades > 0))
    bad = tuple(labels[k] if labels is not None else 0 for k in order[:n_bad])
    message = _message(values, grades, labels, order, where, definition.tested)
    message = f"{message.removesuffix('.')}. {note}" if note else message
    return Check(name, status, float(values[order[0]]), values, grades, limits, bad, message)


def _limits(definition: Definition, caution) -> tuple[float | None, float | None]:
    """Return the limits in use: one for caution that chance has moved beyond that for failure takes its place."""
    first, last = definition.caution if caution is None else float(caution), definition.fail
    if first is None or last is None or definition.smaller_is_worse:
        return first, last
    return first, max(first, last)


def _grades(definition: Definition, values, limits):
    grades = np.zeros(values.shape, int)
    for found, limit in enumerate(limits, start=1):
        if limit is not None:
            worse = values < limit if definition.smaller_is_worse else values > limit
            grades = np.where(worse, found, grades)
    return np.where(np.isnan(values), -1, grades)


def _message(values, grades, labels, order, where, tested: bool) -> str:
    worst, n_bad = order[0], int(np.sum(grades > 0))
    if grades.max() < 0:
        return "Not known."
    told = where is not None and where[worst] and values[worst] != 0 and (n_bad or not tested)
    place = f" ({where[worst]})" if told else ""
    value = f"{values[worst]:.3g}{place}"
    if labels is None:
        return value
    if n_bad:
        named = ", ".join(str(labels[k]) for k in order[: min(n_bad, _NAMED)])
        more = ", ..." if n_bad > _NAMED else ""
        return f"{n_bad} of {len(values)} neurons ({named}{more}); worst {value}."
    fine = f"{int(np.sum(grades == 0))} neurons"
    if np.nanmin(values) == np.nanmax(values):
        return f"{fine}, all {value}."
    return f"{fine}; worst {value}, neuron {labels[worst]}."
