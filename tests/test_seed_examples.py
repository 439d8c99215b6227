"""The examples of the documented interface run as printed, with this package in place of theirs."""

import doctest
import warnings

import numpy as np
import pytest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
START = """
>>> import jax
>>> import jax.numpy as jnp
>>> import numpy as np
>>> import bayesglm as nmo
"""

POPULATION = """
>>> np.random.seed(123)
>>> num_samples, num_features, num_neurons = 100, 3, 2
>>> X = np.random.normal(size=(num_samples, num_features))
>>> weights = np.array([[0.5, 0.0], [-0.5, -0.5], [0.0, 1.0]])
>>> y = np.random.poisson(np.exp(X.dot(weights)))
"""
TEN_COUNTS = """
>>> X, y = np.random.normal(size=(10, 2)), np.random.poisson(size=10)
"""
TWO_CLASSES = """
>>> X = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
>>> y = jnp.array([0, 0, 1, 1])
"""
THREE_CLASSES = """
>>> X = jnp.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0], [5.0, 6.0], [6.0, 7.0]])
>>> y = jnp.array([0, 0, 1, 1, 2, 2])
"""
SUBJECTS = """
>>> X = jnp.array([[1., 2.], [2., 3.], [3., 4.], [4., 5.], [5., 6.], [6., 7.]])
>>> y = jnp.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 1], [2, 2]])
"""
HOW_TO = """
>>> np.random.seed(123)
>>> n_features, n_neurons, n_samples = 5, 2, 500
>>> X = 0.5 * np.random.normal(size=(n_samples, n_features))
>>> b_true = np.zeros((n_neurons,))
>>> w_true = np.random.uniform(size=(n_features, n_neurons))
"""
HOW_TO_FEATURES = (
    HOW_TO
    + """
>>> n_features = 3
>>> input_features = X[:, :3]
>>> rate_neuron_1 = jnp.exp(np.dot(input_features[:, [0, 1]], w_true[:2, 0]))
>>> rate_neuron_2 = jnp.exp(np.dot(input_features[:, [0, 2]], w_true[[0, 2], 1]))
>>> rate = np.hstack((rate_neuron_1[:, np.newaxis], rate_neuron_2[:, np.newaxis]))
>>> spikes = np.random.poisson(rate)
>>> feature_mask = np.ones((n_features, n_neurons))
>>> feature_mask[2, 0] = 0
>>> feature_mask[1, 1] = 0
"""
)

