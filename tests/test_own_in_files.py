"""Functions and classes of the user's own in files: passed by mapping, never lost in silence."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from saved import T, X, assert_same_model, round_trip, with_parameters
from sklearn.base import clone

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM
from bayesglm.regularizer import Ridge


def exp(x):
    """A function that bears the name of another."""
    return jnp.log1p(jnp.exp(x))


class Tight(Ridge):
    """A regularizer of one's own."""


class Own(nmo.observation_models.PoissonObservations):
    """An observation model of one's own."""


def named_ridge():
    return type("Ridge", (Ridge,), {})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


def test_link_of_ones_own_must_be_passed_even_if_it_bears_a_known_name(path):
    estimator = with_parameters(GLM(inverse_link_function=exp), ())
    estimator.save_params(path)
    with pytest.raises(ValueError, match="'exp'.*mapping_dict"):
        nmo.load_model(path)
    with pytest.warns(UserWarning, match=r"\['inverse_link_function'\]"):
        found = nmo.load_model(path, mapping_dict={"inverse_link_function": exp})
    assert_same_model(found, estimator)


@pytest.mark.parametrize("alias", [jnp.exp, nmo.links.exp, "exp", "jax.numpy.exp"])
def test_known_links_need_no_mapping(alias, path):
    found = round_trip(GLM(inverse_link_function=alias), path).inverse_link_function
    assert float(found(0.5)) == float(jnp.exp(0.5))


@pytest.mark.parametrize("make", [lambda: Tight, named_ridge], ids=["Tight", "Ridge"])
def test_regularizer_of_ones_own_must_be_passed_even_if_it_bears_a_known_name(make, path):
    kind = make()
    GLM(regularizer=kind(), regularizer_strength=0.3).save_params(path)
    with pytest.raises(ValueError, match="regularizer.*mapping_dict"):
        nmo.load_model(path)
    with pytest.warns(UserWarning, match="regularizer"):
        found = nmo.load_model(path, mapping_dict={"regularizer": kind})
    assert type(found.regularizer) is kind
    assert found.regularizer_strength == 0.3


def test_observation_model_of_ones_own_must_be_passed(path):
    estimator = with_parameters(GLM(Own()), ())
    estimator.save_params(path)
    with pytest.raises(ValueError, match="Own.*mapping_dict"):
        nmo.load_model(path)
    with pytest.warns(UserWarning, match="observation_model"):
        found = nmo.load_model(path, mapping_dict={"observation_model": Own})
    assert_same_model(found, estimator)


def test_mapping_names_all_that_it_replaced(path):
    GLM(inverse_link_function=exp, regularizer=Tight(), regularizer_strength=1.0).save_params(path)
    mapping = {"regularizer": Tight, "inverse_link_function": jnp.exp}
    with pytest.warns(UserWarning, match="replaced") as caught:
        nmo.load_model(path, mapping_dict=mapping)
    assert len(caught) == 1
    assert all(name in str(caught[0].message) for name in mapping)


class Scaled(Ridge):
    """A regularizer with a function, and an array, as its parameters."""

    def __init__(self, func="square", weights=None):
        self.func, self.weights = func, weights


class Student(nmo.observation_models.Observations):
    """Responses with heavy tails."""

    default_inverse_link_function = staticmethod(nmo.links.identity)

    def __init__(self, df=4.0):
        self.df = df

    def distribution(self, eta, inverse_link_function, scale=1.0):
        return dist.StudentT(self.df, inverse_link_function(eta), jnp.sqrt(scale))


class Forgetful(Student):
    """Keeps its parameter under another name."""

    def __init__(self, shape=4.0):
        super().__init__(df=shape)


class Duck:
    """An observation model that subclasses nothing."""

    def __init__(self, df):
        self.df, self.model = df, Student(df)

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "model"), name)


OWN = {"regularizer": Scaled, "observation_model": Student}


def own():
    return GLM(Student(7.0), regularizer=Scaled(weights=np.arange(3.0)), regularizer_strength=1.0)


