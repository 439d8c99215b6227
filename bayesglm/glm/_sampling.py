"""Sampling: from a problem to a posterior, and what that is made of."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.util import is_prng_key

from bayesglm import _families, _process, links, posterior
from bayesglm._input import is_one_of
from bayesglm._messages import Message
from bayesglm._progress import Share
from bayesglm._sampling import _propriety, _psis, _sampler, _target
from bayesglm.glm import _attach, _fitting, _lanes, _log_prior
from bayesglm.glm._edge import known
from bayesglm.glm._joint import check_counts, check_priors, weakly
from bayesglm.glm._problem import Problem
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit, Posterior

_log = logging.getLogger(__name__)

METHODS = ("nuts", "laplace")
# Nobody wants more, and NumPy has no larger arrays.
_MOST_DRAWS = 1 << 31


class Options(NamedTuple):
    """The arguments of `sample_posterior`."""

    method: str = "nuts"
    num_samples: int = 1000
    num_chains: int = 4
    num_warmup: int | None = None
    neuron_batch_size: int | None = None
    random_key: Any = None
    progress_bar: bool = True
    scale: str = "sample"
    prior: str | None = None
    scale_prior: Any = None
    intercept_prior: Any = None

    def checked(self, settings: Settings) -> Options:
        """Return the options with a typed key, or refuse them before anything is computed.

        Raises
        ------
        TypeError, ValueError
            If one is out of range.
        """
        _check_arguments(self, settings)
        check_priors(self.prior, self.scale_prior, self.intercept_prior)
        return self._replace(random_key=check_key(self.random_key))


def sample(problem: Problem, settings: Settings, options: Options) -> Posterior:
    """Return the fit of a problem and draws from the posterior of which it is the mode.

    Parameters
    ----------
    options
        Checked.

    Raises
    ------
    ValueError
        If the posterior is improper: the message names neurons or features.
    """
    started = time.perf_counter()
    with Share(shown=options.progress_bar) as progress:
        found = _sample(problem, settings, options, progress)
    found.attrs["sampling_time"] = time.perf_counter() - started
    _attach.seal(found.tree)
    return found


def _sample(problem: Problem, settings: Settings, options: Options, progress) -> Posterior:
    started, narrow, problem = time.perf_counter(), problem, _lanes.double(problem)
    check_counts(settings.observation_model, problem.rows.y, problem.rows.weight)
    weak = None
    if options.prior == "auto":
        problem, weak = weakly(problem)
    own = weak is not None or options.intercept_prior is not None
    if own and options.scale == "plugin" and _families.has_scale(problem.observation_model):
        raise ValueError("`scale='plugin'` goes with the priors of the fit; use `scale='sample'`.")
    run = _sampler.Options(
        options.method, options.num_samples, options.num_chains, options.num_warmup,
        options.neuron_batch_size, options.random_key, progress, None,
    )  # fmt: skip
    if weak is None:
        view = problem_view(problem, own)
        _propriety.check(view)
        run = run._replace(check=partial(_check_information, view, problem))
    if own and problem.scales is None:
        fit = _unfitted(problem, settings)
    else:
        fit = _fitting.fit(narrow, settings, bar=False)
    problem = known(problem, fit)
    priors = _lanes.priors_of(
        problem, options.scale, fit.scale, options.scale_prior, options.intercept_prior, weak
    )
    family, shared, lanes = _lanes.build(problem, priors, options.num_chains)
    start = _start(problem, family, fit, priors)
    sampled = _sampler.posteriors(family, shared, lanes, start, run)
    _log.info(
        "sampled %d neurons in %.3g s: %d chains of %d draws by %s, a median step size of %.3g, %d neurons again",
        problem.n_neurons, time.perf_counter() - started, options.num_chains, options.num_samples,
        options.method, _step_size(sampled), sampled.retried.sum(),
    )  # fmt: skip
    if own:
        progress.phase("mode")
        fit = _at_mode(problem, fit, _sampler.true_modes(family, shared, lanes, sampled, run))
    log_prior = _log_prior.at_draws(family, shared, lanes, sampled[:3])
    tree = _tree(problem, fit, sampled, options, priors, log_prior)
    message = _message(sampled, options, problem)
    told = (Message(RuntimeWarning, message),) * bool(message)
    return Posterior(fit, tree, fit.messages + told)


def _tree(problem: Problem, fit: Fit, sampled, options: Options, priors, log_prior):
    layout, rows = problem.layout, problem.rows
    warned = (m.text for m in fit.messages if issubclass(m.category, RuntimeWarning))
    attrs = {
        **_attach.settings(fit.settings),
        "prior": "penalty" if priors.weak is None else "auto",
        "n_train": np.atleast_1d(rows.n),
        "num_warmup": -1 if options.num_warmup is None else options.num_warmup,
        "random_key": np.asarray(jax.random.key_data(options.random_key)).astype(np.int64),
        "method": options.method,
        "step_size": _step_size(sampled),
        "resampled_neurons": np.flatnonzero(sampled.retried),
        "mixture_neurons": np.flatnonzero(sampled.mixture),
        "fit_warnings": "\n".join(warned),
    }
    whole = (rows.weight == 1.0).all()
    constant = {
        "sample_weight": None if whole else np.broadcast_to(rows.weight, rows.y.shape),
        "n_trials": rows.trials,
    }
    constant = {name: layout.squeeze(a) for name, a in constant.items() if a is not None}
    parameter = _families.parameter(problem.observation_model)
    if "scale" in log_prior:  # the density of what a user sees
        scale = np.exp(sampled.log_scale).reshape(log_prior["scale"].shape)
        log_prior[parameter.name] = log_prior.pop("scale") - parameter.log_slope(scale)
    return posterior.to_tree(
        sampled, layout.outputs, layout.n_neurons, layout.labels(), attrs, layout.squeeze(rows.y),
        constant, log_prior, parameter,
    )  # fmt: skip


def _check_arguments(options: Options, settings: Settings) -> None:
    """Refuse arguments out of range, before anything is computed."""
    if not is_one_of(options.method, METHODS):
        raise ValueError(f"`method` must be one of {METHODS}, but {options.method!r} was given.")
    least = {"num_samples": 4, "num_chains": 1, "num_warmup": 10, "neuron_batch_size": 1}
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is None and name in ("num_warmup", "neuron_batch_size"):
            continue
        integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not integer or not smallest <= value < _MOST_DRAWS:
            raise ValueError(
                f"`{name}` must be an integer of at least {smallest}, and less than 2**31, but {value!r} was given."
            )
    scale, prior = options.scale, options.prior
    if not is_one_of(scale, ("sample", "plugin")):
        raise ValueError(f"`scale` must be 'sample' or 'plugin', but {scale!r} was given.")
    if not is_one_of(prior, (None, "auto")):
        raise ValueError(f"`prior` must be None or 'auto', but {prior!r} was given.")
    if prior == "auto" and not settings.regularizer.flat:
        raise ValueError(
            f"`prior='auto'` is for UnRegularized models; {type(settings.regularizer).__name__} is a prior itself."
        )


def check_key(random_key):
    """Return a typed random key."""
    _process.check()
    if random_key is None:
        random_key = jax.random.key(0)
    try:
        if isinstance(random_key, (int, np.integer)) and not isinstance(random_key, bool):
            random_key = jax.random.key(int(random_key))  # which has 64 bits
        single = is_prng_key(random_key)
        if single and not jnp.issubdtype(random_key.dtype, jax.dtypes.prng_key):
            random_key = jax.random.wrap_key_data(random_key)
    except Exception:
        single = False
    if not single or random_key.ndim:
        raise TypeError(
            "`random_key` must be a JAX random key such as `jax.random.key(0)`, or an integer seed, but "
            f"{random_key!r} was given."
        )
    return random_key


def problem_view(problem: Problem, proper_intercept: bool) -> _propriety.View:
    """Return what decides whether the posterior is proper."""
    design = problem.rows.design
    n_neurons = problem.n_neurons
    by_neuron = (design.n_features, n_neurons, -1)
    intercept = problem.initial()[1].reshape(n_neurons, -1)
    # a class that never occurs has a very small, finite intercept
    if problem.n_classes is not None:
        intercept = np.where(np.ptp(intercept, axis=1, keepdims=True) > 30.0, -np.inf, intercept)
    unseen = np.zeros(n_neurons, bool)
    if problem.inverse_link is links.log_softmax and not problem.prior.zero_sum(problem.n_classes):
        unseen = problem.prior.unseen_shifts(n_neurons)
    return _propriety.View(
        problem.observation_model, problem.inverse_link, design.matrix,
        problem.rows.share, np.broadcast_to(problem.rows.weight, problem.rows.y.shape), problem.n_classes,
        problem.prior.unpenalised().reshape(by_neuron).any(axis=2), intercept, not proper_intercept,
        problem.layout.feature_labels, problem.layout.neuron_labels,
        [problem.prior.null_space(k, n_neurons) for k in range(n_neurons)], unseen,
    )  # fmt: skip


def _check_information(view, problem, spread) -> None:
    """Raise for neurons with a flat prior along a direction of which the responses say nothing."""
    spread = problem.layout.spread(spread)
    _propriety.check_information(view, np.where(view.is_flat, spread, 0.0))


def _start(problem: Problem, family, fit: Fit, priors):
    """Return coordinates where the search for the modes starts: the fit."""
    theta = fit.theta(problem.layout)
    u = _target.from_columns(family, theta[..., :-1], theta[..., -1])
    if not family.sampled:
        return u
    scale = np.asarray(fit.scale, float)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    scale = np.broadcast_to(scale, (problem.n_neurons,)).reshape(problem.n_lanes, -1)
    return np.concatenate([u, np.log(scale)], axis=1)


def _unfitted(problem: Problem, settings: Settings) -> Fit:
    """Return a start for posteriors that have a mode where the likelihood has none."""
    coef, intercept = problem.initial()
    intercept = np.clip(np.nan_to_num(intercept, nan=0.0, posinf=5.0, neginf=-5.0), -1e6, 1e6)
    model, scale = problem.observation_model, problem.dispersion
    if _families.has_free_scale(model):
        relative = _families.kind_of(model).relative_residual
        unit = np.abs(problem.rows.y.mean(axis=0)) if relative else 1.0
        scale = np.square(_lanes.spread(problem.rows) / unit)
    return Fit(problem.layout, settings, coef, np.atleast_1d(intercept), scale)


def _at_mode(problem: Problem, fit: Fit, found) -> Fit:
    """Return the mode that was found under priors that `fit` does not know."""
    theta = np.concatenate([found[0], found[1][..., None]], axis=-1)
    coef, intercept = problem.params(theta)
    scale = found[2].reshape(-1) if found[2].size else fit.scale
    return replace(fit, coef=coef, intercept=np.atleast_1d(intercept), scale=scale)


def _step_size(sampled) -> float:
    """Return the median over neurons of the step size; NaN where there was none."""
    return float(np.median(sampled.stats.get("step_size", np.nan)))


def _message(sampled, options: Options, problem: Problem) -> str:
    """Return what to warn of, or an empty string."""
    cases = []
    if sampled.khat is not None:
        bad = sampled.khat > _psis.good_k(options.num_samples * options.num_chains)
        cases.append(
            (
                bad,
                "the normal approximation is too far off (Pareto k-hat above 0.7). Use `method='nuts'`.",
            )
        )
    else:
        diverging = sampled.stats["diverging"].any(axis=(0, 1))
        cases.append((diverging, "divergent transitions remain: the draws may miss a part of the posterior. "
                      "Use a stronger penalty, or `prior='auto'`."))  # fmt: skip
        cases.append((~diverging & ~sampled.settled, "chains have not mixed (split R-hat above 1.05). "
                      "Raise `num_warmup` and `num_samples`."))  # fmt: skip
    layout = problem.layout
    return " ".join(
        f"{layout.named(layout.spread(bad))}: {text}" for bad, text in cases if bad.any()
    )
