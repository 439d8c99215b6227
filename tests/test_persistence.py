"""What is saved comes back; what is not ours is refused, and nothing in a file is ever run."""

import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from sklearn.base import clone
from tables import FAMILY_LINKS, LABELS, N_FEATURES, N_NEURONS, REGULARIZERS, RESPONSES
from tables import X as ALL_ROWS

import bayesglm as nmo
from bayesglm import io
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM
from bayesglm.regularizer import GroupLasso, Ridge

T = 30
X = ALL_ROWS[:T]
Y = RESPONSES["Poisson"][:T]
CLASSES = LABELS[:T]
STRINGS = np.array(["left", "right", "stop"])[CLASSES]
TREES = {
    "dict": {"b": X[:, :1], "a": X[:, 1:]},
    "list": [X[:, :1], X[:, 1:]],
    "tuple": (X[:, :1], X[:, 1:]),
    "nested": {"slow": {"x": X[:, :1], "y": [X[:, 1:2]]}, "fast": (X[:, 2:],)},
    "integer keys": {1: X[:, :1], 0: X[:, 1:]},
}
FACES = {
    "GLM": (GLM, ()),
    "PopulationGLM": (PopulationGLM, (N_NEURONS,)),
    "ClassifierGLM": (lambda **config: ClassifierGLM(3, **config), (3,)),
    "ClassifierPopulationGLM": (
        lambda **config: ClassifierPopulationGLM(3, **config),
        (N_NEURONS, 3),
    ),
}
_rng = np.random.default_rng(5)


def with_parameters(estimator, outputs, X=X, labels=("left", "right", "stop")):
    """Parameters as a fit leaves them, without the time of one; full of digits."""
    estimator.coef_ = jax.tree.map(lambda leaf: _rng.normal(size=(leaf.shape[1], *outputs)) / 7, X)
    estimator.intercept_ = _rng.normal(size=outputs or (1,)) / 7
    estimator.scale_ = np.full(outputs[:1] or 1, 1 / 3)
    estimator.dof_resid_ = np.full(outputs[:1] or 1, 25.5)
    if hasattr(estimator, "n_classes"):
        estimator.set_classes(labels)
    return estimator


def round_trip(estimator, path, **arguments):
    estimator.save_params(path)
    return nmo.load_model(path, **arguments)


def outputs_of(estimator, X):
    """What the model says about rows, in float64."""
    with jax.enable_x64(True):
        found = [estimator.predict(X)]
        if hasattr(estimator, "predict_proba"):
            found.append(estimator.predict_proba(X))
        return [np.asarray(value) for value in found]


def assert_same_model(found, expected, X=X):
    assert type(found) is type(expected)
    mine, theirs = found.get_params(), expected.get_params()
    assert list(mine) == list(theirs)
    for name in mine:
        assert_same_value(mine[name], theirs[name])
    names = ("coef_", "intercept_", "scale_", "dof_resid_", "classes_")
    with jax.enable_x64(True):
        for name in names:
            assert_same_value(getattr(found, name, None), getattr(expected, name, None))
    if expected.coef_ is not None:
        for one, other in zip(outputs_of(found, X), outputs_of(expected, X), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def assert_same_value(one, other):
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (one, other))
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        if isinstance(b, (np.ndarray, jax.Array)):
            np.testing.assert_array_equal(a, b)
        elif isinstance(b, (str, int, float)) or callable(b):
            assert a == b
        else:  # observation models and regularizers
            assert type(a) is type(b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.mark.parametrize("face", ["GLM", "PopulationGLM"])
@pytest.mark.parametrize(
    "link", [(family, link) for family in FAMILY_LINKS for link in FAMILY_LINKS[family]]
)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_round_trip_of_every_family_and_link(face, link, is_fitted, path):
    make, outputs = FACES[face]
    estimator = make(observation_model=link[0], inverse_link_function=link[1])
    if is_fitted:
        with_parameters(estimator, outputs)
    assert_same_model(round_trip(estimator, path), estimator)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("strength", ["given", "default"])
def test_round_trip_of_every_estimator_and_regularizer(face, regularizer, strength, path):
    make, outputs = FACES[face]
    value = REGULARIZERS[regularizer] if strength == "given" else None
    estimator = with_parameters(make(regularizer=regularizer, regularizer_strength=value), outputs)
    assert_same_model(round_trip(estimator, path), estimator)


STRENGTHS = {
    "array": lambda shape: ("Ridge", _rng.uniform(size=shape)),
    "JAX array": lambda shape: ("Lasso", jnp.ones(shape)),
    "dict": lambda shape: ("Ridge", {"a": 0.1, "b": np.float32(0.2)}),
    "pair of arrays": lambda shape: ("ElasticNet", (np.full(shape, 0.3), 0.7)),
    "pair of dicts": lambda shape: ("ElasticNet", ({"a": 0.3, "b": 0.1}, {"a": 0.7, "b": 0.2})),
    "per group": lambda shape: (GroupLasso(np.eye(4)[:2].reshape(2, 4)), [0.3, 0.7]),
    "per group of a dict": lambda shape: (
        GroupLasso({"a": np.ones((1, 3)), "b": jnp.zeros((1, 1))}),
        0.5,
    ),
}


@pytest.mark.parametrize("kind", STRENGTHS)
def test_round_trip_of_strengths_and_group_masks(kind, path):
    regularizer, strength = STRENGTHS[kind]((N_FEATURES,))
    estimator = GLM(regularizer=regularizer, regularizer_strength=strength)
    found = round_trip(estimator, path)
    assert_same_model(found, estimator)
    if isinstance(regularizer, GroupLasso):
        assert_same_value(found.regularizer.mask, jax.tree.map(np.asarray, regularizer.mask))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("face", FACES)
def test_round_trip_of_coefficients_in_a_pytree(tree, face, path):
    make, outputs = FACES[face]
    estimator = with_parameters(make(), outputs, TREES[tree])
    assert_same_model(round_trip(estimator, path), estimator, TREES[tree])


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(N_FEATURES, N_NEURONS),
        jnp.eye(N_FEATURES, N_NEURONS) > 0,
        {"a": np.array([1, 0, 1]), "b": np.array([0, 1, 1])},
    ],
    ids=["array", "JAX array", "dict"],
)
def test_round_trip_of_feature_masks(mask, path):
    rows = TREES["dict"] if isinstance(mask, dict) else X
    estimator = with_parameters(PopulationGLM(feature_mask=mask), (N_NEURONS,), rows)
    assert_same_model(round_trip(estimator, path), estimator, rows)


