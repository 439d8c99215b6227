"""From the scores of all folds to one strength."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import clone

_SHOWN = 10  # neurons that a picture has lines for


class Chosen(NamedTuple):
    """What a search comes to; without an axis for neurons where there is one strength for all."""

    strength: Any
    index: Any
    score: Any
    results: dict
    messages: tuple[str, ...]


def joint(grid) -> np.ndarray:
    """Return mean scores over all neurons that every fit of a fold has, (strengths, folds, 1)."""
    known = np.isfinite(grid.score).all(axis=0) & (grid.weight > 0)
    weight = np.where(known, grid.weight, 0.0)
    total = np.sum(np.where(known, grid.score, 0.0) * weight, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / weight.sum(axis=-1))[..., None]


def scores_of(estimator, found, X, y, rows, splits, scorer, together: bool) -> np.ndarray:
    """Return the scores of all fits by a scorer, (strengths, folds, neurons or 1)."""
    if rows["sample_weight"] is not None and not (together and isinstance(scorer, str)):
        raise ValueError(
            "`sample_weight` works with the scores of this package for all neurons together: use the default "
            "`scoring`, or `per_neuron=False`."
        )
    grid, count = found.grid, 1 if together else found.layout.n_neurons
    scores = np.full((*grid.score.shape[:2], count), np.nan)
    for k, (_, test) in enumerate(splits):
        X_test, y_test = jax.tree.map(lambda leaf: _rows(leaf, test), X), _rows(y, test)  # noqa: B023
        more = {name: _rows(a, test) for name, a in rows.items() if a is not None}
        for s in range(len(scores)):
            if not np.isfinite(grid.intercept[s, k]).any():
                continue
            model = _fitted(estimator, found, y, s, k)
            scores[s, k] = _score(model, X_test, y_test, scorer, together, more)
    return scores


def _score(model, X, y, scorer, together: bool, more: dict):
    if not isinstance(scorer, str):
        return scorer(model, X, y)
    how = {} if together else {"aggregate_sample_scores": lambda each: jnp.mean(each, axis=0)}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # neurons without a fit, which are told of once
        return np.asarray(model.score(X, y, score_type=scorer, **how, **more))


def _rows(array, test):
    return array.iloc[test] if hasattr(array, "iloc") else np.asarray(array)[test]


def _fitted(estimator, found, y, strength: int, fold: int):
    """Return an estimator with the parameters of one fit."""
    grid, model = found.grid, clone(estimator)
    if found.layout.classifier:
        model.set_classes(y)
    model.coef_ = found.layout.tree(grid.coef[strength, fold])
    model.intercept_ = np.atleast_1d(grid.intercept[strength, fold])
    model.scale_ = grid.scale[strength, fold]
    return model


def chosen(found, scores, rule: str, together: bool) -> Chosen:
    """Choose a strength by the scores (strengths, folds, neurons or 1), strong ones first."""
    known = np.isfinite(scores).any(axis=0)
    count = known.sum(axis=0)
    scores = np.where(known & np.isnan(scores), -np.inf, scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(np.where(known, scores, 0.0), axis=1) / count
        off = np.where(known & np.isfinite(scores), scores - mean[:, None], 0.0)
        spread = np.sqrt(np.sum(off**2, axis=1) / count)
    some = count > 0
    rank = np.where(some, mean, -np.inf)
    index = rank.argmax(axis=0)  # of equal ones the first, which is the strongest
    if rule == "one_se":
        each = np.arange(len(index))
        error = spread[index, each] / np.sqrt(np.maximum(count - 1, 1))
        index = (rank >= rank[index, each] - error).argmax(axis=0)
    results = {
        "strength": found.strengths,
        "params": [{"regularizer_strength": found.argument(s)} for s in found.strengths],
        "mean_test_score": mean,
        "std_test_score": spread,
        "rank_test_score": _ranks(rank),
        "converged": _converged(found.grid, together),
    } | {f"split{k}_test_score": scores[:, k] for k in range(scores.shape[1])}
    strength = np.where(some, found.strengths[index], np.nan)
    score = mean[index, np.arange(len(index))]
    told = _messages(found, some, together)
    if not together:
        return Chosen(strength, index, score, results, told)
    results = {
        name: value[:, 0] if np.ndim(value) == 2 else value for name, value in results.items()
    }
    return Chosen(float(strength[0]), int(index[0]), float(score[0]), results, told)


def _ranks(mean) -> np.ndarray:
    """Return the places of scores (strengths, neurons), the best being the first; equal ones share one."""
    return 1 + np.sum(mean[None] > mean[:, None], axis=1)


def _converged(grid, together: bool) -> np.ndarray:
    """Return whether all fits at a strength have converged that were made, (strengths, neurons or 1)."""
    made = np.isfinite(grid.score)
    found = (grid.converged | ~made).all(axis=1)
    return found.all(axis=1, keepdims=True) if together else found


def _messages(found, some, together: bool) -> tuple[str, ...]:
    grid, named = found.grid, found.layout.named
    made, texts = np.isfinite(grid.intercept.reshape(*grid.score.shape, -1)).all(axis=-1), []
    late = (made & ~grid.converged).any(axis=(0, 1))
    if late.any():
        texts.append(
            f"{named(late)}: some fits did not converge, and their scores are those of where they ended. `cv_results_` "
            "says at which strengths; leave these out, or raise `maxiter` in `solver_kwargs`."
        )
    lost = ~made.any(axis=(0, 1)) if together else ~some
    if lost.any():
        texts.append(
            f"{named(lost)}: no fold could be fitted and scored (silent?), so that no strength was chosen; the "
            "strongest stands in."
        )
    return tuple(texts)


def plot(results: dict, best, names, ax=None):
    """Plot mean scores against strengths."""
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1] if ax is None else ax
    strengths = results["strength"]
    mean, spread = (
        np.reshape(results[f"{name}_test_score"], (len(strengths), -1)) for name in ("mean", "std")
    )
    n_folds = sum(name.startswith("split") for name in results)
    error, best = spread / np.sqrt(max(n_folds - 1, 1)), np.atleast_1d(best)
    for k in range(min(mean.shape[1], _SHOWN)):
        label = None if names is None else str(names[k])
        (line,) = ax.plot(strengths, mean[:, k], label=label)
        low, high = mean[:, k] - error[:, k], mean[:, k] + error[:, k]
        ax.fill_between(strengths, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.plot(strengths[best[k]], mean[best[k], k], "o", color=line.get_color())
    ax.set(xscale="log", xlabel="strength", ylabel="held-out score")
    if names is not None:
        ax.legend(title="neuron")
    return ax
