"""The diagnostics report of an estimator: evidence gathered here, judged in :mod:`bayesglm.diagnostics`."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _residuals, diagnostics, links, posterior
from bayesglm._sampling import _curvature, _laplace
from bayesglm.diagnostics import Curvature, Evidence, Facts, Loo, Replicates, Responses
from bayesglm.glm import _lanes, _results
from bayesglm.glm._configuration import of_fit
from bayesglm.glm._joint import weakly
from bayesglm.glm._predictive import Predictive
from bayesglm.glm._problem import check_offset

_PACKAGES = ("bayesglm", "jax", "numpyro", "numpy", "arviz-base", "arviz-stats", "arviz-plots")
# Cells of replicated data, their draws, and numbers in the matrices of the curvature that are worth the while.
_REPLICATED_CELLS, _MOST_DRAWS, _LEAST_DRAWS = 8_000_000, 100, 20
_CURVATURE_NUMBERS = 100_000_000
# Of the intervals of the parameters.
_PROB = 0.94


class Reporting(Predictive):
    """An estimator that says whether it can be trusted."""

    @of_fit
    def report(
        self, X=None, y=None, *, sample_weight=None, offset=None, loo=True, time=None, trials=None
    ):
        """Check the fit, and the posterior draws where there are any.

        Without data the report is about the solver, or the sampler. With the training data it also looks at
        collinearity, separation, dispersion, calibration, curves and residuals, and, after :meth:`sample_posterior`, at
        leave-one-out prediction, replicated data and the weight of the prior. Checks that read the order of rows are
        made only where rows are said to be a time series.

        Parameters
        ----------
        X, y : optional
            The training data.
        sample_weight, offset
            As in :meth:`fit`.
        loo : bool
            Whether to make the checks that need leave-one-out: for long data and many draws they take most of the time.
        time : True or array (samples,), optional
            True: rows are in order of time, equally spaced. An array: their times, by which they are sorted; a step of
            more than 1.5 times the median one is a gap. False: not in order, whatever the time index of a pynapple
            object says, which counts by default.
        trials : array (samples,), optional
            Label of the trial of each row, of any kind; without `time`, rows are in order of time. No check reads on
            across the end of a trial. By default the epochs of a pynapple time support, where these are several.

        Returns
        -------
        : bayesglm.diagnostics.DiagnosticsReport

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If only one of X and y is given, or they are not the data that were sampled; if `time` or `trials` do not
            fit the rows.

        Examples
        --------
        >>> import numpy as np
        >>> import bayesglm as nmo
        >>> rng = np.random.default_rng(1)
        >>> X = rng.normal(size=(500, 2))
        >>> y = rng.poisson(np.exp(X @ [0.5, -0.5]))
        >>> report = nmo.glm.GLM().fit(X, y).report(X, y)
        >>> report.verdict
        'OK'
        """
        self._require_fit()
        self._require_classes("report")
        if (X is None) != (y is None):
            raise ValueError(
                f"`report` needs both X and y, or neither, but {'y' if y is None else 'X'} is missing."
            )
        order = None
        if X is not None:
            order = diagnostics.order_of(
                time, trials, (*np.shape(y), 0)[0], (y, X, *jax.tree.leaves(X))
            )
        elif time is not None or trials is not None:
            raise ValueError("`time` and `trials` are about rows: pass X and y.")
        return diagnostics.DiagnosticsReport(
            self._evidence(X, y, sample_weight, offset, loo, order)
        )

    def _evidence(self, X, y, sample_weight, offset, loo: bool, order) -> Evidence:
        n_neurons = self._coef[2].shape[1] if self._population else 1
        both = np.concatenate([self._coef[2], self._intercept.reshape(1, *self._coef[2].shape[1:])])
        finite = np.isfinite(both.reshape(len(both), n_neurons, -1)).all(axis=(0, 2))
        state = None if self._edited else self.solver_state_  # parameters set by hand have none
        by_neuron = lambda name: _of_state(state, name, n_neurons)  # noqa: E731
        found: dict[str, Any] = {
            "labels": np.array(self._labels()["neuron"]) if self._population else None,
            "settings": self._settings(), "finite": finite, "tree": self._posterior,
            "converged": by_neuron("converged"), "distance": by_neuron("distance"),
            "separated": by_neuron("separated"),
        }  # fmt: skip
        if X is not None:
            with jax.enable_x64(True):
                self._fitted(X)
                self._check_neuron_names(y)
                rows = self._rows(X, y, self._encoder, sample_weight, offset)
                problem = _lanes.double(self._problem(rows))
                self._check_sampled(problem)
                found["responses"] = self._responses(problem, offset, order)
                found["curvature"] = self._curvature(problem, found["responses"].scale)
            found["settings"]["rows"] = int((rows.weight > 0).any(axis=1).sum())
            found["settings"]["rows left out"] = int((~(rows.weight > 0).any(axis=1)).sum())
            if rows.missing is not None:
                found["settings"]["left out"] = rows.left_out(found["labels"])
            found["settings"]["order of rows"] = (
                order.words if order else "not said to be a time series"
            )
            if order and order.trial is not None:
                found["settings"]["trials"] = int(np.unique(order.trial).size)
        if self._posterior is not None:
            found["convergence"] = posterior.convergences(self._posterior)
            found["estimates"] = self._table(_PROB, found["convergence"])
        elif X is not None:
            found["estimates"] = self.summary(X, y, sample_weight=sample_weight, offset=offset)
        if X is not None and self._posterior is not None:
            found["replicates"] = self._replicates(X, offset, problem)
            if loo:
                found["loo"] = self._leave_one_out(X, y, sample_weight, offset, n_neurons)
        return Evidence(facts=self._facts(found.get("responses")), **found)

    def _facts(self, found: Responses | None) -> Facts:
        """Return what remedies depend on."""
        attrs = {} if self._posterior is None else self._posterior["posterior"].attrs
        sampled = self._posterior is not None and "scale" in self._posterior["posterior"]
        seen = {} if found is None else {
            "positive": bool((found.y > 0).all(where=found.weight > 0)),
            "spikes": found.order is not None and not found.classes
            and bool(_residuals.is_spike_train(found.model, found.y, found.weight).any()),
            "trials": found.order is not None and found.order.trial is not None,
        }  # fmt: skip
        return Facts(
            self.observation_model, links.inverse_link_name(self.inverse_link_function),
            self.regularizer_strength is not None, self._population, str(attrs.get("prior", "")),
            "sample" if sampled else "", **seen,
        )  # fmt: skip

    def _check_sampled(self, problem) -> None:
        """Raise if responses are not those that were sampled."""
        if self._posterior is None:
            return
        sampled = self._posterior["observed_data"]["y"].values
        now = problem.rows.y if self._population else problem.rows.y[:, 0]
        if sampled.shape != now.shape or not np.array_equal(sampled, now):
            other = (
                "has other values"
                if sampled.shape == now.shape
                else f"has shape {now.shape}, not {sampled.shape}"
            )
            raise ValueError(
                f"X and y are not the data that were sampled: `y` {other}. Pass the data of `sample_posterior`."
            )

    def _settings(self) -> dict[str, Any]:
        strength = self.regularizer_strength
        small = strength is None or isinstance(strength, (float, tuple))
        found = {
            "model": type(self).__name__,
            "observation model": repr(self.observation_model),
            "inverse link": links.inverse_link_name(self.inverse_link_function),
            "regularizer": repr(self.regularizer),
            "regularizer strength": strength if small else "one for each coefficient",
            "solver": self.solver_name,
            "features": len(self._coef[2]),
            "outputs": list(self._coef[2].shape[1:]),
            "versions": {name: _version(name) for name in _PACKAGES},
            "device": str(jax.devices()[0].platform),
        }
        if self._classifier:
            found["classes"] = [str(label) for label in self._encoder.classes_]
        if self.solver_state_ is not None:
            found["solver steps"] = int(getattr(self.solver_state_, "iter_num", 0))
        if self._posterior is not None:
            draws = self._posterior["posterior"]
            found |= {"chains": draws.sizes["chain"], "draws of each chain": draws.sizes["draw"]}
            keys = ("method", "prior", "num_warmup", "random_key", "step_size", "sampling_time")
            found |= {k.replace("_", " "): _plain(draws.attrs[k]) for k in keys if k in draws.attrs}
            if found.get("num warmup") == -1:
                found["num warmup"] = "default"
            if "sampling time" in found:
                found["sampling time"] = f"{found['sampling time']:.1f} s, compiling included"
            for name in ("resampled_neurons", "mixture_neurons"):
                found[name.replace("_", " ")] = int(np.size(draws.attrs.get(name, ())))
        return found

    def _responses(self, problem, offset, order) -> Responses:
        rows, model = problem.rows, self.observation_model
        n_neurons = problem.n_neurons
        coef, intercept = self._centre(problem)
        eta, mean, slope = self._predicted(rows.design.matrix, coef, intercept, offset)
        scale = _results.dispersion(model, self._scale)
        if self._posterior is not None and "scale" in self._posterior["posterior"]:
            scale = self._posterior["posterior"]["scale"].mean(("chain", "draw")).values
        scale = np.broadcast_to(np.asarray(scale, float).ravel(), (n_neurons,))
        y = rows.y if self._population else rows.y[:, 0]
        weight = np.broadcast_to(rows.weight, rows.y.shape)
        own = weight if self._population else weight[:, 0]
        by_neuron = lambda s: jnp.sum(jnp.where(own > 0, own * s, 0.0), axis=0) / own.sum(axis=0)  # noqa: E731
        scores = [
            np.atleast_1d(np.asarray(_results.score_with(
                model, jnp.asarray(y), jnp.asarray(mean), own, jnp.asarray(scale if self._population else scale[0]),
                kind, by_neuron,
            )))
            for kind in ("pseudo-r2-McFadden", "pseudo-r2-Cohen")
        ]  # fmt: skip
        dof = self._dof_resid
        dof = rows.n - len(coef) - 1 if dof is None else dof
        n_classes = mean.shape[len(y.shape) :]
        wide = lambda a: np.asarray(a, float).reshape(len(a), n_neurons, *n_classes)  # noqa: E731
        design = rows.design
        return Responses(
            model, rows.y, weight, np.exp(wide(mean)) if self._classifier else wide(mean), scale,
            np.broadcast_to(np.asarray(dof, float).ravel(), (n_neurons,)), *scores,
            wide(eta), wide(slope), design.matrix, wide(problem.mask) > 0, wide(coef),
            [_called(name) for name in self._labels()["feature"]], order,
        )  # fmt: skip

    def _predicted(self, X, coef, intercept, offset):
        """Return predictor, mean (log-probabilities of classes) and the derivative of the mean, in the user's shape."""
        encoder = self._encoder if self._classifier else None
        n_neurons = coef.shape[1] if self._population else 1
        offset = check_offset(offset, (len(X), n_neurons), encoder, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            eta = np.tensordot(X, coef, 1) + intercept
            if offset is not None:
                eta = eta + (offset if offset.ndim == eta.ndim else offset[:, 0])
        ones = jnp.ones(eta.shape)
        mean, slope = jax.jvp(self.inverse_link_function, (jnp.asarray(eta),), (ones,))
        return eta, np.asarray(mean), np.asarray(slope)

    def _centre(self, problem):
        """Return the posterior means of coefficients and intercepts, or the fit."""
        if self._posterior is None:
            return self._coef[2] * problem.mask, self._intercept.reshape(problem.outputs)
        means = self._posterior["posterior"].dataset[["coef", "intercept"]].mean(("chain", "draw"))
        return means["coef"].values * problem.mask, means["intercept"].values

    def _curvature(self, problem, scale) -> Curvature | None:
        size = problem.mask[:, 0].size if self._population else problem.mask.size
        if (size + 1) ** 2 * problem.n_lanes > _CURVATURE_NUMBERS:
            return None
        auto = (
            self._posterior is not None
            and self._posterior["posterior"].attrs.get("prior") == "auto"
        )
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        weak = None
        if auto:
            problem, weak = weakly(problem)
        priors = _lanes.priors_of(problem, "plugin", scale, None, None, weak)
        family, shared, lanes = _lanes.build(problem, priors, _laplace.DIRECTIONS)
        coef, intercept = self._coef[2], self._intercept.reshape(problem.outputs)
        theta = problem.theta(np.nan_to_num(coef), np.nan_to_num(intercept))
        found = _curvature.look(family, shared, lanes, theta, self._labels()["feature"])
        return Curvature(*(np.repeat(part, problem.n_neurons // problem.n_lanes) for part in found))

    def _replicates(self, X, offset, problem) -> Replicates | None:
        """Return statistics of data drawn from the posterior, and of the data.

        A row of weight w is drawn w times, the last time with what is left of a weight that is not whole.
        """
        if self._classifier:
            return None
        rows, weight, y = _copies(problem.rows)
        chains, draws = self._posterior["posterior"]["intercept"].shape[:2]
        count = np.clip(_REPLICATED_CELLS // max(y.size, 1), _LEAST_DRAWS, _MOST_DRAWS) // chains
        thin = np.linspace(0, draws - 1, max(1, min(count, draws))).astype(int)
        with jax.enable_x64(True):
            matrix, shift = self._matrix(X, offset)
            matrix = np.where(np.isfinite(matrix), matrix, 0.0)
            drawn = posterior.replicate(
                self._draws("report", thin), matrix[rows], None if shift is None else shift[rows]
            )
        drawn = drawn.reshape(len(drawn), len(rows), -1)
        statistics = _statistics(self.observation_model)
        return Replicates(
            {name: f(y[None], weight)[0] for name, f in statistics.items()},
            {name: f(drawn, weight) for name, f in statistics.items()},
        )

    def _leave_one_out(self, X, y, sample_weight, offset, n_neurons: int) -> Loo:
        draws = self._draws("report")
        known = posterior.families.is_known(self.observation_model)
        with jax.enable_x64(True):
            key = jax.random.key(0) if known else None
            _, cells, n_all = self._pointwise(
                draws, X, y, offset, None, key, sample_weight=sample_weight
            )
            shape = (len(cells.elpd), n_neurons)
            uniform = np.asarray(jax.random.uniform(jax.random.key(0), shape))
        cells = posterior.Pointwise(*(
            None if a is None else a.reshape(len(a), n_neurons) for a in cells
        ))  # fmt: skip
        found = None if cells.pit is None else _transforms(cells, uniform, self.observation_model)
        n_all = np.broadcast_to(np.asarray(n_all, float), (n_neurons,))
        return Loo(cells, found, n_all, posterior.good_k(len(draws.intercept)))


def _copies(rows):
    """Return rows as often as their weight says (copies,), weights (copies, neurons) of at most one, and responses.

    Of many, some stand for all.
    """
    weight = np.broadcast_to(np.asarray(rows.weight, float), rows.y.shape)
    count = np.ceil(weight.max(axis=1)).astype(int)
    most = max(1, _REPLICATED_CELLS // (_LEAST_DRAWS * rows.y.shape[1]))
    total, ends = int(count.sum()), np.cumsum(count)
    some = (
        np.arange(total)
        if total <= most
        else np.unique(np.random.default_rng(0).integers(total, size=most))
    )
    row = np.searchsorted(ends, some, side="right")
    before = some - (ends - count)[row]
    return row, np.clip(weight[row] - before[:, None], 0.0, 1.0), rows.y[row]


def _transforms(cells, uniform, model) -> list[_residuals.Intervals]:
    """Return the probability integral transforms of each neuron, the randomness of counts taken out."""
    width = np.exp(cells.elpd) if posterior.families.is_discrete(model) else 0.0 * uniform
    lower = np.clip(cells.pit - uniform * width, 0.0, 1.0)
    upper = np.clip(lower + width, 0.0, 1.0)
    weight = np.where(np.isfinite(upper), cells.weight, 0.0)
    return [
        _residuals.Intervals(*columns) for columns in zip(lower.T, upper.T, weight.T, strict=True)
    ]


def _called(label) -> str:
    """Return a label of a feature that can stand alone."""
    return f"feature {label}" if str(label).isdigit() else str(label)


def _of_state(state, name: str, n_neurons: int):
    """Return an entry of the state of a fit for each neuron, or None."""
    value = getattr(state, name, None)
    return None if value is None or np.size(value) != n_neurons else np.asarray(value).reshape(-1)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _plain(value):
    """Return an attribute as plain numbers and texts."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()


def _statistics(model):
    """Return functions of responses (draws, rows, neurons) and their weights (rows, neurons)."""

    def mean(y, weight):
        total = np.einsum("drk,rk->dk", y, weight)
        return total / np.maximum(weight.sum(axis=0), np.finfo(float).tiny)

    found = {
        "mean": mean,
        "sd": lambda y, weight: np.sqrt(mean(np.square(y - mean(y, weight)[:, None]), weight)),
    }
    if posterior.families.is_discrete(model):
        found["zeros"] = lambda y, weight: mean(y == 0, weight)
    else:
        found["min"] = lambda y, weight: np.min(np.where(weight > 0, y, np.inf), axis=1)
    return found | {"max": lambda y, weight: np.max(np.where(weight > 0, y, -np.inf), axis=1)}
