"""Errors as documented: which call raises which type, in one table."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
from sklearn.exceptions import NotFittedError

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM
from bayesglm.observation_models import CategoricalObservations, PoissonObservations

X, COUNTS, LABELS = tables.X, tables.RESPONSES["Poisson"], tables.LABELS
Y, LABEL = COUNTS[:, 0], LABELS[:, 0]
ZEROS = (np.zeros(tables.N_FEATURES), np.zeros(1))
NEURONS, CLASSES = tables.N_NEURONS, tables.N_CLASSES
TREE = {"a": X[:, :1], "b": X[:, 1:]}
HOLES = np.full_like(X, np.nan)
KEY = jax.random.key(0)


def by_hand(model=None, coef=ZEROS[0], intercept=ZEROS[1]):
    model = GLM() if model is None else model
    model.coef_, model.intercept_ = coef, intercept
    return model


def classes_by_hand():
    shape = (tables.N_FEATURES, CLASSES)
    return by_hand(ClassifierGLM(CLASSES), np.zeros(shape), np.zeros(CLASSES))


def known(kind=ClassifierGLM):
    return kind(CLASSES).set_classes(LABELS)


def masked(mask, X=X, kind=PopulationGLM):
    return kind(feature_mask=mask).fit(X, COUNTS)


def begun(n_samples):
    model = GLM()
    state = model.initialize_optimizer_and_state(ZEROS, X, Y)
    return model.update(ZEROS, state, X, Y, n_samples=n_samples)


def assigned(model, name, value):
    setattr(model, name, value)


def never_jax(x):
    return np.exp(np.asarray(x))


class Duck:
    """A model that lacks everything."""


class HalfDuck:
    """A model all of whose members are numbers."""

    _negative_log_likelihood = log_likelihood = likelihood = pseudo_r2 = deviance = 1
    estimate_scale = sample_generator = default_inverse_link_function = 1


#: What is done, and what it raises. The types are those of the documented `Raises` sections and error table.
ERRORS = {
    # -- not fitted
    "predict before fit": (lambda: GLM().predict(X), NotFittedError),
    "score before fit": (lambda: GLM().score(X, Y), NotFittedError),
    "simulate before fit": (lambda: GLM().simulate(KEY, X), NotFittedError),
    "predict with coefficients only": (
        lambda: by_hand(intercept=None).predict(X), NotFittedError),
    "not fitted is a ValueError": (lambda: PopulationGLM().predict(X), ValueError),
    "not fitted is an AttributeError": (lambda: PopulationGLM().predict(X), AttributeError),
    # -- X and y
    "fit, X of one dimension": (lambda: GLM().fit(X[:, 0], Y), ValueError),
    "fit, X of three dimensions": (lambda: GLM().fit(X[:, :, None], Y), ValueError),
    "fit, y of two dimensions": (lambda: GLM().fit(X, COUNTS), ValueError),
    "fit, y of one dimension": (lambda: PopulationGLM().fit(X, Y), ValueError),
    "fit, fewer rows of y": (lambda: GLM().fit(X, Y[:-1]), ValueError),
    "fit, leaves of different lengths": (
        lambda: GLM().fit({"a": X, "b": X[:-1]}, Y), ValueError),
    "fit, nothing but NaN": (lambda: GLM().fit(HOLES, Y), ValueError),
    "fit, text as X": (lambda: GLM().fit(np.full(X.shape, "a"), Y), TypeError),
    "fit, text as y": (lambda: GLM().fit(X, np.full(Y.shape, "a")), TypeError),
    "score, text as y": (lambda: by_hand().score(X, np.full(Y.shape, "a")), TypeError),
    "score, fewer rows of y": (lambda: by_hand().score(X, Y[:-1]), ValueError),
    "score, nothing but NaN": (lambda: by_hand().score(HOLES, Y), ValueError),
    "predict, another number of features": (lambda: by_hand().predict(X[:, 1:]), ValueError),
    "predict, another structure": (lambda: by_hand().predict(TREE), TypeError),
    "predict, three dimensions": (lambda: by_hand().predict(X[:, :, None]), ValueError),
    "simulate, another structure": (lambda: by_hand().simulate(KEY, TREE), TypeError),
    "score, another number of neurons": (
        lambda: by_hand(PopulationGLM(), np.zeros((4, 2)), np.zeros(2)).score(X, COUNTS),
        ValueError),
    # -- parameters
    "fit, one initial parameter": (lambda: GLM().fit(X, Y, ZEROS[:1]), ValueError),
    "fit, three initial parameters": (lambda: GLM().fit(X, Y, (*ZEROS, 1.0)), ValueError),
    "fit, initial parameters in no tuple": (lambda: GLM().fit(X, Y, 1.0), TypeError),
    "fit, initial parameters in a dict": (
        lambda: GLM().fit(X, Y, {"coef": ZEROS[0], "intercept": ZEROS[1]}), TypeError),
    "fit, initial parameters of text": (lambda: GLM().fit(X, Y, ("a", "b")), TypeError),
    "fit, initial coefficients of two dimensions": (
        lambda: GLM().fit(X, Y, (ZEROS[0][:, None], ZEROS[1])), ValueError),
    "fit, too few initial coefficients": (
        lambda: GLM().fit(X, Y, (ZEROS[0][1:], ZEROS[1])), ValueError),
    "fit, an initial intercept too many": (
        lambda: GLM().fit(X, Y, (ZEROS[0], np.zeros(2))), ValueError),
    "fit, a scalar initial intercept": (lambda: GLM().fit(X, Y, (ZEROS[0], 0.0)), ValueError),
    "fit, initial coefficients of another structure": (
        lambda: GLM().fit(TREE, Y, ZEROS), TypeError),
    "fit, initial parameters of too few neurons": (
        lambda: PopulationGLM().fit(X, COUNTS, (np.zeros((4, 2)), np.zeros(2))), ValueError),
    "fit, initial parameters of too few classes": (
        lambda: ClassifierGLM(3).fit(X, LABEL, (np.zeros((4, 2)), np.zeros(2))), ValueError),
    "compute_loss, another number of features": (
        lambda: GLM().compute_loss(ZEROS, X[:, 1:], Y), ValueError),
    "compute_loss, one parameter": (lambda: GLM().compute_loss(ZEROS[:1], X, Y), ValueError),
    "initialize_optimizer_and_state, another number of features": (
        lambda: GLM().initialize_optimizer_and_state(ZEROS, X[:, 1:], Y), ValueError),
    "initialize_params, a silent neuron": (
        lambda: GLM().initialize_params(X, np.zeros_like(Y)), ValueError),
    "initialize_params, only ones": (
        lambda: GLM("Bernoulli").initialize_params(X, np.ones_like(Y)), ValueError),
    "fit, a silent neuron": (lambda: GLM().fit(X, np.zeros_like(Y)), ValueError),
    "fit, a step that ends in NaN": (
        lambda: GLM(solver_name="GradientDescent", solver_kwargs={"stepsize": 1e30}).fit(X, Y),
        ValueError),
    # -- masks
    "mask, another number than 0 and 1": (
        lambda: PopulationGLM(feature_mask=np.full((4, 3), 2)), ValueError),
    "mask of text": (lambda: PopulationGLM(feature_mask=np.full((4, 3), "a")), TypeError),
    "mask of one dimension": (lambda: PopulationGLM(feature_mask=np.ones(4)), TypeError),
    "mask of another shape": (lambda: masked(np.ones((3, 3))), ValueError),
    "mask of another structure": (lambda: masked({"a": np.ones(3)}, TREE), TypeError),
    "mask, an array for a tree": (lambda: masked(np.ones((4, 3)), TREE), TypeError),
    "mask of one neuron too few in a tree": (
        lambda: masked({"a": np.ones(2), "b": np.ones(2)}, TREE), ValueError),
    "mask after fit": (
        lambda: assigned(by_hand(PopulationGLM(), np.zeros((4, 3)), np.zeros(3)),
                         "feature_mask", np.ones((4, 3))), AttributeError),
    "mask of a classifier without classes": (
        lambda: ClassifierPopulationGLM(CLASSES, feature_mask=np.ones((4, 3))).fit(X, LABELS),
        ValueError),
    # -- constructor
    "unknown observation model": (lambda: GLM("Poison"), ValueError),
    "observation model of no kind": (lambda: GLM(3), (TypeError, AttributeError)),
    "an observation model that lacks members": (lambda: GLM(Duck()), AttributeError),
    "an observation model without methods": (lambda: GLM(HalfDuck()), TypeError),
    "Categorical for a GLM": (lambda: GLM("Categorical"), TypeError),
    "CategoricalObservations for a PopulationGLM": (
        lambda: PopulationGLM(CategoricalObservations()), TypeError),
    "unknown regularizer": (lambda: GLM(regularizer="Rigde"), ValueError),
    "a number as regularizer": (lambda: GLM(regularizer=1.0), TypeError),
    "the class of a regularizer": (lambda: GLM(regularizer=nmo.regularizer.Ridge), TypeError),
    "unknown solver": (lambda: GLM(solver_name="Adam"), ValueError),
    "a number as solver": (lambda: GLM(solver_name=1), TypeError),
    "a malformed solver": (lambda: GLM(solver_name="LBFGS[optimistix"), ValueError),
    "an unknown backend": (lambda: GLM(solver_name="LBFGS[scipy]"), ValueError),
    "a solver that is not allowed": (
        lambda: GLM(regularizer="Lasso", solver_name="BFGS"), ValueError),
    "unknown solver argument": (lambda: GLM(solver_kwargs={"tols": 1}), NameError),
    "unknown solver argument, assigned": (
        lambda: assigned(GLM(), "solver_kwargs", {"tols": 1}), NameError),
    "unknown link": (lambda: GLM(inverse_link_function="log"), ValueError),
    "a number as link": (lambda: GLM(inverse_link_function=1.0), TypeError),
    "a link of NumPy": (lambda: GLM(inverse_link_function=never_jax), ValueError),
    "text as strength": (lambda: GLM(regularizer="Ridge", regularizer_strength="a"), TypeError),
    "three numbers for ElasticNet": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, 0.5, 0.1)), TypeError),
    "a ratio above one": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, 1.5)), ValueError),
    "a ratio below zero": (
        lambda: GLM(regularizer="ElasticNet", regularizer_strength=(1.0, -0.5)), ValueError),
    "a strength of another shape": (
        lambda: GLM(regularizer="Ridge", regularizer_strength=np.ones(3)).fit(X, Y), ValueError),
    "too many strengths of groups": (
        lambda: GLM(regularizer="GroupLasso", regularizer_strength=np.ones(3)).fit(X, Y),
        ValueError),
    "unknown argument": (lambda: PopulationGLM(regulariser="Ridge"), TypeError),
    "unknown parameter": (lambda: GLM().set_params(regulariser="Ridge"), ValueError),
    "text as dispersion": (
        lambda: nmo.observation_models.NegativeBinomialObservations("a"), ValueError),
    "text as dispersion, assigned": (
        lambda: assigned(PoissonObservations(), "scale", "a"), ValueError),
    # -- groups
    "groups that overlap": (
        lambda: nmo.regularizer.GroupLasso(np.ones((2, 4))), ValueError),
    "groups of no coefficient": (
        lambda: nmo.regularizer.GroupLasso(np.zeros((2, 4))), ValueError),
    "groups of one dimension": (lambda: nmo.regularizer.GroupLasso(np.ones(4)), ValueError),
    "groups of other numbers": (
        lambda: nmo.regularizer.GroupLasso(0.5 * np.ones((1, 4))), ValueError),
    "groups of text": (
        lambda: nmo.regularizer.GroupLasso(np.full((1, 4), "a")), TypeError),
    "groups of another shape": (
        lambda: GLM(regularizer=nmo.regularizer.GroupLasso(np.ones((1, 3)))).fit(X, Y),
        ValueError),
    # -- scores
    "unknown score": (lambda: by_hand().score(X, Y, score_type="accuracy"), NotImplementedError),
    "unknown pseudo-R2": (
        lambda: PoissonObservations().pseudo_r2(Y, Y + 1.0, score_type="log-likelihood"),
        NotImplementedError),
    # -- steps
    "update, n_samples in text": (lambda: begun("100"), TypeError),
    "update, n_samples a float": (lambda: begun(100.0), TypeError),
    "update before the solver is set up": (
        lambda: GLM().update(ZEROS, None, X, Y), ValueError),
    # -- classes
    **{
        f"{name} without classes": (call, RuntimeError)
        for name, call in {
            "predict": lambda: classes_by_hand().predict(X),
            "predict_proba": lambda: classes_by_hand().predict_proba(X),
            "score": lambda: classes_by_hand().score(X, LABEL),
            "simulate": lambda: classes_by_hand().simulate(KEY, X),
            "compute_loss": lambda: ClassifierGLM(CLASSES).compute_loss(
                (np.zeros((4, CLASSES)), np.zeros(CLASSES)), X, LABEL),
            "initialize_params": lambda: ClassifierGLM(CLASSES).initialize_params(X, LABEL),
            "update": lambda: ClassifierGLM(CLASSES).update(ZEROS, None, X, LABEL),
        }.items()
    },
    "too few classes": (lambda: ClassifierGLM(CLASSES + 1).fit(X, LABEL), ValueError),
    "too many classes": (lambda: ClassifierGLM(CLASSES - 1).fit(X, LABEL), ValueError),
    "set_classes, too few": (lambda: ClassifierGLM(3).set_classes([0, 1]), ValueError),
    "one class": (lambda: ClassifierGLM(1), ValueError),
    "half a class": (lambda: ClassifierGLM(2.5), ValueError),
    "text as number of classes": (lambda: ClassifierGLM("two"), ValueError),
    "an unknown label": (lambda: known().initialize_params(X, LABEL + 1), ValueError),
    "an unknown label in a JAX array": (
        lambda: known().initialize_params(X, jnp.asarray(LABEL + 1)), ValueError),
    "an unknown label of many": (
        lambda: known(ClassifierPopulationGLM).initialize_params(X, LABELS + 1), ValueError),
    "unknown kind of probabilities": (
        lambda: known().fit(X, LABEL).predict_proba(X, return_type="logit"), ValueError),
    "classifier, y of two dimensions": (lambda: ClassifierGLM(CLASSES).fit(X, LABELS), ValueError),
    # -- files
    "a file that is not there": (lambda: nmo.load_model("nowhere.npz"), FileNotFoundError),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_call_raises_the_documented_type(name):
    call, kind = ERRORS[name]
    with warnings.catch_warnings(), pytest.raises(kind) as caught:
        warnings.simplefilter("ignore")
        call()
    assert str(caught.value).strip()


def test_the_documented_warnings_are_given():
    with pytest.warns(UserWarning, match="regularizer_strength"):
        GLM(regularizer="Ridge").fit(X, Y)
    with pytest.warns(RuntimeWarning, match="did not converge"):
        GLM(solver_kwargs={"maxiter": 1}).fit(X, Y)
    with pytest.warns(UserWarning, match="falling back"):
        GLM(solver_name="BFGS").regularizer = "Lasso"
