"""The model of one response: what follows from a fit, and from draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import diagnostics, posterior
from bayesglm._layout import shown
from bayesglm._messages import tell
from bayesglm.glm import _joint, _leaving_out, _prediction, _reporting, _sampling, _tables, _traced
from bayesglm.glm._edge import check_structure, known, new_rows, rows_of
from bayesglm.glm._estimator import Estimator
from bayesglm.glm._values import needed


class GLM(Estimator):
    r"""Generalized linear model of one response.

    .. math:: E[y_i] = g^{-1}(x_i' w + b + offset_i)

    Coefficients minimise the mean loss plus a penalty, which makes them the mode of the posterior under the prior
    that the penalty stands for (:meth:`numpyro_model`).

    Parameters
    ----------
    observation_model : str or Observations
        ``"Poisson"``, ``"Gamma"``, ``"Gaussian"``, ``"Bernoulli"``, ``"Binomial"`` (`y` has successes and failures on
        its last axis), ``"NegativeBinomial"`` (with a dispersion held at 1; pass an instance with another, or with
        ``scale="estimate"``), ``"ZeroInflatedPoisson"``, or an instance.
    inverse_link_function : str or callable, optional
        Maps the linear predictor to the mean. By default that of the observation model: ``exp`` for counts,
        ``one_over_x`` for Gamma, ``identity`` for Gaussian, ``logistic`` for Bernoulli.
    regularizer : str, Regularizer or dict, optional
        One of `bayesglm.regularizer`, ``"UnRegularized"`` by default; or a dict of these for the leaves of X.
    regularizer_strength : float, array or pytree, optional
        Strength of the penalty, one number or one per coefficient; (strength, ratio) for ElasticNet, a dict for leaves.
        1.0 with a warning where it is needed and not given.
    solver_name : str, optional
        LBFGS by default, ProximalGradient for penalties with kinks. See `bayesglm.solvers`.
    solver_kwargs : dict, optional
        Arguments of the solver, such as ``tol`` and ``maxiter``; see
        :func:`bayesglm.solvers.get_solver_documentation`.

    Attributes
    ----------
    coef_ : array (features,), or a pytree of these
        Coefficients in the structure of X.
    intercept_ : array (1,)
    scale_ : array (1,)
        Dispersion of the response, estimated from the residuals; after :meth:`sample_posterior` with priors that `fit`
        does not know, its posterior median.
    dof_resid_ : array
        Residual degrees of freedom.
    solver_state_
        How the fit ended.

    References
    ----------
    McCullagh, Nelder (1989), Generalized Linear Models. doi:10.1007/978-1-4899-3242-6

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(500, 3))
    >>> y = rng.poisson(np.exp(X @ [0.5, 0.0, -0.5]))
    >>> model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.01).fit(X, y)
    >>> model.coef_.shape
    (3,)
    """

    def __init__(
        self, observation_model="Poisson", inverse_link_function=None, regularizer=None,
        regularizer_strength=None, solver_name=None, solver_kwargs=None,
    ):  # fmt: skip
        self._configure(
            observation_model=observation_model, inverse_link_function=inverse_link_function,
            regularizer=regularizer, regularizer_strength=regularizer_strength,
            solver_name=solver_name, solver_kwargs=solver_kwargs,
        )  # fmt: skip

    def predict(self, X, return_std=False, *, offset=None):
        """Return the mean response (for a classifier: the most probable labels) of each row.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
        return_std : bool
            Return posterior mean and standard deviation of a new response instead, its own noise included; after
            :meth:`sample_posterior`, and not for classifiers.
        offset : array, optional
            As in :meth:`fit`.

        Returns
        -------
        : array (samples,) or (samples, neurons), or a tuple of two
            Rows with a NaN give NaN. JAX can differentiate the mean response in X.

        Raises
        ------
        TypeError, ValueError
            If X does not have the structure and features of the fit; NotFittedError before `fit`.
        """
        fit = self._fitted("predict")
        if _prediction.with_std(return_std):
            return _prediction.mean_and_sd(self._posterior, fit, X, offset)
        if _traced.is_traced(X) and not fit.layout.classifier and offset is None:
            return _traced.mean(fit, X)
        with jax.enable_x64(True):
            rate = _prediction.mean(fit, *new_rows(fit, X, offset))
        if not fit.layout.classifier:
            return fit.layout.like(X, jax.device_put(rate))  # `jnp.asarray` compiles for each shape
        labels, told = _prediction.labels(fit, rate)
        tell(told)
        return fit.layout.like(X, labels)

    def score(
        self, X, y, score_type="log-likelihood", aggregate_sample_scores=jnp.mean, *,
        sample_weight=None, offset=None,
    ):  # fmt: skip
        r"""Return how well the model predicts these responses; higher is better.

        Parameters
        ----------
        X, y, offset
            Rows; those with a NaN are left out.
        score_type
            ``"log-likelihood"``, with its constants, ``"pseudo-r2-McFadden"`` or ``"pseudo-r2-Cohen"``.
        aggregate_sample_scores
            Applied to the scores of all responses, (samples,) or (samples, neurons).
        sample_weight : array (samples,), optional
            Weights of the mean; only with the default aggregation.

        Raises
        ------
        NotImplementedError
            For another `score_type`.
        """
        fit = self._fitted("score")
        _prediction.check_score_type(score_type)
        with jax.enable_x64(True):
            rows = rows_of(fit, X, y, sample_weight, offset)
            rate = _prediction.mean(fit, rows.design.matrix, fit.layout.beside(rows.offset))
            value, told = _prediction.score(
                fit, rows, rate, score_type, aggregate_sample_scores, sample_weight is not None
            )
            value = np.asarray(value)
        tell(told)
        return shown(value)

    def simulate(self, random_key, feedforward_input, *, offset=None, n_trials=None):
        """Draw responses of the fitted model.

        Parameters
        ----------
        random_key : JAX random key or int
        feedforward_input, offset
            As X and offset in :meth:`predict`.
        n_trials : int or array (samples,) or (samples, neurons), optional
            For Binomial, of how many trials successes are counted; by default one.

        Returns
        -------
        : tuple
            Responses and their means; for a classifier labels and their log-probabilities. Each (samples,) or
            (samples, neurons).
        """
        fit = self._fitted("simulate")
        random_key = _sampling.check_key(random_key)
        with jax.enable_x64(True):
            rate = _prediction.mean(fit, *new_rows(fit, feedforward_input, offset))
            drawn, rate, told = _prediction.simulate(fit, random_key, rate, n_trials)
        tell(told)
        layout = fit.layout
        drawn = layout.decode(drawn) if layout.classifier else jnp.asarray(drawn)
        return tuple(layout.like(feedforward_input, each) for each in (drawn, jnp.asarray(rate)))

    def numpyro_model(self, X, y, *, scale="sample", scale_prior=None, intercept_prior=None,
                      sample_weight=None, offset=None, prior=None):  # fmt: skip
        """Return the joint density as a NumPyro model of no arguments, ready for any NumPyro inference.

        Parameters
        ----------
        X, y, sample_weight, offset
            Training rows, as in :meth:`fit`.
        scale : "sample", "plugin" or array
            Whether the dispersion is a site with a weak prior (the negative binomial's too, which `fit` holds fixed),
            the value that `fit` used, or the one given. Families without a dispersion ignore it.
        scale_prior, intercept_prior, prior
            As in :meth:`sample_posterior`.

        Returns
        -------
        : callable
            Sites ``coef`` (features, *outputs), ``intercept`` (outputs), ``scale`` or ``gate`` (neurons), and ``y``.

        Raises
        ------
        ValueError
            If a count is not an integer, or ``scale="plugin"`` comes before `fit`.
        """
        _joint.check_priors(prior, scale_prior, intercept_prior)
        with jax.enable_x64(True):
            problem = known(self._problem(X, y, sample_weight, offset), self._held)
        priors = scale, scale_prior, intercept_prior, prior
        return _joint.numpyro_model(problem, self._settings, self._held.scale, *priors)

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
        is standard. :attr:`posterior_`, :meth:`predict_interval`, :meth:`loo` and the like serve until the next `fit`.

        Parameters
        ----------
        X, y, sample_weight, offset
            As in :meth:`fit`; counts must be integers. A weight raises the likelihood of a row to a power.
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
        prior : None or "auto"
            ``"auto"`` gives an UnRegularized model weak normal priors in the units of the data: for a coefficient, with
            2.5 times the ratio of the standard deviations of response (Gaussian; otherwise 1) and feature; for the
            predictor at the mean of the features, with 2.5 times that of the response.
        scale_prior, intercept_prior : NumPyro distributions of one number, optional
            In place of the weak prior of the dispersion, and of the flat one of the intercepts.

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
        options = _sampling.Options(
            method, num_samples, num_chains, num_warmup, neuron_batch_size, random_key, progress_bar,
            scale, prior, scale_prior, intercept_prior,
        ).checked(self._settings)  # fmt: skip
        with jax.enable_x64(True):
            problem = self._problem(X, y, sample_weight, offset)
            check_structure(self._held, problem)
            found = _sampling.sample(problem, self._settings, options)
        self._keep(found.fit, found)
        tell(found.messages)
        return self

    def predict_interval(self, X, prob=0.94, kind="mean", *, offset=None, n_trials=None):
        """Return equal-tailed posterior intervals of the mean response, or of a new response.

        Parameters
        ----------
        X, offset, n_trials
            As in :meth:`simulate`.
        prob : float
            Probability inside.
        kind : "mean" or "response"

        Returns
        -------
        : tuple (low, high)
            Each (samples,) or (samples, neurons); for a classifier of class probabilities, (samples, ..., classes).

        Raises
        ------
        ValueError
            Before :meth:`sample_posterior`, or if an argument is out of range.
        """
        _tables.check_interval(prob, kind, self._settings.classifier)
        found = needed(self._posterior, "predict_interval")
        with jax.enable_x64(True):
            rows = new_rows(found.fit, X, offset, np.float64)
            how = prob, kind, _prediction.trials_of(found.fit, n_trials, len(rows[0]))
            ends = posterior.interval(found.draws(), *rows, *how)
        ends = map(np.exp, ends) if found.fit.layout.classifier else ends
        return tuple(found.fit.layout.like(X, shown(end)) for end in ends)

    def posterior_predictive(self, random_key, X, *, num_draws=None, offset=None, n_trials=None):
        """Draw responses at new rows, one for each posterior draw.

        Parameters
        ----------
        random_key : JAX random key
        X, offset, n_trials
            As in :meth:`simulate`. The result grows with rows times draws: pass long data in pieces, or few draws.
        num_draws : int, optional
            Draws of each chain, evenly spaced; by default all.

        Returns
        -------
        : array (chains, draws, samples) or (chains, draws, samples, neurons)
            Responses; for a classifier labels.
        """
        key = _sampling.check_key(random_key)
        found = needed(self._posterior, "posterior_predictive")
        thin = found.thinned(num_draws)
        with jax.enable_x64(True):
            rows = new_rows(found.fit, X, offset, np.float64)
            trials = _prediction.trials_of(found.fit, n_trials, len(rows[0]))
            drawn = posterior.draw_responses(found.draws(thin), key, *rows, trials)
        drawn = drawn.reshape(-1, len(thin), *drawn.shape[1:])
        return found.fit.layout.decode(drawn) if found.fit.layout.classifier else shown(drawn)

    def loo(self, X, y, *, by_neuron=False, sample_weight=None, offset=None, reff=None):
        """Return the leave-one-out predictive accuracy, estimated by Pareto smoothed importance sampling.

        Memory does not grow with rows times draws. Above a million cells a random subset of the rows stands for all.
        Rows of time series are left out one bin at a time: with history features, or slow covariates, that flatters;
        blocked cross-validation is the honest forecast score.

        Parameters
        ----------
        X, y, offset
            The training data; missing rows are left out.
        by_neuron : bool
            One result per neuron.
        sample_weight : array, optional
            That of :meth:`sample_posterior`. One of the copies that a weight stands for is left out, and each of them
            counts: the score of a row is its weight times that of one copy, also where the weight is below one.
        reff : float, optional
            Effective draws per draw, which say how many of the largest weights are smoothed. By default the mean over
            the parameters of each neuron: for a single neuron ArviZ's default, for a population not that of all.

        Returns
        -------
        : arviz_stats.ELPDData, or a dict of these
            Usable with ArviZ's ``compare``; `elpd_i` and `pareto_k` are (samples,) or (samples, neurons).

        Raises
        ------
        ValueError
            Before :meth:`sample_posterior`, if a count is not an integer, or `reff` is not a positive number; if the
            weights do not add up to those that were sampled.
        """
        found = needed(self._posterior, "loo")
        _leaving_out.check_reff(reff)
        if by_neuron and not found.fit.layout.population:
            raise ValueError("`by_neuron` is for populations.")
        with jax.enable_x64(True):
            rows = rows_of(found.fit, X, y, sample_weight, offset).double()
            return _leaving_out.loo(found, rows, by_neuron, reff)

    def loo_pit(self, X, y, *, random_key=None, sample_weight=None, offset=None):
        """Return the leave-one-out probability integral transform of each response, uniform under a true model.

        It averages the distribution function of the family over the draws, and is randomised for counts.

        Parameters
        ----------
        X, y, sample_weight, offset
            As in :meth:`loo`.
        random_key : JAX random key, optional

        Returns
        -------
        : array (samples,) or (samples, neurons)
            That of one copy of each row; NaN where a response is missing or has no weight.
        """
        if self._settings.classifier:
            raise TypeError("Labels have no order, and so no probability integral transform.")
        key = _sampling.check_key(random_key)
        found = needed(self._posterior, "loo_pit")
        with jax.enable_x64(True):
            rows = rows_of(found.fit, X, y, sample_weight, offset).double()
            used, cells, _ = _leaving_out.pointwise(found, rows, None, key, whole=True)
        return np.where(used, cells.pit, np.nan)

    def summary(
        self, X=None, y=None, *, prob=0.94, robust=False, groups=None, trials=None, maxlags=None,
        sample_weight=None, offset=None,
    ):  # fmt: skip
        """Return a table of all parameters.

        Parameters
        ----------
        X, y, sample_weight, offset : optional
            The training data, as in :meth:`fit`, needed where nothing was sampled.
        prob : float
            Probability of the intervals.
        robust : bool or str
            Sandwich standard errors, from X and y, which hold when the family is wrong, and for a penalised model are
            those of the penalised estimate. ``True`` is ``"HC3"``: rows are independent, their variance is free.
            ``"HC0"`` to ``"HC3"`` name a correction for small samples. ``"cluster"`` is ``"CR3"``: rows of one of the
            `groups` may depend on each other; ``"CR1"`` is the common correction. ``"HAC"``: rows may depend on those
            before them.
        groups : array (samples,), optional
            Label of the group of each row.
        trials : array (samples,), optional
            For HAC, a label of the stretch of consecutive rows to which each row belongs; by default the epochs of a
            pynapple X, otherwise all rows are one.
        maxlags : int, optional
            For HAC, the rows over which dependence reaches; by default each parameter's own, by Andrews' rule after
            prewhitening.

        Returns
        -------
        : pandas.DataFrame
            After :meth:`sample_posterior`: mean, sd, equal-tailed interval, effective sample sizes and R-hat. After
            `fit` alone: estimate, standard error from the observed information, and interval; for UnRegularized models
            also z (t, with degrees of freedom, where a dispersion is estimated or groups or moments are counted) and
            p-values. What the interval is stands in ``attrs["interval"]``, the dispersion and where it comes from in
            ``attrs["dispersion"]``.

        Raises
        ------
        ValueError
            If X and y are missing where they are needed, an argument is out of range or goes with another kind of
            errors, or the rows do not add up to those that were fitted.

        Warns
        -----
        RuntimeWarning
            Naming neurons without errors of the kind asked for.
        """
        _tables.check_prob(prob)
        fit, found = self._fitted(), self._posterior
        if X is None and y is None:
            _tables.check_without_rows(found, robust, groups, trials, maxlags)
            return _tables.of_draws(found, prob)
        with jax.enable_x64(True):
            rows = rows_of(fit, X, y, sample_weight, offset).double()
            how = robust, groups, trials, maxlags, X
            table, told = _tables.of_rows(rows, fit, found, how, prob)
        tell(told)
        return table

    def report(self, X=None, y=None, *, sample_weight=None, offset=None, loo=True, time=None,
               trials=None):  # fmt: skip
        """Check the fit, and the posterior draws where there are any.

        Without data the report is about the solver, or the sampler. With the training data it also looks at
        collinearity, separation, dispersion, calibration, curves and residuals, and, after :meth:`sample_posterior`, at
        leave-one-out prediction, replicated data and the weight of the prior. Checks that read the order of rows are
        made only where rows are said to be a time series.

        Parameters
        ----------
        X, y, sample_weight, offset : optional
            The training data, as in :meth:`fit`.
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
        ValueError
            If only one of X and y is given, or they are not the data that were sampled; if `time` or `trials` do not
            fit the rows.
        """
        fit, found, rows, order = self._fitted("report"), self._posterior, None, None
        _reporting.check_arguments(X, y, time, trials)
        with jax.enable_x64(True):
            if X is not None:
                order = diagnostics.order_of(time, trials, (*np.shape(y), 0)[0], (y, X))
                rows = rows_of(fit, X, y, sample_weight, offset)
            evidence = _reporting.evidence(fit, found, rows, order, loo)
        return diagnostics.DiagnosticsReport(evidence)