def test_components_of_ones_own_keep_their_parameters_in_files(path):
    with pytest.warns(UserWarning, match="mapping_dict"):
        found = round_trip(own(), path, mapping_dict=OWN)
    assert (found.observation_model.df, found.regularizer.func) == (7.0, "square")
    np.testing.assert_array_equal(found.regularizer.weights, np.arange(3.0))


def test_components_that_subclass_nothing_keep_their_parameters_in_files(path):
    with pytest.warns(UserWarning, match="mapping_dict"):
        found = round_trip(GLM(Duck(7.0)), path, mapping_dict={"observation_model": Duck})
    assert found.observation_model.df == 7.0


def test_parameters_that_would_be_lost_are_not_saved(path):
    with pytest.raises(AttributeError, match=r"Forgetful.*'shape'.*self\.shape = shape"):
        GLM(Forgetful()).save_params(path)
    assert not path.exists()


def test_components_of_ones_own_are_cloned_and_searched_over(path):
    estimator = own()
    assert estimator.get_params()["observation_model__df"] == 7.0
    changed = clone(estimator).set_params(observation_model__df=2.0, regularizer__func="cube")
    assert (changed.observation_model.df, changed.regularizer.func) == (2.0, "cube")
    assert (estimator.observation_model.df, estimator.regularizer.func) == (7.0, "square")
    with pytest.raises(ValueError, match=r"Invalid.*'scal'.*'df'"):
        estimator.set_params(observation_model__scal=1.0)


def test_a_parameter_that_changes_in_place_changes_the_fit():
    """Programs are compiled for the parameters, not for the object that holds them."""
    y = X @ np.array([0.4, -0.3, 0.0, 0.2]) + np.where(np.arange(T) % 7 == 0, 5.0, 0.1)
    model = Student(30.0)
    first = GLM(model).fit(X, y).coef_
    model.set_params(df=1.0)
    second = GLM(model).fit(X, y).coef_
    np.testing.assert_array_equal(second, GLM(Student(1.0)).fit(X, y).coef_)
    assert not np.allclose(first, second, atol=1e-3)


def test_mapping_reaches_parameters_of_components(path):
    GLM(regularizer=Scaled(jnp.square), regularizer_strength=1.0).save_params(path)
    with pytest.raises(ValueError, match="regularizer__func.*'square'.*mapping_dict"):
        nmo.load_model(path, mapping_dict={"regularizer": Scaled})
    with pytest.warns(UserWarning, match="regularizer__func"):
        found = nmo.load_model(
            path, mapping_dict={"regularizer": Scaled, "regularizer__func": jnp.square}
        )
    assert found.regularizer.func is jnp.square


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("inverse_link", "inverse_link_function"),
        ("regulariser", "regularizer"),
        ("zzz", "solver_name"),
    ],
)
def test_unknown_mapping_keys_are_refused_with_suggestions(key, suggestion, path):
    GLM().save_params(path)
    with pytest.raises(ValueError, match=f"{key}.*{suggestion}"):
        nmo.load_model(path, mapping_dict={key: jnp.exp})


@pytest.mark.parametrize("value", [Ridge(), 0.3, "Ridge", None])
def test_mapping_takes_classes_and_functions_only(value, path):
    GLM().save_params(path)
    with pytest.raises(ValueError, match="class or a function"):
        nmo.load_model(path, mapping_dict={"regularizer": value})


def test_empty_mapping_is_no_mapping(path):
    GLM().save_params(path)
    assert repr(nmo.load_model(path, mapping_dict={})) == repr(GLM())


@pytest.mark.parametrize(
    ("estimator", "word"),
    [
        (lambda: GLM(regularizer=Scaled({1, 2}), regularizer_strength=1.0), "func"),
        (lambda: ClassifierGLM(2).set_classes(np.array([(1, 2), "a"], dtype=object)), "sort|dtype"),
    ],
    ids=["set", "labels"],
)
def test_what_cannot_be_saved_is_refused_by_name_and_leaves_no_file(estimator, word, path):
    with pytest.raises(TypeError, match=word):
        estimator().save_params(path)
    assert not path.exists()
