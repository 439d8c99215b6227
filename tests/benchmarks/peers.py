"""Who is timed: the package and its peers, each told the same objective in its own words.

Strengths differ by convention: scikit-learn's Poisson, glum, skglm and statsmodels penalise the mean loss as we do
(half a unit deviance is the Poisson loss up to a constant); scikit-learn's logistic regression multiplies the summed
loss by ``C = 1 / (n strength)``. That they agree is checked at every run, as gaps are those of one common objective.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def _half_decades(first, last):
    return tuple(10.0 ** (k / 2) for k in range(2 * first, 2 * last - 1, -1))


@dataclass(frozen=True)
class Entry:
    """One way to fit.

    Parameters
    ----------
    package
        Name under which it is imported.
    fit : function (problem, tolerance) -> fitted models
        What is timed.
    params : function (models) -> coefficients (features, columns), intercepts (columns,)
    looped
        Whether responses are fitted one by one.
    ladder
        Tolerances from loose to tight.
    kinds
        Penalties that it can do, or ``"softmax"``.
    """

    label: str
    package: str
    fit: Callable
    params: Callable
    looped: bool
    ladder: tuple
    kinds: tuple

    @property
    def installed(self) -> bool:
        """Whether the package can be imported; one without a name here lives elsewhere."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def can(self, problem) -> bool:
        """Whether it can fit the problem."""
        return ("softmax" if problem.n_classes else problem.penalty) in self.kinds


def our_model(problem, solver=None, **solver_kwargs):
    """Return our estimator for a problem, not fitted."""
    import bayesglm as nmo

    regularizer = problem.penalty
    if problem.groups:
        mask = np.zeros((len(problem.groups), problem.X.shape[1]))
        for row, group in zip(mask, problem.groups, strict=True):
            row[group] = 1
        regularizer = nmo.regularizer.GroupLasso(mask=mask)
    settings = {
        "regularizer": regularizer,
        "regularizer_strength": problem.strength,
        "solver_name": solver,
        "solver_kwargs": solver_kwargs,
    }
    if problem.n_classes:
        return nmo.glm.ClassifierGLM(problem.n_classes, **settings)
    kind = nmo.glm.GLM if problem.n_responses == 1 else nmo.glm.PopulationGLM
    return kind(**settings)


def our_fit(problem, tol, solver=None):
    """Fit with a tolerance in standard errors, or None for the default."""
    import jax

    model = our_model(problem, solver, **({} if tol is None else {"tol": tol}))
    one = problem.n_classes or problem.n_responses == 1
    model.fit(problem.X, problem.columns[0] if one else problem.y)
    jax.block_until_ready((model.coef_, model.intercept_))
    return model


def our_params(model):
    """Return the parameters in the precision that they were computed in."""
    import jax

    with jax.enable_x64(True):
        coef, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    return coef.reshape(len(coef), -1), intercept.ravel()


def _looped(make):
    """Fit one estimator for each response."""

    def fit(problem, tol):
        return [make(problem, tol).fit(problem.X, y) for y in problem.columns]

    return fit


def _linear_params(models):
    coef = np.concatenate([np.atleast_2d(model.coef_) for model in models])
    return coef.T, np.concatenate([np.atleast_1d(model.intercept_) for model in models])


def _sklearn(solver):
    def make(problem, tol):
        from sklearn.linear_model import PoissonRegressor

        return PoissonRegressor(alpha=problem.strength, solver=solver, tol=tol, max_iter=10000)

    return make


def _sklearn_logistic(problem, tol):
    from sklearn.linear_model import LogisticRegression

    strength = 1.0 / (len(problem.y) * problem.strength)
    return LogisticRegression(C=strength, tol=tol, max_iter=10000)


def _glum(problem, tol):
    from glum import GeneralizedLinearRegressor

    ratio = float(problem.penalty == "Lasso")
    return GeneralizedLinearRegressor(
        alpha=problem.strength, l1_ratio=ratio, family="poisson", gradient_tol=tol, max_iter=1000
    )


