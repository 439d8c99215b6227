"""Sampling the posterior behind the estimators' interface."""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.util import is_prng_key

from bayesglm import _process, observation_models, posterior
from bayesglm._design import feature_labels
from bayesglm._progress import Share
from bayesglm._sampling import _propriety, _psis, _sampler, _target
from bayesglm.glm import _attach, _lanes, _log_prior, _results
from bayesglm.glm._fitting import Fitting
from bayesglm.glm._joint import check_counts, check_priors, weakly
from bayesglm.glm._solve import listed
from bayesglm.regularizer import UnRegularized

_log = logging.getLogger(__name__)

METHODS = ("nuts", "laplace")


class Sampling(Fitting):
    """An estimator whose posterior can be sampled."""

    @property
    def posterior_(self):
        """Draws of :meth:`sample_posterior` as an `xarray.DataTree` in the ArviZ schema; None without.

        Draws that were written to a file can be set, as a tree or by the name of the file, beside the fit that they
        belong to; those of another model, and those that are not what their checksum says, are refused with a
        ValueError.
        """
        return self._posterior

    @posterior_.setter
    def posterior_(self, value):
        if value is not None:
            self._require_fit()
            value = _attach.checked(self, value)
        self._posterior = value

    def sample_posterior(
        self, X, y, *, method="nuts", num_samples=1000, num_chains=4, num_warmup=None,
        random_key=None, scale="sample", neuron_batch_size=None, progress_bar=True,
        sample_weight=None, offset=None, prior=None, scale_prior=None, intercept_prior=None,
    ):  # fmt: skip
        r"""Fit, and draw from the posterior of which the fit is the mode.

        The mode is that of coefficients and intercepts given the dispersion `scale_`. Under priors that `fit` does not
        know (an `intercept_prior`, or ``prior="auto"``) it is found anew, and `scale_` is then the posterior median of
        the dispersion, instead of the estimate from the residuals.

        Neurons are sampled side by side, in float64, each in coordinates in which the normal approximation at its mode
        is standard. Afterwards :attr:`posterior_`, :meth:`summary`, :meth:`predict_interval`, :meth:`loo` and the like
        are available until the next `fit`.

        Parameters
        ----------
        X, y
            As in :meth:`fit`; counts must be integers.
        method : "nuts" or "laplace"
            The no-U-turn sampler, or the normal approximation with importance resampling, whose Pareto k-hat says
            whether it can be trusted.
        num_samples, num_chains : int
            Draws of each chain, at least 4, and chains.
        num_warmup : int, optional
            Draws before that, which adapt the step size; by default 100, and 300 where a prior with a kink dominates.
        random_key : JAX random key or int, optional
            The same key or seed gives the same draws; by default that of seed 0.
        scale : "sample" or "plugin"
            Whether the dispersion (Gaussian variance, Gamma and NegativeBinomial dispersion) has a weak prior
            (:func:`bayesglm.model.default_scale_prior`) or is fixed at `scale_`.
        neuron_batch_size : int, optional
            Neurons sampled at once; by default as many as a gigabyte holds.
        progress_bar : bool
        sample_weight, offset
            As in :meth:`fit`. A weight raises the likelihood of a row to a power.
        prior : None or "auto"
            ``"auto"`` gives an UnRegularized model weakly informative priors in the units of the data: normal, for a
            coefficient with 2.5 times the ratio of the standard deviations of response (Gaussian; otherwise 1) and
            feature, for the predictor at the mean of the features with 2.5 times that of the response.
        scale_prior, intercept_prior : NumPyro distributions of one number, optional
            In place of the weak prior of the dispersion, and of the flat one of the intercepts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range, or the posterior is improper: the message names neurons or features.
        TypeError
            If `random_key` is not a key, or X has another structure than an earlier fit.

        Warns
        -----
        RuntimeWarning
            Naming the neurons whose draws are not to be trusted; and whatever `fit` warns of, which is also kept in the
            attribute `fit_warnings` of the posterior.

        References
        ----------
        Hoffman, Gelman (2014), The No-U-Turn Sampler. https://jmlr.org/papers/v15/hoffman14a.html
        Goodrich, Gabry, Ali, Brilleman (2020), rstanarm: default priors. https://mc-stan.org/rstanarm/articles/priors
        """
        _check_arguments(
            method, num_samples, num_chains, num_warmup, neuron_batch_size, scale, prior, self
        )
        check_priors(prior, intercept_prior)
        key, seed = check_key(random_key)
        previous, begin = self._encoder, time.perf_counter()
        with jax.enable_x64(True), Share(shown=progress_bar) as progress:
            options = _sampler.Options(
                method, num_samples, num_chains, num_warmup, neuron_batch_size, key, progress, None
            )
            try:
                self._encoder = self._new_encoder(y)
                found = self._sample(
                    X, y, options, scale, prior, scale_prior, intercept_prior, sample_weight, offset, seed,
                )  # fmt: skip
            except BaseException:
                self._encoder = previous
                raise
        fitted, tree, messages = found
        tree["posterior"].attrs["sampling_time"] = time.perf_counter() - begin
        _attach.seal(tree)
        self._keep(fitted)
        self._posterior = tree
        for category, message in messages:
            warnings.warn(message, category, stacklevel=2)
        return self

    def _sample(
        self, X, y, options, scale, prior, scale_prior, intercept_prior, sample_weight, offset, seed
    ):  # fmt: skip
        begin = time.perf_counter()
        rows = self._rows(X, y, self._encoder, sample_weight, offset)
        _check_structure(self, rows.design)
        check_counts(self.observation_model, rows.y, rows.weight)
        problem = _lanes.double(self._problem(rows))
        weak = None
        if prior == "auto":
            problem, weak = weakly(problem)
        own = weak is not None or intercept_prior is not None
        if own and scale == "plugin" and _lanes.has_dispersion(problem):
            raise ValueError(
                "`scale='plugin'` goes with the priors of the fit; use `scale='sample'`."
            )
        names = self._names_of(rows.design, y)
        labels = names.of_neurons(problem.n_neurons if self._population else None)
        view = problem_view(problem, own, labels)
        if weak is None:
            _propriety.check(view)
            options = options._replace(check=partial(_check_information, view, problem))
        with warnings.catch_warnings(record=True) as caught:  # told when the draws are kept
            warnings.simplefilter("always")
            if own:
                fitted = _unfitted(problem, rows)
            else:
                fitted = self._fit(X, y, None, sample_weight, offset, bar=False)
        messages = [(each.category, str(each.message)) for each in caught]
        priors = _lanes.priors_of(
            problem, scale, fitted["_scale"], scale_prior, intercept_prior, weak
        )
        family, shared, lanes = _lanes.build(problem, priors, options.num_chains)
        start = _start(problem, family, fitted, priors)
        sampled = _sampler.posteriors(family, shared, lanes, start, options)
        _log.info(
            "sampled %d neurons in %.3g s: %d chains of %d draws by %s, a median step size of %.3g, %d neurons again",
            problem.n_neurons, time.perf_counter() - begin, options.num_chains, options.num_samples,
            options.method, _step_size(sampled), sampled.retried.sum(),
        )  # fmt: skip
        if own:
            options.progress.phase("mode")
            found = _sampler.true_modes(family, shared, lanes, sampled, options)
            fitted |= _at_mode(problem, found, rows)
        log_prior = _log_prior.at_draws(family, shared, lanes, sampled[:3])
        fitted["_names"] = names
        tree = self._tree(problem, sampled, options, seed, priors, log_prior, names)
        told = "\n".join(text for kind, text in messages if issubclass(kind, RuntimeWarning))
        tree["posterior"].attrs["fit_warnings"] = told
        message = _message(sampled, options, problem, labels)
        return fitted, tree, messages + [(RuntimeWarning, message)] * bool(message)

    def _tree(self, problem, sampled, options, seed, priors, log_prior, names):
        design = problem.rows.design
        n_neurons = problem.n_neurons if self._population else None
        classes = self._encoder.classes_ if self._classifier else None
        names = _results.labels(design.structure, design.widths, names, n_neurons, classes)
        attrs = {
            **_attach.settings(self),
            "prior": "penalty" if priors.weak is None else "auto",
            "n_train": np.atleast_1d(problem.rows.n),
            "num_warmup": -1 if options.num_warmup is None else options.num_warmup,
            "random_key": seed,
            "method": options.method,
            "step_size": _step_size(sampled),
            "resampled_neurons": np.flatnonzero(sampled.retried),
            "mixture_neurons": np.flatnonzero(sampled.mixture),
        }
        rows = problem.rows
        given = rows.y, np.broadcast_to(rows.weight, rows.y.shape)
        given = given if self._population else (a[:, 0] for a in given)
        return posterior.to_tree(
            sampled, problem.outputs, problem.n_neurons, names, attrs, *given, log_prior
        )


