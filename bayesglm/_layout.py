"""What differs between one neuron, many, classes and both: axes, shapes, names, labels.

Outside, responses are (samples,) or (samples, neurons) and coefficients are (features, *outputs) in the structure of
X; inside, neurons and classes always have an axis, and the solvers see one *lane* for each independent problem,
coefficients (lanes, columns, features + 1) with the intercept last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _design, _process, labels
from bayesglm._input import Names, check_names, neuron_names, time_indexed, to_numeric


@dataclass(frozen=True, eq=False)
class Layout:
    """The shape of a model and the names of its parts.

    Parameters
    ----------
    population : bool
        Whether responses have a column for each neuron.
    n_classes : int or None
        Number of classes of a classifier.
    classes : array (n_classes,) or None
        Labels, where they are known.
    structure, widths
        Tree structure of X and number of features of each leaf; None and () where they are not known.
    n_neurons : int
    names : Names
        Of features and neurons, where data brought them along.
    frame : dict
        Columns and metadata of a data frame of responses.
    tied : bool
        Whether neurons depend on each other, so that they are one lane.
    """

    population: bool = False
    n_classes: int | None = None
    classes: np.ndarray | None = None
    structure: Any = None
    widths: tuple[int, ...] = ()
    n_neurons: int = 1
    names: Names = Names()
    frame: dict = field(default_factory=dict)
    tied: bool = False

    @classmethod
    def of(cls, population: bool, n_classes: int | None, classes, design, y, n_neurons: int):
        """Return the layout of data, with the names that these bring along."""
        frame = {name: getattr(y, name, None) for name in ("columns", "metadata")}
        return cls(
            population, n_classes, classes, design.structure, design.widths, n_neurons,
            Names(design.names, neuron_names(y) if population else None),
            {name: value for name, value in frame.items() if value is not None},
        )  # fmt: skip

    # -- shapes ------------------------------------------------------------------------------------

    @property
    def classifier(self) -> bool:
        """Whether responses are class labels."""
        return self.n_classes is not None

    @property
    def neurons(self) -> tuple[int, ...]:
        """Shape of what there is one of for each neuron: () or (neurons,)."""
        return (self.n_neurons,) if self.population else ()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of a row of the linear predictor: () or (neurons,), with the classes last."""
        return self.neurons + ((self.n_classes,) if self.classifier else ())

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of `outputs`."""
        return ("neuron",) * self.population + ("class",) * self.classifier

    @property
    def n_features(self) -> int:
        """Number of features, over all leaves of X."""
        return sum(self.widths)

    @property
    def n_lanes(self) -> int:
        """Number of independent problems."""
        return 1 if self.tied else self.n_neurons

    @property
    def responses(self) -> int:
        """Neurons in a lane."""
        return self.n_neurons // self.n_lanes

    def squeeze(self, array):
        """Return what has an axis of neurons, the second, in the shape of the user."""
        return array if self.population else array[:, 0]

    def each(self, array):
        """Return what neurons have, (neurons,), in the shape of the user: () for one."""
        return np.reshape(array, self.neurons)

    def widen(self, array):
        """Return what has the shape of the user with an axis of neurons, the second."""
        array = np.asarray(array)
        return array if self.population else array[:, None]

    # -- offsets: one axis for neurons and one for classes, of length one where they share it -----------

    def offset(self, given, n_samples: int, dtype):
        """Return the offset of a user as (samples, neurons or 1[, classes or 1]), None for None.

        Raises
        ------
        ValueError
            If it does not broadcast to the linear predictor, or is not finite.
        """
        if given is None:
            return None
        offset = to_numeric(given, "offset").astype(dtype)
        classes, n_neurons = self.outputs[len(self.neurons) :], self.n_neurons
        allowed = {(n_samples,): (n_samples, 1), (n_samples, n_neurons): (n_samples, n_neurons)}
        allowed = {shape: (*full, *(1 for _ in classes)) for shape, full in allowed.items()}
        if classes:
            allowed[n_samples, n_neurons, *classes] = (n_samples, n_neurons, *classes)
            if n_neurons == 1:
                allowed[n_samples, *classes] = (n_samples, 1, *classes)
        if offset.shape not in allowed:
            raise ValueError(
                f"`offset` has shape {offset.shape}; expected one of {sorted(allowed, key=len)}."
            )
        if not np.isfinite(offset).all():
            raise ValueError("`offset` must be finite.")
        return offset.reshape(allowed[offset.shape])

    def beside(self, offset):
        """Return an offset in a shape that broadcasts to the predictor of the user."""
        return None if offset is None else self.squeeze(offset)

    def offset_in_lanes(self, offset) -> np.ndarray:
        """Return an offset as (lanes or 1, columns or 1, samples)."""
        if offset[0].size > 1:
            outputs = self.n_neurons, *self.outputs[len(self.neurons) :]
            offset = np.broadcast_to(offset, (len(offset), *outputs))
        flat = np.ascontiguousarray(offset.reshape(len(offset), -1).T)
        return flat.reshape(self.n_lanes if len(flat) > 1 else 1, -1, len(offset))

    # -- lanes -------------------------------------------------------------------------------------

    def to_lanes(self, array) -> np.ndarray:
        """Turn (features, *outputs) into (lanes, columns, features)."""
        array = np.asarray(array)
        return np.moveaxis(array.reshape(len(array), self.n_lanes, -1), 0, -1)

    def theta(self, coef, intercept) -> np.ndarray:
        """Join coefficients and intercepts to (lanes, columns, features + 1)."""
        both = np.concatenate([coef, np.reshape(intercept, (1, *coef.shape[1:]))])
        return np.array(self.to_lanes(both), dtype=float)

    def params(self, theta) -> tuple[np.ndarray, np.ndarray]:
        """Split (lanes, columns, features + 1), or (neurons, ...), into coefficients and intercepts."""
        theta = np.asarray(theta)
        both = np.moveaxis(theta, -1, 0).reshape(theta.shape[-1], *self.outputs)
        return both[:-1], both[-1]

    def by_neuron(self, coef, intercept) -> np.ndarray:
        """Join coefficients and intercepts to (neurons, columns, features + 1)."""
        theta = self.theta(coef, intercept)
        return theta.reshape(self.n_neurons, -1, theta.shape[-1])

    def spread(self, per_lane) -> np.ndarray:
        """Return what lanes have, (lanes, ...), for each neuron of them."""
        return np.repeat(per_lane, self.responses, axis=0)

    def balanced(self, n, weight) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of weights (lanes,) and weights (samples, 1 or neurons) under which losses are means over rows.

        Tied neurons share one sum of weights, that of their mean: what they differ by is put into their weights.
        """
        if not self.tied:
            return n, weight
        return n.mean(keepdims=True), weight * (n.mean() / np.maximum(n, 1e-300))

    def select(self, neurons) -> Layout:
        """Return the layout of the neurons with the given indices."""
        names = self.names.neurons
        some = None if names is None else tuple(names[k] for k in neurons)
        return replace(
            self, n_neurons=len(neurons), names=self.names._replace(neurons=some), frame={}
        )

    # -- names and labels --------------------------------------------------------------------------

    @property
    def neuron_labels(self) -> list | None:
        """A label for each neuron; None for a model of one response."""
        return self.names.of_neurons(self.n_neurons if self.population else None)

    def named(self, which) -> str:
        """Return who is meant by a mask of the neurons, for a message: the model, or neurons by their labels."""
        return f"Neurons {self.listed(which)}" if self.population else "The model"

    def listed(self, which, most: int = 10) -> str:
        """Return the labels of the neurons of a mask, the first few of many."""
        labels = self.neuron_labels or [0]
        names = [str(labels[k]) for k in np.flatnonzero(which)]
        return ", ".join(names[:most]) + (
            f", ... ({len(names)} in all)" if len(names) > most else ""
        )

    @property
    def feature_labels(self) -> list[str]:
        """A label for each feature."""
        return _design.feature_labels(self.structure, self.widths, self.names.features)

    def labels(self) -> dict[str, list]:
        """Return the labels of features, and of neurons and classes where there are such."""
        found = {"feature": self.feature_labels}
        if self.population:
            found["neuron"] = self.neuron_labels
        if self.classifier:
            found["class"] = list(self.classes)
        return found

    def check_neurons(self, y) -> None:
        """Raise a ValueError if the columns of responses are named otherwise."""
        if self.population:
            check_names(neuron_names(y), self.names.neurons, "neurons, the columns of y,")

    def encode(self, y):
        """Return the class index of each label, -1 for a missing one."""
        return labels.encode(self.classes, y)

    def decode(self, index):
        """Return the label of each class index."""
        return labels.decode(self.classes, index)

    # -- parameters of the user --------------------------------------------------------------------

    def tree(self, coef):
        """Return coefficients (features, *outputs) in the structure of X."""
        return _design.split(self.structure, self.widths, coef)

    def accept(self, params) -> tuple[np.ndarray, np.ndarray]:
        """Return parameters of the user as arrays (features, *outputs) and (*outputs).

        Raises
        ------
        TypeError
            If they are no pair of numeric arrays, or coefficients have another structure than X.
        ValueError
            If shapes do not fit.
        """
        if not isinstance(params, (tuple, list)):
            raise TypeError(
                f"Parameters must be a tuple (coef, intercept) of length two, but {type(params).__name__} was given."
            )
        if len(params) != 2:
            raise ValueError(
                f"Params must have length two, (coef, intercept), but have length {len(params)}."
            )
        structure, widths, coef = _design.join(params[0], "coef")
        intercept = _design.to_double(params[1], "intercept")
        outputs = self.outputs
        if structure != self.structure:
            raise TypeError(f"`coef` has the structure {structure}, but X has {self.structure}.")
        if widths != self.widths:
            raise ValueError(
                f"Inconsistent number of features: `coef` has {widths} per leaf, but X has {self.widths}."
            )
        if coef.shape[1:] != outputs or intercept.shape != (outputs or (1,)):
            raise ValueError(
                "Invalid parameter dimensionality: expected coefficients (features, "
                f"*{outputs}) and intercept of shape {outputs or (1,)}, but (features, *{coef.shape[1:]}) "
                f"and shape {intercept.shape} were given."
            )
        return coef, intercept.reshape(outputs)

    def like(self, X, values):
        """Return values on the time axis of pynapple input, and unchanged otherwise."""
        indexed = time_indexed(X)
        return values if indexed is None else _to_pynapple(indexed, np.asarray(values), self.frame)


def _to_pynapple(like, values, frame: dict) -> Any:
    import pynapple as nap

    keywords = {"t": like.t, "d": values, "time_support": like.time_support}
    if values.ndim == 1:
        return nap.Tsd(**keywords)
    if values.ndim == 2:
        if frame and len(frame["columns"]) == values.shape[1]:
            keywords |= frame
        return nap.TsdFrame(**keywords)
    return nap.TsdTensor(**keywords)


def shown(array):
    """Return what is kept as the JAX array that the user sees, None for None."""
    if array is None:
        return None
    _process.check()
    with np.errstate(over="ignore"):  # what single precision cannot hold is shown as infinite
        return jnp.asarray(array)


def as_shown(layout: Layout, params):
    """Return (coef, intercept) as the user sees them."""
    coef, intercept = params
    return jax.tree.map(shown, layout.tree(coef)), shown(np.atleast_1d(intercept))