def _skglm(problem, tol):
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Poisson
    from skglm.penalties import L1
    from skglm.solvers import ProxNewton

    solver = ProxNewton(tol=tol, max_iter=100, fit_intercept=True)
    return GeneralizedLinearEstimator(Poisson(), L1(problem.strength), solver)


def _skglm_group(problem, tol):
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits.group import PoissonGroup
    from skglm.penalties import WeightedGroupL2
    from skglm.solvers import GroupProxNewton

    sizes = [len(group) for group in problem.groups]
    pointers = np.cumsum([0, *sizes]).astype(np.int32)
    indices = np.concatenate(problem.groups).astype(np.int32)
    penalty = WeightedGroupL2(problem.strength, np.sqrt(sizes), pointers, indices)
    solver = GroupProxNewton(tol=tol, max_iter=100, fit_intercept=True)
    return GeneralizedLinearEstimator(PoissonGroup(pointers, indices), penalty, solver)


def _skglm_fit(problem, tol):
    make = _skglm_group if problem.groups else _skglm
    return _looped(make)(problem, tol)


def _statsmodels_fit(problem, tol):
    import statsmodels.api as sm

    design = sm.add_constant(problem.X, has_constant="add")
    alpha = np.append(0.0, np.full(problem.X.shape[1], problem.strength))
    ratio = float(problem.penalty == "Lasso")
    arguments = {"alpha": alpha, "L1_wt": ratio, "cnvrg_tol": tol, "maxiter": 1000}
    family = sm.families.Poisson()
    return [sm.GLM(y, design, family).fit_regularized(**arguments) for y in problem.columns]


def _statsmodels_params(models):
    params = np.stack([model.params for model in models], axis=1)
    return params[1:], params[0]


SMOOTH, KINKED = ("Ridge", "softmax"), ("Lasso", "GroupLasso")
TOLERANCES = _half_decades(-1, -14)
OURS = "bayesglm"


def _own_solver(name, kinds):
    def fit(problem, tol):
        return our_fit(problem, tol, name)

    return Entry(f"{OURS} {name}", OURS, fit, our_params, False, _half_decades(0, -7), kinds)


ENTRIES = (
    Entry(OURS, OURS, our_fit, our_params, False, _half_decades(0, -7), SMOOTH + KINKED),
    Entry(f"{OURS}, default tol", OURS, our_fit, our_params, False, (None,), SMOOTH + KINKED),
    _own_solver("Newton", SMOOTH),
    _own_solver("ProxNewton", KINKED),
    *(
        Entry(
            f"sklearn {solver}",
            "sklearn",
            _looped(_sklearn(solver)),
            _linear_params,
            True,
            TOLERANCES,
            ("Ridge",),
        )  # fmt: skip
        for solver in ("lbfgs", "newton-cholesky")
    ),
    Entry(
        "sklearn logistic",
        "sklearn",
        _looped(_sklearn_logistic),
        lambda models: (models[0].coef_.T, models[0].intercept_),
        True,
        TOLERANCES,
        ("softmax",),
    ),  # fmt: skip
    Entry(
        "glum", "glum", _looped(_glum), _linear_params, True, TOLERANCES, ("Ridge", "Lasso")
    ),  # fmt: skip
    Entry("skglm", "skglm", _skglm_fit, _linear_params, True, TOLERANCES, KINKED),
    Entry(
        "statsmodels",
        "statsmodels",
        _statsmodels_fit,
        _statsmodels_params,
        True,
        TOLERANCES,
        ("Ridge", "Lasso"),
    ),  # fmt: skip
)


def known_solvers() -> list[str]:
    """Return the names of the solvers of the package."""
    from bayesglm import solvers

    return solvers.list_available_algorithms()


def entries_for(problem, names=None) -> list[Entry]:
    """Return the entries that can fit a problem, ours first; of peers only those named."""
    found = [entry for entry in ENTRIES if entry.can(problem)]
    own = [e for e in found if e.package == OURS and _is_known(e.label)]
    peers = [e for e in found if e.package != OURS and (names is None or e.label in names)]
    return own + peers


def _is_known(label) -> bool:
    solver = label.removeprefix(OURS).strip()
    return not solver or solver.startswith(",") or solver in known_solvers()
