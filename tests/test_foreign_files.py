"""Files that are not ours, or were changed, are refused by name; nothing in a file is unpickled."""

import pickle

import numpy as np
import pytest
from saved import with_parameters

import bayesglm as nmo
from bayesglm import io
from bayesglm.glm import GLM


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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


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
