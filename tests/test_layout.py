"""Laws of layouts: what goes from the user to lanes comes back, and neurons are told apart by name only."""

import jax
import numpy as np
import pytest

from bayesglm._input import Names
from bayesglm._layout import Layout

NEURONS, CLASSES = 3, 2
STRUCTURE = jax.tree.structure({"a": 0, "b": 0})
#: All kinds of models, and neurons that depend on each other.
LAYOUTS = {
    f"{population=}, {classes=}, {tied=}": Layout(
        population, len(classes) if classes else None, np.array(classes) if classes else None,
        STRUCTURE, (1, 3), NEURONS if population else 1,
        Names((None, ("x", "y", "z")), ("u", "v", "w") if population else None), {}, tied,
    )
    for population in (False, True)
    for classes in ((), ("left", "right"))
    for tied in (False, True)[: 1 + population]
}  # fmt: skip


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def params(layout, rng):
    return rng.normal(size=(4, *layout.outputs)), rng.normal(size=layout.outputs)


def test_lanes_hold_what_the_user_has(layout, params):
    theta = layout.theta(*params)
    assert theta.shape == (layout.n_lanes, layout.responses * (layout.n_classes or 1), 5)
    for found, expected in zip(layout.params(theta), params, strict=True):
        np.testing.assert_array_equal(found, expected)
    # neuron by neuron, whether they are in one lane or not
    by_neuron = layout.by_neuron(*params)
    assert by_neuron.shape == (layout.n_neurons, layout.n_classes or 1, 5)
    for found, expected in zip(layout.params(by_neuron), params, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_some_neurons_have_the_layout_of_these(layout, params):
    if not layout.population:
        pytest.skip("one neuron")
    some = np.array([2, 0])
    part = layout.select(some)
    np.testing.assert_array_equal(
        part.by_neuron(*(a[..., some, :] if layout.classifier else a[..., some] for a in params)),
        layout.by_neuron(*params)[some],
    )
    assert part.neuron_labels == ["w", "u"]


def test_an_axis_of_neurons_comes_and_goes(layout, rng):
    rows = rng.normal(size=(7, layout.n_neurons, *layout.outputs[len(layout.neurons) :]))
    shown = layout.squeeze(rows)
    assert shown.shape == (7, *layout.outputs)
    np.testing.assert_array_equal(layout.widen(shown), rows)


def test_parameters_in_the_structure_of_the_features_are_accepted(layout, params):
    coef, intercept = params
    found = layout.accept((layout.tree(coef), np.reshape(intercept, layout.outputs or (1,))))
    for one, other in zip(found, params, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="dimensionality"):
        layout.accept((layout.tree(coef[..., None]), intercept))


def test_every_axis_has_its_labels(layout):
    labels = layout.labels()
    assert tuple(labels) == ("feature", *layout.dims)
    assert tuple(map(len, labels.values())) == (4, *layout.outputs)
    assert labels["feature"] == ["a[0]", "b[x]", "b[y]", "b[z]"]


def test_labels_of_classes_come_back(layout):
    if not layout.classifier:
        pytest.skip("no classes")
    y = np.array(["right", "left", "right"])
    np.testing.assert_array_equal(layout.decode(layout.encode(y)), y)


def test_tied_neurons_weigh_as_much_as_alone(layout, rng):
    """The mean loss of each neuron, times the sum of weights of its lane, keeps its share of the whole."""
    n = np.arange(1.0, layout.n_neurons + 1)
    weight = rng.uniform(size=(9, layout.n_neurons))
    weight *= n / weight.sum(axis=0)
    total, balanced = layout.balanced(n, weight)
    assert len(total) == layout.n_lanes
    np.testing.assert_allclose(
        balanced.sum(axis=0), layout.spread(total) if layout.tied else n, rtol=1e-12
    )


def test_messages_name_neurons_by_their_labels(layout):
    which = np.arange(layout.n_neurons) != 1
    assert layout.named(which) == ("Neurons u, w" if layout.population else "The model")
    many = Layout(True, n_neurons=12)
    assert many.named(np.ones(12, bool)) == (
        "Neurons 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (12 in all)"
    )