def _check_arguments(method, samples, chains, warmup, batch, scale, prior, estimator) -> None:
    """Refuse arguments out of range, before anything is computed."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}, but {method!r} was given.")
    counts = (("num_samples", samples, 4), ("num_chains", chains, 1), ("num_warmup", warmup, 10),
              ("neuron_batch_size", batch, 1))  # fmt: skip
    for name, value, least in counts:
        if value is None and name in ("num_warmup", "neuron_batch_size"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}, but {value!r} was given."
            )
    if scale not in ("sample", "plugin"):
        raise ValueError(f"`scale` must be 'sample' or 'plugin', but {scale!r} was given.")
    if prior not in (None, "auto"):
        raise ValueError(f"`prior` must be None or 'auto', but {prior!r} was given.")
    if prior == "auto" and not isinstance(estimator.regularizer, UnRegularized):
        raise ValueError(
            f"`prior='auto'` is for UnRegularized models; {type(estimator.regularizer).__name__} is a prior itself."
        )


def check_key(random_key):
    """Return a typed random key and the numbers that stand for it."""
    _process.check()
    if random_key is None:
        random_key = jax.random.key(0)
    if isinstance(random_key, (int, np.integer)) and not isinstance(random_key, bool):
        random_key = jax.random.key(int(random_key))
    try:
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
    return random_key, np.asarray(jax.random.key_data(random_key)).astype(np.int64)


def _check_structure(estimator, design) -> None:
    if estimator._coef is None:
        return
    structure, widths, _ = estimator._coef
    if structure != design.structure or widths != design.widths:
        raise TypeError(
            f"X has the structure {design.structure} with {design.widths} features, but this estimator was fitted to "
            f"{structure} with {widths}. Use a new estimator or `sklearn.base.clone`."
        )


def problem_view(problem, proper_intercept: bool, labels) -> _propriety.View:
    """Return what decides whether the posterior is proper."""
    design = problem.rows.design
    n_neurons = problem.n_neurons
    by_neuron = (design.n_features, problem.n_neurons, -1)
    intercept = problem.initial()[1].reshape(problem.n_neurons, -1)
    if (
        problem.n_classes is not None
    ):  # a class that never occurs has a very small, finite intercept
        intercept = np.where(np.ptp(intercept, axis=1, keepdims=True) > 30.0, -np.inf, intercept)
    return _propriety.View(
        problem.observation_model, problem.inverse_link, design.matrix,
        np.broadcast_to(problem.rows.weight, problem.rows.y.shape),
        problem.prior.unpenalised().reshape(by_neuron).any(axis=2), intercept, not proper_intercept,
        feature_labels(design.structure, design.widths, design.names), labels,
        [problem.prior.null_space(k, n_neurons) for k in range(n_neurons)],
    )  # fmt: skip


def _check_information(view, problem, spread) -> None:
    """Raise for neurons with a flat prior along a direction of which the responses say nothing."""
    spread = np.repeat(spread, problem.n_neurons // problem.n_lanes)
    _propriety.check_information(view, np.where(view.is_flat, spread, 0.0))


def _start(problem, family, fitted, priors):
    """Return coordinates where the search for the modes starts: the fit."""
    coef, intercept = fitted["_coef"][2], fitted["_intercept"]
    theta = problem.theta(np.nan_to_num(coef), np.nan_to_num(intercept))
    u = _target.from_columns(family, theta[..., :-1], theta[..., -1])
    if not family.sampled:
        return u
    scale = np.asarray(fitted["_scale"], float)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    scale = np.broadcast_to(scale, (problem.n_neurons,)).reshape(problem.n_lanes, -1)
    return np.concatenate([u, np.log(scale)], axis=1)


def _unfitted(problem, rows) -> dict[str, Any]:
    """Return a start for posteriors that have a mode where the likelihood has none."""
    coef, intercept = problem.initial()
    intercept = np.clip(np.nan_to_num(intercept, nan=0.0, posinf=5.0, neginf=-5.0), -1e6, 1e6)
    model = problem.observation_model
    scale = problem.dispersion
    if getattr(model, "has_scale", False):
        relative = isinstance(model, observation_models.GammaObservations)
        unit = np.abs(problem.rows.y.mean(axis=0)) if relative else 1.0
        scale = np.square(_lanes.spread(problem.rows) / unit)
    return {"_coef": (rows.design.structure, rows.design.widths, coef),
            "_intercept": np.atleast_1d(intercept), "_scale": scale, "_dof_resid": None}  # fmt: skip


def _at_mode(problem, found, rows) -> dict[str, Any]:
    """Return the mode that was found under priors that `fit` does not know."""
    coef, intercept = problem.params(np.concatenate([found[0], found[1][..., None]], axis=-1))
    fitted = {"_coef": (rows.design.structure, rows.design.widths, coef),
              "_intercept": np.atleast_1d(intercept)}  # fmt: skip
    if found[2].size:
        fitted["_scale"] = found[2].reshape(-1)
    return fitted


def _step_size(sampled) -> float:
    """Return the median over neurons of the step size; NaN where there was none."""
    return float(np.median(sampled.stats.get("step_size", np.nan)))


def _message(sampled, options, problem, labels) -> str:
    """Return what to warn of, or an empty string; labels of neurons are None for a single model."""
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
    per_lane = problem.n_neurons // problem.n_lanes

    def name(bad):
        which = np.flatnonzero(np.repeat(bad, per_lane))
        return "The model" if labels is None else f"Neurons {listed(which, labels)}"

    return " ".join(f"{name(bad)}: {text}" for bad, text in cases if bad.any())
