"""The numbers of the structure count what they say, on made-up sources."""

import json

import pytest
from structure import __main__, count
from structure.sources import Package

SOURCES = {
    "bayesglm.__init__": '"""A package."""\n\nfrom bayesglm.faces import Face\n\n__all__ = ["Face"]\n',
    "bayesglm._penalty": "class Penalty:\n    l1: float\n    size: float\n"
    "    def value(self):\n        return self.l1\n",
    "bayesglm.observation_models": "class Observations:\n    pass\n"
    "class PoissonObservations(Observations):\n    pass\n",
    "bayesglm.state": "class State:\n    size = 2\n\n    def __init__(self):\n        self._coef = 0\n",
    "bayesglm.engine.__init__": "",
    "bayesglm.engine._run": "def _step(a, b=1, *args, c, **kwargs):\n    '''Step.'''\n    return a\n",
    "bayesglm.faces": '''"""Faces."""

from bayesglm import observation_models
from bayesglm.engine import _run
from bayesglm.observation_models import PoissonObservations as Counts
from .engine._run import _step
from .state import State


class Middle(State):
    """Nothing of its own."""


class Face(Middle):
    _own = 1

    def fit(self, penalty, other, y="Poisson"):
        """A Poisson fit."""
        if isinstance(y, observation_models.PoissonObservations):
            raise TypeError("No Poisson here.")
        here = penalty.l1 + penalty.l1 + penalty.size
        there = other.size + other.l1
        return here, there, self._coef, self._own, _run._step, other._own

    @staticmethod
    def of(fitted):
        return fitted._coef, getattr(fitted, "_coef"), fitted._replace()
''',
}  # fmt: skip


@pytest.fixture(scope="module")
def package():
    return Package(SOURCES)


def lines(places, text):
    """Whether the places are those of `bayesglm.faces` whose line holds the text."""
    source = SOURCES["bayesglm.faces"].splitlines()
    assert {module for module, _ in places} <= {"bayesglm.faces"}
    return {line for _, line in places} == {i + 1 for i, s in enumerate(source) if text in s}


def test_a_field_is_counted_where_it_is_unique_or_its_owner_is_called_like_a_prior(package):
    # `other.size` is a field of `State` too, and nothing says that it is a prior's.
    assert lines(count.prior_fields(package), "l1")


def test_a_family_is_counted_by_class_string_and_message_and_not_where_it_is_imported(package):
    classes, strings, texts = count.family_names(package)
    assert lines(classes, "isinstance")
    assert lines(strings, 'y="Poisson"')
    assert lines(texts, "No Poisson here.")


def test_private_names_of_others_are_told_from_those_of_base_classes_and_of_nobody(package):
    others, inherited = count.private_names(package)
    expected = {"import _step", "_run._step", "getattr(fitted"}
    source = SOURCES["bayesglm.faces"].splitlines()
    assert {line for _, line in others} == {
        i + 1 for i, s in enumerate(source) if any(text in s for text in expected)
    }
    assert lines(inherited, "self._coef")


def test_depth_counts_own_classes_whatever_module_hands_a_name_on(package):
    assert count.class_depths(package) == {"bayesglm.faces.Face": 3}


def test_functions_are_counted_without_docstring_and_instance(package):
    found = [f for tree in package.trees.values() for f in count.functions(tree)]
    assert ("_step", 2, 5) in found
    assert ("value", 2, 0) in found
    assert ("of", 2, 1) in found  # without its decorator


def test_a_quantile_is_one_of_the_values():
    assert [count.quantile([1, 2, 3, 10], q) for q in (0.5, 0.9, 1.0)] == [2, 10, 10]


def test_no_layer_of_priors_is_an_error_and_not_zero_places():
    without = {name: text for name, text in SOURCES.items() if not name.endswith("_penalty")}
    with pytest.raises(LookupError, match=r"_penalty or prior"):
        count.numbers(Package(without))


def test_the_numbers_of_this_checkout_are_printed_and_handed_to_scripts(capsys):
    __main__.main(["--places"])
    table = capsys.readouterr().out
    __main__.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["files"] > 0
    assert all(name in table for name in found)
