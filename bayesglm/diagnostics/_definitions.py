"""What each check measures, and from where it warns: said once, for reports and their documentation."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFINITIONS", "PROBABILITY", "Definition"]

#: Probability below which a deviation of a healthy model would be called more than chance (over all neurons together).
PROBABILITY = 5e-4

_STAN = "Stan Reference Manual, warnings: https://mc-stan.org/misc/warnings"
_VEHTARI = "Vehtari et al. (2021), doi:10.1214/20-BA1221"
_OURS = "convention of this package"


class Definition(NamedTuple):
    """A check.

    Attributes
    ----------
    name, title : str
    measure : str
        What the number is.
    caution, fail : float or None
        Limits; None where there is no such grade.
    meaning : str
        What it means when the check fails.
    source : str
    smaller_is_worse : bool
    tested : bool
        Whether the deviation must also be more than chance (see `PROBABILITY`) to count.
    stage : {"fit", "data", "time", "draws", "draws and data"}
        What is needed: a fit, X and y beside it, rows that are a time series, posterior draws, or draws and data.
    spoils : {"all", "errors"}
        What cannot be used where the check fails: everything, or standard errors, intervals and p-values only.
    """

    name: str
    title: str
    measure: str
    caution: float | None
    fail: float | None
    meaning: str
    source: str
    smaller_is_worse: bool = False
    tested: bool = False
    stage: str = "fit"
    spoils: str = "all"


_ALL = (
    Definition(
        "convergence", "Convergence of the fit",
        "estimated distance to the optimum, in standard errors, of neurons whose solver stopped before `tol`",
        0.0, 0.01, "The solver stopped early: coefficients are not those of the optimum.",
        "docs/solvers.md",
    ),
    Definition(
        "estimable", "Finite estimates", "share of neurons without finite coefficients", 0.0, 0.0,
        "No finite parameters describe these responses: a silent neuron, or a class that never occurs.",
        _OURS,
    ),
    Definition(
        "separation", "Separation",
        "largest standard error of the linear predictor, per standard deviation of the features (counts and labels "
        "with flat priors only)",
        10.0, 100.0,
        "Along some direction the responses can be told apart without error, so that nothing bounds the coefficients.",
        "Albert, Anderson (1984), doi:10.1093/biomet/71.1.1", stage="data",
    ),
    Definition(
        "conditioning", "Collinearity",
        "condition index: square root of the ratio of the extreme eigenvalues of the information on the "
        "coefficients (prior included, intercept taken out, scaled to a unit diagonal)",
        30.0, 1e5,
        "Features carry almost the same information: single coefficients trade off against each other, while "
        "predictions are unaffected.",
        "Belsley, Kuh, Welsch (1980), doi:10.1002/0471725153", stage="data",
    ),
    Definition(
        "dispersion", "Dispersion of counts",
        "Pearson's chi-square over the residual degrees of freedom, or its inverse where that is larger than one",
        1.2, 2.0,
        "Counts vary more (or less) around their means than the family says: standard errors and intervals are off "
        "by the square root of this factor.",
        "McCullagh, Nelder (1989), section 4.5", tested=True, stage="data", spoils="errors",
    ),
    Definition(
        "calibration", "Calibration of the means",
        "root mean square error of the mean in bins of the expected mean, relative to the spread of the latter, with "
        "the test of Hosmer and Lemeshow",
        0.1, 0.5,
        "Responses are on average off where the model expects much or little: a wrong inverse link, a relation that "
        "is not linear in the features, or a penalty strong enough to shrink predictions.",
        "Hosmer, Lemeshow (1980), doi:10.1080/03610928008827941", tested=True, stage="data",
    ),
    Definition(
        "residuals", "Distribution of the residuals",
        "Kolmogorov-Smirnov distance of the quantile residuals of the fit from the uniform distribution, averaged over "
        "the randomisation of counts, with the smooth test of Neyman beside it",
        0.05, 0.2, "The responses do not have the distribution of the family around their means.",
        "Dunn, Smyth (1996), doi:10.1080/10618600.1996.10474708; Czado et al. (2009), "
        "doi:10.1111/j.1541-0420.2009.01191.x; Neyman (1937), doi:10.1080/03461238.1937.10404821",
        tested=True, stage="data", spoils="errors",
    ),
    Definition(
        "outliers", "Outliers",
        "normal score of the response that is farthest out, where one so far out is more than chance", 3.0, None,
        "Some response has next to no probability under the model: an error of measurement, another kind of event, or "
        "a family with tails that are too light.",
        "Dunn, Smyth (1996), doi:10.1080/10618600.1996.10474708", tested=True, stage="data",
    ),
    Definition(
        "linearity", "Straight lines in the features",
        "largest share, missed by the model, of what a smooth curve of one feature could explain beside what the model "
        "does (score test)",
        0.01, 0.25,
        "The response does not follow a feature along the inverse link: coefficients are averages of slopes.",
        "Rao (1948), doi:10.1017/S0305004100023987", tested=True, stage="data",
    ),
    Definition(
        "interactions", "Products of features",
        "largest share, missed by the model, of what the product of two features could explain beside what the model "
        "does (score test; all pairs, or those of the ten features with the largest effects)",
        0.01, 0.25, "The effect of a feature depends on another one: coefficients are averages over the latter.",
        "Rao (1948), doi:10.1017/S0305004100023987", tested=True, stage="data",
    ),
    Definition(
        "link", "Inverse link",
        "share, missed by the model, of what square and cube of the linear predictor could explain beside what the "
        "model does (score test)",
        0.01, 0.25, "The mean does not follow the linear predictor along this inverse link.",
        "Pregibon (1980), doi:10.2307/2346405", tested=True, stage="data",
    ),
    Definition(
        "spread", "Constant dispersion",
        "largest relative change of the variance with one standard deviation of a feature, or of the expected mean "
        "(families with a dispersion of their own)",
        0.2, 1.0,
        "Responses vary more for some rows than for others: standard errors and intervals are too small there.",
        "Breusch, Pagan (1979), doi:10.2307/1911963; Koenker (1981), doi:10.1016/0304-4076(81)90062-2",
        tested=True, stage="data", spoils="errors",
    ),
    Definition(
        "repeated_rows", "Repeated rows",
        "mean correlation of the residuals of two rows with the same features",
        0.05, 0.3,
        "Rows with the same features are not independent, as copies of rows are not: standard errors are too small.",
        "Fisher (1925), Statistical Methods for Research Workers, chapter 7", tested=True, stage="data",
        spoils="errors",
    ),
    Definition(
        "serial_dependence", "Dependence in time",
        "largest variance of the coefficient of a feature that oscillates with any period, relative to that of "
        "independent rows, from the correlations of residuals at up to 64 lags",
        1.2, 2.0,
        "What the model misses goes on from row to row: standard errors of features that change as slowly (or in that "
        "rhythm) are too small by the square root of this factor.",
        "Ljung, Box (1978), doi:10.1093/biomet/65.2.297; Breusch (1978), doi:10.1111/j.1467-8454.1978.tb00635.x",
        tested=True, stage="time", spoils="errors",
    ),
    Definition(
        "drift", "Drift",
        "share, missed by the model, of what a smooth trend over the session, or within trials, could explain beside "
        "what the model does (score test)",
        0.01, 0.25, "The response changes slowly in a way that no feature explains.",
        "Rao (1948), doi:10.1017/S0305004100023987", tested=True, stage="time",
    ),
    Definition(
        "trial_dependence", "Dependence within trials",
        "mean correlation of the residuals of two rows of a trial",
        0.01, 0.1, "Trials differ in a way that no feature explains: standard errors are too small.",
        "Fisher (1925), Statistical Methods for Research Workers, chapter 7", tested=True, stage="time",
        spoils="errors",
    ),
    Definition(
        "time_rescaling", "Time rescaling of spikes",
        "Kolmogorov-Smirnov distance of the rescaled intervals between spikes from the uniform distribution, with the "
        "smooth test of Neyman beside it; never across the end of a trial or a gap",
        0.05, 0.2, "Spikes do not come at the rate of the model: rhythm, refractoriness or bursts are missing.",
        "Brown et al. (2002), doi:10.1162/08997660252741149; Haslinger et al. (2010), doi:10.1162/NECO_a_00015",
        tested=True, stage="time",
    ),
    Definition(
        "divergences", "Divergent transitions", "share of the draws", 0.0, 0.01,
        "The sampler could not follow the posterior everywhere: draws may miss a part of it.",
        _STAN,
        stage="draws",
    ),
    Definition(
        "tree_depth", "Saturated trees", "share of the draws whose tree reached its largest depth", 0.01, 0.1,
        "Trajectories were cut short: sampling is slow, and draws depend on each other.",
        _STAN, stage="draws",
    ),
    Definition(
        "energy", "Energy (E-BFMI)", "smallest estimated Bayesian fraction of missing information of a chain", 0.3, 0.2,
        "The momentum cannot carry the chains through the tails of the posterior.",
        "Betancourt (2016), arXiv:1604.00695", smaller_is_worse=True, stage="draws",
    ),
    Definition(
        "r_hat", "Agreement of chains (R-hat)",
        "largest rank-normalised split R-hat of a parameter; the limit for caution grows with what chance gives at "
        "400 effective draws and so many parameters",
        1.01, 1.05, "Chains disagree: they have not explored the same posterior.",
        _VEHTARI, stage="draws",
    ),
    Definition(
        "ess_bulk", "Effective draws, bulk", "smallest bulk effective sample size, per chain", 100.0, 50.0,
        "Too few independent draws for means and standard deviations.", _VEHTARI,
        smaller_is_worse=True, stage="draws",
    ),
    Definition(
        "ess_tail", "Effective draws, tails",
        "smallest effective sample size of the 5 % and 95 % quantiles, per chain", 100.0, 50.0,
        "Too few independent draws for intervals.", _VEHTARI, smaller_is_worse=True,
        stage="draws",
    ),
    Definition(
        "mcse", "Monte Carlo error", "largest Monte Carlo standard error of a mean, per posterior standard deviation",
        0.05, 0.1, "Posterior means would change visibly with another seed.", _VEHTARI,
        stage="draws",
    ),
    Definition(
        "laplace", "Normal approximation",
        "Pareto k of the importance ratios; the limit for caution is lower for few draws", 0.7, 1.0,
        "The posterior is not close to normal, and resampling could not mend it.",
        "Vehtari et al. (2024), arXiv:1507.02646", stage="draws",
    ),
    Definition(
        "pareto_k", "Influential responses",
        "largest Pareto k of leave-one-out, where more than one response in a thousand is above the limit, or one "
        "above 1; the limit is lower for few draws",
        0.7, None,
        "Some responses move the posterior so much that leaving them out cannot be estimated from its draws: `loo` is "
        "not to be trusted there.",
        "Vehtari, Gelman, Gabry (2017), doi:10.1007/s11222-016-9696-4", stage="draws and data",
    ),
    Definition(
        "loo_pit", "Leave-one-out calibration (LOO-PIT)",
        "Kolmogorov-Smirnov distance of the leave-one-out probability integral transforms from the uniform "
        "distribution",
        0.05, 0.2, "The responses do not have the distribution that the model predicts.",
        "Gelman et al. (2013), Bayesian Data Analysis, section 6.3; Czado et al. (2009), "
        "doi:10.1111/j.1541-0420.2009.01191.x",
        tested=True, stage="draws and data", spoils="errors",
    ),
    Definition(
        "predictive", "Posterior predictive",
        "largest deviation of mean, standard deviation or share of zeros from replicated data, relative to the "
        "latter (zeros: absolute)",
        0.1, None, "Data drawn from the model do not look like the data.",
        "Gabry et al. (2019), doi:10.1111/rssa.12378", tested=True, stage="draws and data",
    ),
    Definition(
        "prior_sensitivity", "Sensitivity to the prior",
        "change of a posterior with the power of its prior (power-scaling), largest of the coefficients that the "
        "prior informs most, where the likelihood matters as well",
        0.05, None, "Prior and data disagree, or the prior is strong: coefficients depend on the strength chosen.",
        "Kallioinen et al. (2024), doi:10.1007/s11222-023-10366-5", stage="draws and data",
    ),
)  # fmt: skip

#: All checks by name, in the order of reports.
DEFINITIONS = {each.name: each for each in _ALL}