@pytest.mark.parametrize(
    "labels",
    [
        [2, 5, 9],
        [0, 1, 2],
        [0.5, 1.5, 2.5],
        ["cat", "dog", "éléphant"],
        np.array([b"a", b"b", b"c"]),
    ],
    ids=["integers", "default", "floats", "strings", "bytes"],
)
def test_round_trip_of_class_labels(labels, path):
    estimator = with_parameters(FACES["ClassifierGLM"][0](), (3,), labels=labels)
    found = round_trip(estimator, path)
    assert_same_model(found, estimator)
    assert found.classes_.dtype == estimator.classes_.dtype


@pytest.mark.parametrize("face", ["ClassifierGLM", "ClassifierPopulationGLM"])
@pytest.mark.parametrize("output", ["log-proba", "proba"])
def test_round_trip_of_what_probabilities_are_returned(face, output, path):
    make, outputs = FACES[face]
    model = with_parameters(make(), outputs).set_proba_output(output)
    found = round_trip(model, path)
    assert_same_model(found, model)  # predict_proba among others
    sums = np.asarray(found.predict_proba(X)).sum(axis=-1)
    assert np.allclose(sums, 1.0, rtol=1e-5) == (output == "proba")
    assert_same_model(round_trip(clone(found), path), clone(model))


def test_round_trip_of_a_fit(path):
    for estimator, y in (
        (GLM("Gaussian", regularizer="Ridge", regularizer_strength=0.1), Y[:, 0]),
        (ClassifierGLM(3), STRINGS[:, 0]),
    ):
        estimator.fit(X, y)
        found = round_trip(estimator, path)
        assert_same_model(found, estimator)
        with jax.enable_x64(True):
            assert found.score(X, y) == estimator.score(X, y)


@pytest.mark.parametrize(
    ("solver", "kwargs"),
    [
        (None, {"tol": 1e-9, "maxiter": 7}),
        ("GradientDescent", {"stepsize": 0.1, "acceleration": False}),
        ("SVRG", {"batch_size": 3, "stepsize": np.float32(0.5)}),
    ],
)
def test_round_trip_of_solver_arguments(solver, kwargs, path):
    estimator = GLM(solver_name=solver, solver_kwargs=kwargs)
    assert_same_model(round_trip(estimator, path), estimator)


def test_random_key_of_a_solver_comes_back_as_its_numbers(path):
    key = jax.random.key(3)
    estimator = GLM(solver_name="SVRG", solver_kwargs={"key": key})
    found = round_trip(estimator, path).solver_kwargs["key"]
    # two keys are the same if they draw the same
    assert np.array_equal(jax.random.bits(jnp.asarray(found)), jax.random.bits(key))


def test_what_was_not_chosen_stays_open_after_loading(path):
    found = round_trip(GLM(), path)
    found.regularizer = "Lasso"
    assert found.solver_name == "ProximalGradient"
    assert found.regularizer_strength == 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ClassifierGLM(3).fit(X, CLASSES[:, 0])
        round_trip(ClassifierGLM(3), path).fit(X, CLASSES[:, 0])
    assert not caught  # no regularizer was named, so its default strength is not worth a word


def test_suffix_is_appended_and_paths_may_be_strings(tmp_path):
    GLM().save_params(str(tmp_path / "model"))
    assert repr(nmo.load_model(str(tmp_path / "model.npz"))) == repr(GLM())
    with pytest.raises(FileNotFoundError):
        nmo.load_model(tmp_path / "other.npz")


