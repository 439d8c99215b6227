"""A search over strengths with scikit-learn's interface."""

from __future__ import annotations

import numbers

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from bayesglm import glm, labels
from bayesglm._input import is_one_of, require_y, to_labels
from bayesglm._messages import Message, tell
from bayesglm.model_selection import _choice
from bayesglm.observation_models import SCORE_TYPES

RULES = ("best", "one_se")


def _refitted(search) -> bool:
    if not search.refit:
        raise AttributeError("There is no `best_estimator_` with `refit=False`.")
    return True


class StrengthSearchCV(MetaEstimatorMixin, BaseEstimator):
    """Cross-validated strength of the penalty, of each neuron its own.

    All folds, strengths and neurons are fitted side by side in one solve, from strong to weak, so that a search costs
    about as much as a few dozen fits where scikit-learn's ``GridSearchCV`` makes hundreds. It differs from that also in
    that a fold is left out by weights of zero, which comes to the same.

    Parameters
    ----------
    estimator : GLM, PopulationGLM, ClassifierGLM or ClassifierPopulationGLM
        With its penalty. Of ElasticNet the strength is searched for, and the ratio kept.
    strengths : array (strengths,), optional
        Positive numbers. By default 20: for a penalty with kinks, from that at which all coefficients vanish down to a
        ten-thousandth of it (a hundredth, if there are fewer rows than features); for Ridge, from ten times the
        curvature of the data down to a tenth of that of a single row.
    cv : int, splitter or iterable
        As in scikit-learn; tests must not overlap. For a number, folds are contiguous, and stratified for the labels
        of one subject. :class:`BlockedKFold` has gaps.
    scoring : str or callable, optional
        ``"log-likelihood"``, the mean over held-out responses, by default; ``"pseudo-r2-McFadden"`` or
        ``"pseudo-r2-Cohen"``; or a scorer of scikit-learn, which gives one number for all neurons.
    rule : str
        ``"best"``, or ``"one_se"``: the greatest strength whose score is within a standard error (over the folds) of
        the best.
    per_neuron : bool
        Whether each neuron of a population has its own strength.
    refit : bool
        Whether to fit all rows with what was chosen.

    Attributes
    ----------
    best_strength_ : float, or array (neurons,)
        NaN for a neuron that could be fitted to no fold.
    best_estimator_
        Fitted to all rows, with `refit`.
    best_index_, best_score_ : int and float, or arrays (neurons,)
        Its place in `cv_results_`, and its mean score.
    cv_results_ : dict of arrays
        `strength` (strengths,), from strong to weak; `mean_test_score`, `std_test_score`, `rank_test_score`,
        `converged` and `split0_test_score` and so on, (strengths,), with `per_neuron` (strengths, neurons). Folds to
        which a neuron cannot be fitted at any strength are NaN, and not part of its mean.
    n_splits_ : int
        Number of folds.

    References
    ----------
    Friedman, Hastie, Tibshirani (2010), paths and warm starts. doi:10.18637/jss.v033.i01
    Breiman et al. (1984), Classification and Regression Trees, section 3.4.3, for the rule of one standard error.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = rng.poisson(np.exp(X[:, :1] * [0.5, 0.0]))
    >>> model = nmo.glm.PopulationGLM(regularizer="Lasso", regularizer_strength=0.1)
    >>> search = nmo.model_selection.StrengthSearchCV(model).fit(X, y)
    >>> search.best_strength_.shape
    (2,)
    """

    def __init__(
        self, estimator, strengths=None, cv=5, scoring=None, rule="best", per_neuron=True, refit=True
    ):  # fmt: skip
        self.estimator = estimator
        self.strengths = strengths
        self.cv = cv
        self.scoring = scoring
        self.rule = rule
        self.per_neuron = per_neuron
        self.refit = refit

    def fit(self, X, y, *, groups=None, sample_weight=None, offset=None):
        """Search, and fit all rows with the strengths that were chosen.

        Parameters
        ----------
        X, y, sample_weight, offset
            As in :meth:`bayesglm.glm.GLM.fit`; weights count in scores too.
        groups : array (samples,), optional
            For splitters that keep groups together.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used: before anything is computed.

        Warns
        -----
        RuntimeWarning
            Naming neurons of which some fits have not converged, or none could be made.
        """
        strengths, scorer = self._checked()
        splits = self._splits(X, y, groups)
        model = clone(self.estimator)
        rows = {"sample_weight": sample_weight, "offset": offset}
        found = model.__strength_search__(X, y, strengths, splits, *rows.values())
        together = not (self.per_neuron and found.layout.population)
        if self.scoring in (None, SCORE_TYPES[0]):
            scores = _choice.joint(found.grid) if together else found.grid.score
        else:
            how = splits, scorer, together
            scores = _choice.scores_of(self.estimator, found, X, y, rows, *how)
        chosen = _choice.chosen(found, scores, self.rule, together)
        told = chosen.messages
        if self.refit:
            strength = np.where(np.isnan(chosen.strength), found.strengths[0], chosen.strength)
            model.set_params(regularizer_strength=found.argument(strength))
            model.fit(X, y, **{k: v for k, v in rows.items() if v is not None})
        tell(Message(RuntimeWarning, text) for text in told)
        self.best_strength_, self.best_index_ = chosen.strength, chosen.index
        self.best_score_, self.cv_results_ = chosen.score, chosen.results
        self.n_splits_ = len(splits)
        self._labels = None if together else found.layout.neuron_labels
        self.__dict__.pop("best_estimator_", None)
        if self.refit:
            self.best_estimator_ = model
        return self

    def _checked(self):
        """Return the strengths, and what scores a fit; raise if an argument cannot be used."""
        kinds = glm.GLM, glm.ClassifierGLM
        if not isinstance(self.estimator, kinds):
            raise TypeError(
                f"`estimator` must be one of `bayesglm.glm`, but {type(self.estimator).__name__} was given. For a "
                "pipeline or another estimator, use scikit-learn's `GridSearchCV`."
            )
        if not is_one_of(self.rule, RULES):
            raise ValueError(f"`rule` must be one of {RULES}, but {self.rule!r} was given.")
        for name in ("per_neuron", "refit"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(
                    f"`{name}` must be True or False, but {getattr(self, name)!r} was given."
                )
        return _checked_strengths(self.strengths), self._scorer()

    def _scorer(self):
        if self.scoring is None or is_one_of(self.scoring, SCORE_TYPES):
            return self.scoring or SCORE_TYPES[0]
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        if not callable(scorer):
            raise TypeError(
                f"`scoring` must be one of {SCORE_TYPES}, the name of a scorer of scikit-learn, or a function "
                f"(estimator, X, y), but {self.scoring!r} was given."
            )
        population = isinstance(self.estimator, glm.PopulationGLM)
        if population and self.per_neuron:
            raise ValueError(
                f"`scoring={self.scoring!r}` gives one number for all neurons, which chooses one strength for all: set "
                f"`per_neuron=False`, or use one of {SCORE_TYPES}."
            )
        return scorer

    def _splits(self, X, y, groups) -> list:
        """Return the rows that train and test in each fold."""
        require_y(y)
        if np.ndim(y) == 0:
            raise ValueError(f"`y` must have a response for each row, but {y!r} was given.")
        n_samples = len(y)
        classifier = isinstance(self.estimator, glm.ClassifierGLM)
        target = np.asarray(y)
        if classifier and target.ndim == 1:
            classes = labels.classes_of(to_labels(y), self.estimator.n_classes)
            target = np.maximum(
                labels.encode(classes, to_labels(y)), 0
            )  # a missing label counts as any
        cv = 5 if self.cv is None else self.cv
        if isinstance(cv, numbers.Integral) and not 2 <= cv <= n_samples:
            raise ValueError(
                f"`cv={cv}` folds need 2 to {n_samples}, the number of rows. Use fewer folds."
            )
        splitter = check_cv(cv, target, classifier=classifier)
        return list(splitter.split(np.zeros((n_samples, 1)), target, groups))

    # -- what follows from the best estimator --------------------------------------------------------

    def _best(self):
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    @available_if(_refitted)
    def predict(self, X, *args, **kwargs):
        """Predict with the best estimator; arguments as there."""
        return self._best().predict(X, *args, **kwargs)

    @available_if(lambda self: _refitted(self) and hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X, *args, **kwargs):
        """Return class probabilities of the best estimator; arguments as there."""
        return self._best().predict_proba(X, *args, **kwargs)

    @available_if(_refitted)
    def simulate(self, random_key, feedforward_input, **kwargs):
        """Draw responses of the best estimator; arguments as there."""
        return self._best().simulate(random_key, feedforward_input, **kwargs)

    @available_if(_refitted)
    def score(self, X, y, **kwargs):
        """Return the score of the best estimator by `scoring`."""
        scorer, best = self._scorer(), self._best()
        if isinstance(scorer, str):
            return best.score(X, y, **{"score_type": scorer, **kwargs})
        return scorer(best, X, y, **kwargs)

    @property
    def classes_(self):
        """Class labels of the best estimator."""
        return self._best().classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        return self._best().n_features_in_

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), self.estimator.__sklearn_tags__()
        tags.estimator_type, tags.input_tags = inner.estimator_type, inner.input_tags
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags = inner.target_tags
        return tags

    def plot(self, ax=None):
        """Plot mean scores, with a standard error over the folds, against the strength; circles where it was chosen.

        Parameters
        ----------
        ax : matplotlib axes, optional

        Returns
        -------
        : matplotlib axes
        """
        check_is_fitted(self)
        return _choice.plot(self.cv_results_, self.best_index_, self._labels, ax)


def _checked_strengths(strengths) -> np.ndarray | None:
    if strengths is None:
        return None
    try:
        found = np.asarray(strengths, float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`strengths` must be numbers, but {strengths!r} was given.") from error
    good = found.ndim == 1 and found.size and np.isfinite(found).all() and (found > 0).all()
    if not good or len(np.unique(found)) < found.size:
        raise ValueError(
            "`strengths` must be a list of different positive numbers (of ElasticNet the strength alone, the ratio is "
            f"the estimator's), but {strengths!r} was given."
        )
    return found
