"""What each check measures, from where it warns, and what helps: said once, for reports and their documentation."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFINITIONS", "PROBABILITY", "Definition"]

#: Probability below which a deviation of a healthy model would be called more than chance (over all neurons together).
PROBABILITY = 1e-3

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
    remedy : str
    source : str
    smaller_is_worse : bool
    tested : bool
        Whether the deviation must also be more than chance (see `PROBABILITY`) to count.
    stage : {"fit", "data", "draws", "draws and data"}
        What is needed: a fit, X and y beside it, posterior draws, or both of these.
    """

    name: str
    title: str
    measure: str
    caution: float | None
    fail: float | None
    meaning: str
    remedy: str
    source: str
    smaller_is_worse: bool = False
    tested: bool = False
    stage: str = "fit"


_ALL = (
    Definition(
        "convergence", "Convergence of the fit",
        "estimated distance to the optimum, in standard errors, of neurons whose solver stopped before `tol`",
        0.0, 0.01, "The solver stopped early: coefficients are not those of the optimum.",
        "Raise `maxiter` in `solver_kwargs`, use the default solver, or pass X in float64.",
        "docs/solvers.md",
    ),
    Definition(
        "estimable", "Finite estimates", "share of neurons without finite coefficients", 0.0, 0.0,
        "No finite parameters describe these responses: a silent neuron, or a class that never occurs.",
        "Leave such neurons out, or sample with `prior='auto'`.", _OURS,
    ),
    Definition(
        "separation", "Separation",
        "largest standard error of the linear predictor, per standard deviation of the features (flat priors only)",
        10.0, 100.0,
        "Along some direction the responses can be told apart without error, so that nothing bounds the coefficients.",
        "Use a penalty such as Ridge, `sample_posterior(prior='auto')`, or drop the features that predict the "
        "response perfectly.",
        "Albert, Anderson (1984), doi:10.1093/biomet/71.1.1", stage="data",
    ),
    Definition(
        "conditioning", "Collinearity",
        "condition index: square root of the ratio of the extreme eigenvalues of the information on the "
        "coefficients (prior included, intercept taken out, scaled to a unit diagonal)",
        30.0, 1e5,
        "Features carry almost the same information: single coefficients trade off against each other, while "
        "predictions are unaffected.",
        "Read sums of coefficients (or predictions) instead of single ones, drop or combine features, or use Ridge.",
        "Belsley, Kuh, Welsch (1980), doi:10.1002/0471725153", stage="data",
    ),
    Definition(
        "dispersion", "Dispersion of counts",
        "Pearson's chi-square over the residual degrees of freedom, or its inverse where that is larger than one",
        1.2, 2.0,
        "Counts vary more (or less) around their means than the family says: standard errors and intervals are off "
        "by the square root of this factor.",
        "Over-dispersed: use NegativeBinomial (or raise its `scale`, which `sample_posterior` estimates), add missing "
        "features or history, or `summary(robust=True)`. Under-dispersed: add a refractory history filter.",
        "McCullagh, Nelder (1989), section 4.5", tested=True, stage="data",
    ),
    Definition(
        "calibration", "Calibration of the means",
        "root mean square error of the mean in bins of the expected mean, relative to the spread of the latter, with "
        "the test of Hosmer and Lemeshow",
        0.1, 0.5,
        "Responses are on average off where the model expects much or little: a wrong inverse link, a relation that "
        "is not linear in the features, or a penalty strong enough to shrink predictions.",
        "Try another inverse link, transform features (splines), add interactions, or lower the strength.",
        "Hosmer, Lemeshow (1980), doi:10.1080/03610928008827941", tested=True, stage="data",
    ),
    Definition(
        "residuals", "Distribution of the residuals",
        "Kolmogorov-Smirnov distance of the randomised quantile residuals of the fit from the uniform distribution",
        0.05, 0.2, "The responses do not have the distribution of the family around their means.",
        "Try another observation model, or add missing features.",
        "Dunn, Smyth (1996), doi:10.1080/10618600.1996.10474708", tested=True, stage="data",
    ),
    Definition(
        "time_rescaling", "Time rescaling of spikes",
        "Kolmogorov-Smirnov distance of the rescaled intervals between spikes from the uniform distribution",
        0.05, 0.2, "Spikes do not come at the rate of the model: rhythm, refractoriness or bursts are missing.",
        "Add spike-history features, finer bins, or missing covariates.",
        "Brown et al. (2002), doi:10.1162/08997660252741149; Haslinger et al. (2010), doi:10.1162/NECO_a_00015",
        tested=True, stage="data",
    ),
    Definition(
        "divergences", "Divergent transitions", "share of the draws", 0.0, 0.01,
        "The sampler could not follow the posterior everywhere: draws may miss a part of it.",
        "Use a stronger penalty or `prior='auto'`, rescale extreme features, or raise `num_warmup`.", _STAN,
        stage="draws",
    ),
    Definition(
        "tree_depth", "Saturated trees", "share of the draws whose tree reached its largest depth", 0.01, 0.1,
        "Trajectories were cut short: sampling is slow, and draws depend on each other.",
        "Look for collinear features, rescale them, use a penalty, or raise `num_samples`.", _STAN, stage="draws",
    ),
    Definition(
        "energy", "Energy (E-BFMI)", "smallest estimated Bayesian fraction of missing information of a chain", 0.3, 0.2,
        "The momentum cannot carry the chains through the tails of the posterior.",
        "Use a stronger penalty or a tighter `scale_prior`, `scale='plugin'`, or more draws.",
        "Betancourt (2016), arXiv:1604.00695", smaller_is_worse=True, stage="draws",
    ),
    Definition(
        "r_hat", "Agreement of chains (R-hat)",
        "largest rank-normalised split R-hat of a parameter; the limit for caution grows with what chance gives at "
        "400 effective draws and so many parameters",
        1.01, 1.05, "Chains disagree: they have not explored the same posterior.",
        "Raise `num_warmup` and `num_samples`. If it stays, the posterior has several modes: use a stronger penalty.",
        _VEHTARI, stage="draws",
    ),
    Definition(
        "ess_bulk", "Effective draws, bulk", "smallest bulk effective sample size, per chain", 100.0, 50.0,
        "Too few independent draws for means and standard deviations.", "Raise `num_samples`.", _VEHTARI,
        smaller_is_worse=True, stage="draws",
    ),
    Definition(
        "ess_tail", "Effective draws, tails",
        "smallest effective sample size of the 5 % and 95 % quantiles, per chain", 100.0, 50.0,
        "Too few independent draws for intervals.", "Raise `num_samples`.", _VEHTARI, smaller_is_worse=True,
        stage="draws",
    ),
    Definition(
        "mcse", "Monte Carlo error", "largest Monte Carlo standard error of a mean, per posterior standard deviation",
        0.05, 0.1, "Posterior means would change visibly with another seed.", "Raise `num_samples`.", _VEHTARI,
        stage="draws",
    ),
    Definition(
        "laplace", "Normal approximation",
        "Pareto k of the importance ratios; the limit for caution is lower for few draws", 0.7, 1.0,
        "The posterior is not close to normal, and resampling could not mend it.", "Use `method='nuts'`.",
        "Vehtari et al. (2024), arXiv:1507.02646", stage="draws",
    ),
    Definition(
        "pareto_k", "Influential responses",
        "largest Pareto k of leave-one-out, where more than one response in a thousand is above the limit, or one "
        "above 1; the limit is lower for few draws",
        0.7, None,
        "Some responses move the posterior so much that leaving them out cannot be estimated from its draws: `loo` is "
        "not to be trusted there.",
        "Look at these responses (outliers? wrong units?), use a family with heavier tails, or refit without them.",
        "Vehtari, Gelman, Gabry (2017), doi:10.1007/s11222-016-9696-4", stage="draws and data",
    ),
    Definition(
        "loo_pit", "Leave-one-out calibration (LOO-PIT)",
        "Kolmogorov-Smirnov distance of the leave-one-out probability integral transforms from the uniform "
        "distribution",
        0.05, 0.2, "The responses do not have the distribution that the model predicts.",
        "Try another observation model, or add missing features.",
        "Gelman et al. (2013), Bayesian Data Analysis, section 6.3; Czado et al. (2009), "
        "doi:10.1111/j.1541-0420.2009.01191.x",
        tested=True, stage="draws and data",
    ),
    Definition(
        "predictive", "Posterior predictive",
        "largest deviation of mean, standard deviation or share of zeros from replicated data, relative to the "
        "latter (zeros: absolute)",
        0.1, None, "Data drawn from the model do not look like the data.",
        "Counts with too many zeros or too large a standard deviation: use NegativeBinomial. Otherwise try another "
        "observation model, or add missing features.",
        "Gabry et al. (2019), doi:10.1111/rssa.12378", tested=True, stage="draws and data",
    ),
    Definition(
        "prior_sensitivity", "Sensitivity to the prior",
        "change of a posterior with the power of its prior (power-scaling), largest of the coefficients that the "
        "prior informs most, where the likelihood matters as well",
        0.05, None, "Prior and data disagree, or the prior is strong: coefficients depend on the strength chosen.",
        "Choose the strength by cross-validation, or report results over a range of strengths.",
        "Kallioinen et al. (2024), doi:10.1007/s11222-023-10366-5", stage="draws and data",
    ),
)  # fmt: skip

#: All checks by name, in the order of reports.
DEFINITIONS = {each.name: each for each in _ALL}