# functions and classes of the user's own


def exp(x):
    """A function that bears the name of another."""
    return jnp.log1p(jnp.exp(x))


class Tight(Ridge):
    """A regularizer of one's own."""


class Own(nmo.observation_models.PoissonObservations):
    """An observation model of one's own."""


def named_ridge():
    return type("Ridge", (Ridge,), {})


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


# files that are not ours


def rewrite(path, change):
    """Change the description in a file as a stranger could."""
    tree = io.read(path)
    change(tree)
    io.write(path, tree)


def put(*keys, value):
    """Return a change that sets one entry of a description."""

    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change


def drop(*keys):
    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        del tree[keys[-1]]

    return change


TAMPERINGS = {
    "another class": put("model_class", value="Pipeline"),
    "a class that is no name": put("model_class", value=["GLM"]),
    "the class of another shape": put("model_class", value="ClassifierGLM"),
    "no parameters": drop("params"),
    "parameters that are no dict": put("params", value=3),
    "a parameter too many": put("params", "alpha", value=1),
    "a wrong value": put("params", "solver_kwargs", value={"tol": -1.0}),
    "a wrong type": put("params", "solver_kwargs", value="a"),
    "an unknown solver": put("params", "solver_name", value="os.system"),
    "a link by its path": put("params", "inverse_link_function", "function", value="os.system"),
    "a link that is no name": put("params", "inverse_link_function", "function", value=3),
    "a link without a mark": drop("params", "inverse_link_function", "ours"),
    "a link that is no description": put("params", "inverse_link_function", value="exp"),
    "a family by its path": put("params", "observation_model", "name", value="os.system"),
    "a family that is no name": put("params", "observation_model", "name", value=["GLM"]),
    "a family with parameters": put("params", "observation_model", "params", "x", value=1),
    "a family that is no description": put("params", "observation_model", value="Poisson"),
    "a regularizer without parameters": drop("params", "regularizer", "params"),
    "an unknown fitted attribute": put("fitted", "coef", value=1),
    "a missing fitted attribute": drop("fitted", "coef_"),
    "no fitted attributes": put("fitted", value=None),
    "coefficients without a tree": put("fitted", "coef_", value=3),
    "coefficients of text": put("fitted", "coef_", "tree", value="a"),
    "coefficients of neurons": put("fitted", "coef_", "tree", value=np.zeros((4, 2))),
    "intercepts of neurons": put("fitted", "intercept_", value=np.zeros(2)),
    "intercepts of text": put("fitted", "intercept_", value="a"),
    "a dispersion of text": put("fitted", "scale_", value="a"),
    "a missing part": drop("versions"),
}


@pytest.mark.parametrize("change", TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampered_files_are_value_errors_that_name_the_file(change, path):
    with_parameters(GLM(), ()).save_params(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=path.name):
        nmo.load_model(path)


@pytest.mark.parametrize("kept", [0, 10, 200, -30, -1])
def test_truncated_files_are_value_errors(kept, path):
    with_parameters(GLM(), ()).save_params(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=path.name):
        nmo.load_model(path)


@pytest.mark.parametrize("function", [nmo.load_model, nmo.inspect_npz])
def test_foreign_files_are_value_errors(function, path):
    for content in (b"", b"not a zip", pickle.dumps(GLM())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=path.name):
            function(path)
    np.savez(path, coef_=np.ones(3), intercept_=np.ones(1))
    with pytest.raises(ValueError, match=path.name):
        function(path)


def test_other_trees_of_our_format_are_value_errors(path):
    for tree in (None, [1, 2], {"a": 1}, {"model_class": "GLM"}):
        io.write(path, tree)
        with pytest.raises(ValueError, match=path.name):
            nmo.load_model(path)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("function", [nmo.load_model, nmo.inspect_npz])
@pytest.mark.parametrize("member", ["header", "array_0"])
def test_nothing_in_a_file_is_unpickled(function, member, path, tmp_path):
    touched = tmp_path / "touched"
    with_parameters(GLM(), ()).save_params(path)
    with np.load(path, allow_pickle=False) as file:
        members = {name: file[name] for name in file.files}
    assert member in members
    members[member] = np.array([Bomb(touched)], dtype=object)
    np.savez(path, **members)
    with pytest.raises(ValueError, match=path.name):
        function(path)
    assert not touched.exists()
    # the trap is set: whoever unpickles the file steps into it
    with np.load(path, allow_pickle=True) as file:
        file[member][0].close()
    assert touched.exists()


def test_inspection_shows_what_a_file_holds(path, capsys):
    estimator = GLM("Gamma", regularizer="Ridge", regularizer_strength=0.25)
    with_parameters(estimator, ()).save_params(path)
    nmo.inspect_npz(path)
    shown = capsys.readouterr().out
    for text in ("GLM", "GammaObservations", "one_over_x", "Ridge", "0.25", "coef_", "(4,)"):
        assert text in shown