EXAMPLES = {
    # the page of PopulationGLM
    "population: array": POPULATION
    + """
>>> model = nmo.glm.PopulationGLM().fit(X, y)
>>> model.coef_.shape
(3, 2)
>>> model.intercept_.shape
(2,)
""",
    "population: mask": POPULATION
    + """
>>> feature_mask = np.array([[1, 0], [1, 1], [0, 1]])
>>> model = nmo.glm.PopulationGLM(feature_mask=feature_mask).fit(X, y)
>>> model.coef_
Array(...)
>>> model.coef_.shape
(3, 2)
>>> np.asarray(model.coef_)[feature_mask == 0].tolist()
[0.0, 0.0]
""",
    "population: mask as a JAX array": POPULATION
    + """
>>> from bayesglm.glm import PopulationGLM
>>> feature_mask = jnp.array([[1, 0], [1, 1], [0, 1]])
>>> model = PopulationGLM(feature_mask=feature_mask).fit(X, y)
>>> print(model.coef_.shape)
(3, 2)
""",
    "population: dict": POPULATION
    + """
>>> feature_1 = np.random.normal(size=(num_samples, 2))
>>> feature_2 = np.random.normal(size=(num_samples, 1))
>>> X_dict = {"feature_1": feature_1, "feature_2": feature_2}
>>> weights = dict(
...     feature_1=jnp.array([[0.0, 0.5], [0.0, -0.5]]),
...     feature_2=jnp.array([[1.0, 0.0]])
... )
>>> rate = np.exp(
...     X_dict["feature_1"].dot(weights["feature_1"]) +
...     X_dict["feature_2"].dot(weights["feature_2"])
... )
>>> y = np.random.poisson(rate)
>>> feature_mask = {
...     "feature_1": jnp.array([0, 1], dtype=jnp.int32),
...     "feature_2": jnp.array([1, 0], dtype=jnp.int32)
... }
>>> model = nmo.glm.PopulationGLM(feature_mask=feature_mask).fit(X_dict, y)
>>> model.coef_
{...}
>>> model.coef_["feature_1"].shape, model.coef_["feature_2"].shape
((2, 2), (1, 2))
>>> bool(jnp.all(model.coef_["feature_1"][:, 0] == 0) & (model.coef_["feature_2"][0, 1] == 0))
True
""",
    "population: observation model": """
>>> model = nmo.glm.PopulationGLM(observation_model="Gamma")
>>> model.observation_model
GammaObservations()
""",
    "population: Ridge": POPULATION
    + """
>>> model = nmo.glm.PopulationGLM(
...     regularizer="Ridge",
...     regularizer_strength=0.1
... ).fit(X, y)
>>> model.regularizer
Ridge()
""",
    # inherited from GLM
    "predict": TEN_COUNTS
    + """
>>> model = nmo.glm.GLM()
>>> model = model.fit(X, y)
>>> Xnew = np.random.normal(size=(20, X.shape[1]))
>>> predicted_spikes = model.predict(Xnew)
>>> predicted_spikes.shape
(20,)
""",
    "score": TEN_COUNTS
    + """
>>> model = nmo.glm.GLM()
>>> model = model.fit(X, y)
>>> log_likelihood_score = model.score(X, y)
>>> pseudo_r2_score = model.score(X, y, score_type='pseudo-r2-McFadden')
>>> log_likelihood_score.shape, pseudo_r2_score.shape
((), ())
>>> bool(0 <= pseudo_r2_score <= 1)
True
""",
    "simulate": TEN_COUNTS
    + """
>>> model = nmo.glm.GLM()
>>> model = model.fit(X, y)
>>> random_key = jax.random.key(123)
>>> Xnew = np.random.normal(size=(20, X.shape[1]))
>>> spikes, rates = model.simulate(random_key, Xnew)
>>> spikes.shape, rates.shape
((20,), (20,))
""",
    "update": TEN_COUNTS
    + """
>>> glm_instance = nmo.glm.GLM()
>>> params = glm_instance.initialize_params(X, y)
>>> opt_state = glm_instance.initialize_optimizer_and_state(params, X, y)
>>> new_params, new_opt_state = glm_instance.update(params, opt_state, X, y)
>>> new_params[0].shape, new_params[1].shape
((2,), (1,))
""",
    "save and load": """
>>> solver_args = {"stepsize": 0.1, "maxiter": 1000, "tol": 1e-6}
>>> model = nmo.glm.GLM(
...     regularizer="Ridge",
...     regularizer_strength=0.1,
...     observation_model="Gamma",
...     solver_name="BFGS",
...     solver_kwargs=solver_args,
... )
>>> for key, value in model.get_params().items():
...     print(f"{key}: {value}")
inverse_link_function: <function one_over_x at ...>
observation_model: GammaObservations()
regularizer: Ridge()
regularizer_strength: 0.1...
solver_kwargs: {'stepsize': 0.1, 'maxiter': 1000, 'tol': 1e-06}
solver_name: BFGS
>>> model.save_params("model_params.npz")
>>> model = nmo.load_model("model_params.npz")
>>> for key, value in model.get_params().items():
...     print(f"{key}: {value}")
inverse_link_function: <function one_over_x at ...>
observation_model: GammaObservations()
regularizer: Ridge()
regularizer_strength: 0.1
solver_kwargs: {'maxiter': 1000, 'stepsize': 0.1, 'tol': 1e-06}
solver_name: BFGS
""",
    "save and load a link of one's own": """
>>> model = nmo.glm.GLM(
...     observation_model="Poisson",
...     inverse_link_function=lambda x: x**2
... )
>>> model.save_params("model_params.npz")
>>> mapping_dict = {
...     "inverse_link_function": lambda x: x**2,
... }
>>> loaded_model = nmo.load_model("model_params.npz", mapping_dict=mapping_dict)
>>> for key, value in loaded_model.get_params().items():
...     print(f"{key}: {value}")
inverse_link_function: <function <lambda> at ...>
observation_model: PoissonObservations()
regularizer: UnRegularized()
regularizer_strength: None
solver_kwargs: {}
solver_name: LBFGS
""",
    # the page and source of the classifiers
    "classifier: labels and probabilities": TWO_CLASSES
    + """
>>> model = nmo.glm.ClassifierGLM(n_classes=2).fit(X, y)
>>> model.coef_.shape
(2, 2)
>>> model.intercept_.shape
(2,)
>>> predictions = model.predict(X)
>>> predictions.shape
(4,)
>>> proba = model.predict_proba(X, return_type="proba")
>>> proba.shape
(4, 2)
>>> log_proba = model.predict_proba(X, return_type="log-proba")
>>> log_proba.shape
(4, 2)
>>> bool(jnp.allclose(jnp.exp(log_proba), proba))
True
>>> score = model.score(X, y)
>>> score.shape
()
""",
    "classifier: strings": TWO_CLASSES
    + """
>>> y_str = np.array(["cat", "cat", "dog", "dog"])
>>> model = nmo.glm.ClassifierGLM(n_classes=2).fit(X, y_str)
>>> model.classes_
array(['cat', 'dog'], dtype='<U3')
>>> model.predict(X)
array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
""",
    "classifier: simulate": TWO_CLASSES
    + """
>>> model = nmo.glm.ClassifierGLM(n_classes=2).fit(X, y)
>>> key = jax.random.key(0)
>>> simulated_y, log_prob = model.simulate(key, X)
>>> simulated_y.shape, log_prob.shape
((4,), (4,))
>>> bool(jnp.isin(simulated_y, model.classes_).all() & (log_prob < 0).all())
True
""",
    "classifier: three classes": THREE_CLASSES
    + """
>>> model = nmo.glm.ClassifierGLM(n_classes=3).fit(X, y)
>>> model.coef_.shape
(2, 3)
>>> X_dict = {"feature_1": X[:, :1], "feature_2": X[:, 1:]}
>>> model = nmo.glm.ClassifierGLM(n_classes=3).fit(X_dict, y)
>>> type(model.coef_)
<class 'dict'>
""",
    "classifier: Ridge": """
>>> model = nmo.glm.ClassifierGLM(
...     n_classes=2,
...     regularizer="Ridge",
...     regularizer_strength=0.5
... )
>>> model.regularizer
Ridge()
""",
    "classifier: initialize_params": TWO_CLASSES
    + """
>>> model = nmo.glm.ClassifierGLM(n_classes=2)
>>> model.set_classes(y)
ClassifierGLM(...)
>>> coef, intercept = model.initialize_params(X, y)
>>> coef.shape
(2, 2)
""",
    "classifier: set_classes": """
>>> model = nmo.glm.ClassifierGLM(3)
>>> X = np.random.randn(100, 5)
>>> y_all_classes = np.array([0, 1, 2])
>>> y_batch1 = np.array([0, 1, 0, 1, 0])
>>> X_batch1 = X[:5]
>>> init_params = model.initialize_params(X_batch1, y_batch1)
Traceback (most recent call last):
RuntimeError: Classes are not set. Must call ``set_classes`` before calling...
>>> model.set_classes(y_all_classes)
ClassifierGLM(...)
>>> init_params = model.initialize_params(X_batch1, y_batch1)
>>> state = model.initialize_optimizer_and_state(init_params, X_batch1, y_batch1)
>>> result = model.update(init_params, state, X_batch1, y_batch1)
>>> (coef, intercept), state = result
>>> coef.shape, intercept.shape
((5, 3), (3,))
>>> bool(jnp.isfinite(coef).all() & jnp.isfinite(intercept).all())
True
""",
    "classifier: update": TWO_CLASSES
    + """
>>> model = nmo.glm.ClassifierGLM(n_classes=2)
>>> model.set_classes(y)
ClassifierGLM(...)
>>> params = model.initialize_params(X, y)
>>> opt_state = model.initialize_optimizer_and_state(params, X, y)
>>> new_params, new_state = model.update(params, opt_state, X, y)
>>> new_params[0].shape
(2, 2)
""",
    "subjects: labels and probabilities": SUBJECTS
    + """
>>> model = nmo.glm.ClassifierPopulationGLM(n_classes=3).fit(X, y)
>>> model.coef_.shape
(2, 2, 3)
>>> model.intercept_.shape
(2, 3)
>>> predictions = model.predict(X)
>>> predictions.shape
(6, 2)
>>> proba = model.predict_proba(X, return_type="proba")
>>> proba.shape
(6, 2, 3)
>>> score = model.score(X, y)
""",
    "subjects: strings": SUBJECTS
    + """
>>> y_str = np.array(
...     [["a", "a"], ["a", "b"], ["b", "a"], ["b", "c"], ["c", "b"], ["c", "c"]]
... )
>>> model = nmo.glm.ClassifierPopulationGLM(n_classes=3).fit(X, y_str)
>>> model.classes_
array(['a', 'b', 'c'], dtype='<U1')
>>> model.predict(X).shape
(6, 2)
""",
    "subjects: mask": SUBJECTS
    + """
>>> feature_mask = jnp.array([[[1, 1, 1], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]])
>>> model = nmo.glm.ClassifierPopulationGLM(
...     n_classes=3,
...     feature_mask=feature_mask
... ).fit(X, y)
>>> model.coef_
Array(...)
>>> model.coef_[0, 1].tolist()
[0.0, 0.0, 0.0]
""",
    "subjects: Ridge": """
>>> model = nmo.glm.ClassifierPopulationGLM(
...     n_classes=3,
...     regularizer="Ridge",
...     regularizer_strength=0.5
... )
>>> model.regularizer
Ridge()
""",
    "subjects: dict": SUBJECTS
    + """
>>> X_dict = {"feature_1": X[:, :1], "feature_2": X[:, 1:]}
>>> model = nmo.glm.ClassifierPopulationGLM(n_classes=3).fit(X_dict, y)
>>> type(model.coef_)
<class 'dict'>
""",
    # the page on populations
    "how to: fit and score": HOW_TO
    + """
>>> rate = jnp.exp(jnp.dot(X, w_true) + b_true)
>>> spikes = np.random.poisson(rate)
>>> print(spikes.shape)
(500, 2)
>>> model = nmo.glm.PopulationGLM()
>>> model.fit(X, spikes)
PopulationGLM(...)
>>> print(f"population GLM log-likelihood: {model.score(X, spikes)}")
population GLM log-likelihood: -1...
""",
    "how to: mask": HOW_TO_FEATURES
    + """
>>> print(feature_mask)
[[1. 1.]
 [1. 0.]
 [0. 1.]]
>>> model = nmo.glm.PopulationGLM(solver_name="LBFGS", solver_kwargs={"tol": 10**-12})
>>> model.feature_mask = feature_mask
>>> model.fit(input_features, spikes)
PopulationGLM(...)
>>> print(model.coef_)
[[...]
 [... 0. ...]
 [... 0. ...]]
>>> features_by_neuron = {0: [0, 1], 1: [0, 2]}
>>> coeff = np.zeros((2, 2))
>>> for neuron in range(2):
...     model_neu = nmo.glm.GLM(solver_name="LBFGS", solver_kwargs={"tol": 10**-12})
...     model_neu = model_neu.fit(
...         input_features[:, features_by_neuron[neuron]], spikes[:, neuron]
...     )
...     coeff[:, neuron] = model_neu.coef_
>>> masked = np.array([[model.coef_[i, k] for k in (0, 1)] for i in range(3)])
>>> alone = np.array([[coeff[0, 0], coeff[0, 1]], [coeff[1, 0], 0], [0, coeff[1, 1]]])
>>> bool(np.allclose(masked, alone, rtol=0, atol=1e-6))  # shown in single precision
True
>>> model.feature_mask = feature_mask
Traceback (most recent call last):
AttributeError: ...cannot be set after fitting...
""",
    "how to: pytree": HOW_TO_FEATURES
    + """
>>> pytree_features = dict(
...     shared=input_features[:, :1],
...     neu_0=input_features[:, 1:2],
...     neu_1=input_features[:, 2:]
... )
>>> pytree_mask = dict(
...     shared=np.array([1, 1]),
...     neu_0=np.array([1, 0]),
...     neu_1=np.array([0, 1])
... )
>>> model_tree = nmo.glm.PopulationGLM(solver_name="LBFGS", feature_mask=pytree_mask)
>>> model_tree.fit(pytree_features, spikes)
PopulationGLM(...)
>>> print(model_tree.coef_)
{'neu_0': Array([[..., 0. ...]], ...), 'neu_1': Array([[ 0. ..., ...]], ...), 'shared': Array(...)}
>>> model = nmo.glm.PopulationGLM(feature_mask=feature_mask).fit(input_features, spikes)
>>> columns = [model_tree.coef_[key] for key in ("shared", "neu_0", "neu_1")]
>>> bool(jnp.array_equal(jnp.concatenate(columns), model.coef_))
True
""",
}


def run(name):
    """Run one example and fail with what doctest has to say about it."""
    test = doctest.DocTestParser().get_doctest(START + EXAMPLES[name], {}, name, None, 0)
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", EXAMPLES)
def test_documented_example_prints_what_the_documents_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.random.seed(0)  # noqa: NPY002 - the examples draw from the global generator
    with warnings.catch_warnings():
        # This is what loading with a mapping is documented to do; a notebook shows it beside the output.
        warnings.filterwarnings("ignore", "Parameters replaced by `mapping_dict`", UserWarning)
        run(name)
