"""scikit-learn's own checks of estimators, and the reason for each that does not apply."""

import jax
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

import bayesglm as nmo

COMPONENTS = (
    "arguments are resolved where they are set, as documented, so that a wrong one fails at once"
)
EVERYWHERE = {
    "check_do_not_raise_errors_in_init_or_set_params": COMPONENTS,
    "check_parameters_default_constructible": COMPONENTS,
    "check_set_params": COMPONENTS,
}
SCORE = {"check_regressors_train": "`score` is the log-likelihood, as documented, and not R2"}
COLUMN = {
    "check_supervised_y_2d": "a column for `y` is a population of one: the error says how to go on"
}
BINARY = {
    "check_classifier_not_supporting_multiclass": "`n_classes` says how many classes there are, and the error does too"
}
POPULATION = {
    "check_classifiers_classes": "`y` has a column for each neuron",
    "check_classifiers_train": "`y` has a column for each neuron",
    "check_classifiers_one_label_sample_weights": "`y` has a column for each neuron",
    "check_classifier_multioutput": "probabilities are one array (samples, neurons, classes), as documented",
}
UNIQUE = {
    "check_sample_weight_equivalence_on_dense_data": "without a penalty, 15 rows and 30 features have many optima"
}
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.01}
CASES = {
    "GLM": (lambda: nmo.glm.GLM(), EVERYWHERE | SCORE | COLUMN | UNIQUE),
    "PopulationGLM": (
        lambda: nmo.glm.PopulationGLM("Gaussian"),
        EVERYWHERE | SCORE | UNIQUE,
    ),
    # scikit-learn's checks take `predict_proba` for probabilities
    "ClassifierGLM": (
        lambda: nmo.glm.ClassifierGLM(2, **RIDGE).set_proba_output("proba"),
        EVERYWHERE | COLUMN | BINARY,
    ),
    "ClassifierPopulationGLM": (
        lambda: nmo.glm.ClassifierPopulationGLM(2, **RIDGE).set_proba_output("proba"),
        EVERYWHERE | BINARY | POPULATION,
    ),
}


def name_of(check):
    return getattr(check, "func", check).__name__


@pytest.mark.filterwarnings("ignore")  # the checks make data on which fits warn, as they should
@pytest.mark.parametrize("case", CASES)
def test_the_checks_of_scikit_learn_pass_but_for_those_with_a_reason(case):
    make, reasons = CASES[case]
    failed = set()
    # they compare results to 1e-7, which single precision does not show
    with jax.enable_x64(True):
        for estimator, check in estimator_checks_generator(make()):
            try:
                check(estimator)
            except Exception as error:
                if type(error).__name__ not in ("SkipTest", "SkipTestWarning"):
                    failed.add(name_of(check))
    assert failed - set(reasons) == set(), "checks that fail without a reason"
    assert set(reasons) - failed == set(), "reasons for checks that pass"
