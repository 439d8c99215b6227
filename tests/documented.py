"""The interface that NeMoS 0.2.9 documents for its GLM side, and why ours differs where it does.

From its API pages and guides: names, order, keyword names and defaults. A default that is a function stands under its
name, or under a name for what it does. ``python -m tests.documented`` prints docs/interface.md.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from typing import NamedTuple

import bayesglm

ALL = "{GLM,PopulationGLM,ClassifierGLM,ClassifierPopulationGLM}"
CLASSIFIERS = "{ClassifierGLM,ClassifierPopulationGLM}"
FAMILIES = "{Observations,PoissonObservations,GammaObservations,GaussianObservations,BernoulliObservations}"
PENALTIES = "{UnRegularized,Ridge,Lasso,ElasticNet,GroupLasso}"

#: One line for each name, or for names in braces, below the heading of a table; after `#` the key of the reason for
#: which ours differs.
INTERFACE = f"""
The package
load_model(filename, mapping_dict=None)
inspect_npz(file_path)
__version__
{{basis,convolve,glm_hmm,hmm,fetch,styles,tree_utils,type_casting,pytrees,exceptions}}  # modules
{{utils,proximal_operator,identifiability_constraints,inverse_link_function_utils}}  # modules

The estimators
glm.GLM(observation_model='Poisson', inverse_link_function=None, regularizer=None, regularizer_strength=None, solver_name=None, solver_kwargs=None)
glm.PopulationGLM(observation_model='Poisson', inverse_link_function=None, regularizer='UnRegularized', regularizer_strength=None, solver_name=None, solver_kwargs=None, feature_mask=None, **kwargs)  # kwargs
glm.ClassifierGLM(n_classes=2, inverse_link_function=None, regularizer=None, regularizer_strength=None, solver_name=None, solver_kwargs=None)
glm.ClassifierPopulationGLM(n_classes=2, inverse_link_function=None, regularizer=None, regularizer_strength=None, solver_name=None, solver_kwargs=None, feature_mask=None)
glm.{ALL}.{{coef_,intercept_,solver_state_,scale_,dof_resid_,aux_}}
glm.{ALL}.{{observation_model,inverse_link_function,regularizer,regularizer_strength}}
glm.{ALL}.{{solver,solver_name,solver_kwargs,solver_spec}}
glm.{ALL}.{{optimizer_init_state,optimizer_update,optimizer_run}}
glm.{{PopulationGLM,ClassifierPopulationGLM}}.feature_mask
glm.{CLASSIFIERS}.{{classes_,n_classes}}
glm.{ALL}.fit(X, y, init_params=None)
glm.{ALL}.predict(X)
glm.{ALL}.score(X, y, score_type='log-likelihood', aggregate_sample_scores=mean)
glm.{ALL}.simulate(random_key, feedforward_input)
glm.{ALL}.compute_loss(params, X, y, *args, **kwargs)
glm.{ALL}.initialize_params(X, y)
glm.{ALL}.initialize_optimizer_and_state(init_params, X, y)
glm.{ALL}.update(params, opt_state, X, y, *args, n_samples=None, **kwargs)
glm.{ALL}.save_params(filename)
glm.{ALL}.get_params(deep=True)
glm.{ALL}.set_params(**params)
glm.{ALL}.get_metadata_routing()
glm.{ALL}.set_fit_request(*, init_params='$UNCHANGED$')
glm.{ALL}.set_score_request(*, aggregate_sample_scores='$UNCHANGED$', score_type='$UNCHANGED$')
glm.{CLASSIFIERS}.set_classes(y)
glm.{CLASSIFIERS}.predict_proba(X, return_type='log-proba')
glm.{CLASSIFIERS}.set_predict_proba_request(*, return_type='$UNCHANGED$')

Observation models
observation_models.{{PoissonObservations,GammaObservations,GaussianObservations,BernoulliObservations,CategoricalObservations}}()
observation_models.NegativeBinomialObservations(scale=1.0)
observation_models.{{PoissonObservations,GammaObservations,GaussianObservations}}.{{default_inverse_link_function,scale}}
observation_models.{{BernoulliObservations,NegativeBinomialObservations,CategoricalObservations}}.{{default_inverse_link_function,scale}}
observation_models.{FAMILIES}.log_likelihood(y, predicted_rate, scale=1.0, aggregate_sample_scores=sum_of_means)  # scale
observation_models.NegativeBinomialObservations.log_likelihood(y, predicted_rate, scale=None, aggregate_sample_scores=sum_of_means)
observation_models.CategoricalObservations.log_likelihood(y, predicted_rate, scale=1.0, aggregate_sample_scores=sum_of_means)  # scale
observation_models.{{PoissonObservations,GammaObservations,GaussianObservations}}.likelihood(y, predicted_rate, scale=1.0, aggregate_sample_scores=sum_of_means)  # scale
observation_models.{{BernoulliObservations,CategoricalObservations}}.likelihood(y, predicted_rate, scale=1.0, aggregate_sample_scores=geometric_mean)  # scale
observation_models.{FAMILIES}.sample_generator(key, predicted_rate, scale=1.0)  # scale
observation_models.NegativeBinomialObservations.sample_generator(key, predicted_rate, scale=None)
observation_models.CategoricalObservations.sample_generator(key, predicted_rate, scale=1.0)  # scale
observation_models.{{Observations,PoissonObservations}}.deviance(spike_counts, predicted_rate, scale=1.0)  # scale
observation_models.{{GammaObservations,GaussianObservations}}.deviance(neural_activity, predicted_rate, scale=1.0)  # scale
observation_models.{{BernoulliObservations,CategoricalObservations}}.deviance(observations, predicted_rate, scale=1.0)  # scale
observation_models.NegativeBinomialObservations.deviance(observations, predicted_rate, scale=None)
observation_models.{FAMILIES}.estimate_scale(y, predicted_rate, dof_resid)
observation_models.{{NegativeBinomialObservations,CategoricalObservations}}.estimate_scale(y, predicted_rate, dof_resid)
observation_models.{FAMILIES}.pseudo_r2(y, predicted_rate, score_type='pseudo-r2-McFadden', scale=1.0, aggregate_sample_scores=mean)  # scale
observation_models.CategoricalObservations.pseudo_r2(y, predicted_rate, score_type='pseudo-r2-McFadden', scale=1.0, aggregate_sample_scores=mean)  # scale
observation_models.{FAMILIES}.get_params(deep=True)
observation_models.{FAMILIES}.set_params(**params)
observation_models.check_observation_model(observation_model, force_checks=False)  # force_checks

Regularizers
regularizer.{{UnRegularized,Ridge,Lasso,ElasticNet}}()
regularizer.GroupLasso(mask=None)
regularizer.{PENALTIES}.{{allowed_solvers,default_solver}}
regularizer.{PENALTIES}.check_solver(name)
regularizer.{PENALTIES}.allow_solver(name)
regularizer.{PENALTIES}.get_proximal_operator(params, strength)
regularizer.{PENALTIES}.penalized_loss(loss, params, strength)
regularizer.{PENALTIES}.get_params(deep=True)
regularizer.{PENALTIES}.set_params(**params)
regularizer.GroupLasso.mask
regularizer.GroupLasso.initialize_mask(params)  # initialize_mask
regularizer.apply_operator  # modules

Solvers
solvers.get_solver(name)
solvers.SolverSpec.{{algo_name,backend,implementation,full_name}}
solvers.register(algo_name, implementation, backend='custom', replace=False, default=False, validate=True, test_ridge_without_aux=False, test_ridge_with_aux=False)
solvers.set_default_backend(algo_name, backend)
solvers.list_algo_backends(algo_name)
solvers.list_available_solvers()
solvers.list_available_algorithms()
solvers.get_solver_documentation(solver, show_help=False)
solvers.validate_solver_class(solver_class, test_ridge, loss_has_aux)
solvers.SolverProtocol(unregularized_loss, regularizer, regularizer_strength, has_aux, init_params=None, **kwargs)
solvers.SolverProtocol.init_state(init_params, *args)
solvers.SolverProtocol.update(params, state, *args)
solvers.SolverProtocol.run(init_params, *args)
solvers.SolverProtocol.get_accepted_arguments()
solvers.OptimizationInfo.{{function_val,num_steps,converged,reached_max_steps}}
solvers.{{AbstractSolver,SolverAdapterState,StepResult,JAXOPT_AVAILABLE}}  # adapters
solvers.{{svrg_optimal_batch_and_stepsize,glm_softplus_poisson_l_max_and_l}}  # theory

Arguments of solvers
solvers.LBFGS(*, tol=0.0001, rtol=0, maxiter=500, stepsize=None, memory_size=10, scale_init_precond=True)  # arguments
solvers.GradientDescent(*, tol=0.0001, rtol=0, maxiter=500, stepsize=None, acceleration=True, max_stepsize=1.0)  # arguments
solvers.ProximalGradient(*, tol=0.0001, rtol=0, maxiter=500, stepsize=None, acceleration=True, max_stepsize=1.0)  # arguments
solvers.BFGS(*, tol=0.0001, rtol=0, maxiter=10000, stepsize=None, use_inverse=True, linesearch_kwargs=None, verbose=None)  # arguments
solvers.NonlinearCG(*, tol=0.0001, rtol=0, maxiter=10000, stepsize=None, method=None, linesearch_kwargs=None)  # arguments
solvers.{{SVRG,ProxSVRG}}(*, tol=0.001, maxiter=10000, stepsize=0.001, batch_size=1, key=None)  # arguments

Simulation
simulation.simulate_recurrent(coupling_coef, feedforward_coef, intercepts, random_key, feedforward_input, coupling_basis_matrix, init_y, inverse_link_function=softplus)
simulation.difference_of_gammas(ws, upper_percentile=0.99, inhib_a=1, excit_a=2, inhib_b=1, excit_b=2)
simulation.regress_filter(coupling_filters, eval_basis)
"""  # noqa: E501

#: Why ours differs; docs/differences.md says each, word for word.
REASONS = {
    "modules": "GLMs only: what makes features, what is internal, and what the package has no use for is not here",
    "kwargs": "an unknown argument is a `TypeError` all the same",
    "scale": "by default the dispersion of the model itself, which is 1.0 unless it was set",
    "force_checks": "subclasses of `Observations` need no check, and a duck-typed model is checked where it is used",
    "initialize_mask": "groups that were not given are those of the data at hand, and not kept",
    "adapters": "no library of solvers is wrapped",
    "theory": "`solvers.batch_size_and_stepsize` returns batch size and step from X and y",
    "arguments": "`tol` is in standard errors, for each neuron; what a library needs for itself is no argument",
}  # fmt: skip


class Row(NamedTuple):
    """One line of the list, with what is here under its names."""

    heading: str
    documented: str
    key: str | None
    ours: dict[str, str]  # signature by name, "" for an attribute
    differs: set[
        str
    ]  # arguments that are not the same here, or "missing" where there is no such thing

    @property
    def here(self) -> str:
        """What there is in this package, in words."""
        if not self.ours:
            return "not here"
        kinds = sorted(set(self.ours.values()))
        if self.differs:
            return ", ".join(f"`{kind}`" for kind in kinds)
        more = sorted({text for kind in kinds for text in _additions(self.documented, kind)})
        return "the same" + (f", and {', '.join(f'`{text}`' for text in more)}" if more else "")

    @property
    def name(self) -> str:
        """The last part of the documented name."""
        return self.documented.partition("(")[0].rpartition(".")[2]

    @property
    def shown(self) -> str:
        """The documented names, with the arguments."""
        _, bracket, arguments = self.documented.partition("(")
        names = [part.rpartition(".")[2] for part in _expanded(self.name)]
        return ", ".join(f"`{name}{bracket}{arguments}`" for name in names)

    @property
    def owners(self) -> str:
        """What the documented names belong to."""
        owner = self.documented.partition("(")[0].rpartition(".")[0]
        module, _, classes = owner.partition(".")
        whole = {ALL: "all estimators", CLASSIFIERS: "classifiers", PENALTIES: "all regularizers"}
        return whole.get(classes) or ", ".join(
            f"`{name}`" for name in _expanded(classes or module) if name
        )


def rows() -> list[Row]:
    """Return the list, compared with the package."""
    found, heading = [], ""
    for line in INTERFACE.strip().splitlines():
        documented, _, key = (part.strip() for part in line.partition("  # "))
        if not line or (" " in documented and "(" not in documented) or documented.isalpha():
            heading = documented or heading
            continue
        path, bracket, arguments = documented.partition("(")
        ours, differs = {}, set()
        for name in _expanded(path):
            thing = _find(name)
            if thing is _MISSING:
                differs.add("missing")
                continue
            ours[name] = _shown(thing) if bracket else ""
            if bracket:
                differs |= not_served(bracket + arguments, thing)
        found.append(Row(heading, documented, key or None, ours, differs))
    return found


def _expanded(path: str) -> list[str]:
    """Return the names that a path with braces stands for."""
    parts = [part.strip("{}").split(",") for part in re.findall(r"\{[^}]*\}|[^{}]+", path)]
    return ["".join(choice) for choice in itertools.product(*parts)]


_MISSING = object()


def _find(name: str):
    """Return what stands under a name in the package; attributes of estimators are those of instances."""
    thing = bayesglm
    for part in name.split("."):
        if inspect.isclass(thing) and not hasattr(thing, part):
            thing = thing()
        thing = getattr(thing, part, _MISSING)
    return thing


def _signature(thing) -> inspect.Signature:
    """Return the signature of a function, or of a method or class without its first argument."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    if function is object.__init__:
        return inspect.Signature()
    signature = inspect.signature(function)
    return signature.replace(
        parameters=[p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    )


def _default(parameter: inspect.Parameter) -> str | None:
    """Return a default as text, functions by their names."""
    default = parameter.default
    if default is inspect.Parameter.empty:
        return None
    return getattr(default, "__name__", None) or repr(default)


def _named(text: str) -> list[tuple[str, str, str | None]]:
    """Return name, kind and default of each documented argument."""
    arguments = ast.parse(f"def f{text}: pass").body[0].args
    names = [a.arg for a in arguments.args]
    defaults = [None] * (len(names) - len(arguments.defaults)) + arguments.defaults
    found = [(n, "positional", d) for n, d in zip(names, defaults, strict=True)]
    if arguments.vararg:
        found.append((arguments.vararg.arg, "rest", None))
    keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [(a.arg, "keyword", d) for a, d in keyword]
    if arguments.kwarg:
        found.append((arguments.kwarg.arg, "keywords", None))
    return [(n, kind, None if d is None else ast.unparse(d)) for n, kind, d in found]


_KINDS = {
    "positional": (inspect.Parameter.POSITIONAL_OR_KEYWORD,),
    "rest": (inspect.Parameter.VAR_POSITIONAL,),
    "keyword": (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD),
    "keywords": (inspect.Parameter.VAR_KEYWORD,),
}


def not_served(text: str, thing) -> set[str]:
    """Return the arguments with which a call by the documented signature does not mean the same here."""
    ours, wrong = _signature(thing).parameters, set()
    documented = _named(text)
    for place, (name, kind, default) in enumerate(documented):
        mine = ours.get(name)
        if mine is None or mine.kind not in _KINDS[kind]:
            wrong.add(name)
            continue
        optional = (
            default is None and kind == "positional"
        )  # what must be given there may be given here
        if not optional and _number(default) != _number(_default(mine)):
            wrong.add(name)
        if kind == "positional" and list(ours)[place] != name:
            wrong.add(name)
    known = {name for name, *_ in documented}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = (p for p in ours.values() if p.default is p.empty and p.kind not in free)
    return wrong | {p.name for p in required if p.name not in known}


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def _shown(thing) -> str:
    """Return a signature as text, without annotations."""
    parts, star = [], False
    for p in _signature(thing).parameters.values():
        star |= p.kind is p.VAR_POSITIONAL
        if p.kind is p.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = _default(p)
        parts.append(f"{prefix}{p.name}" + ("" if default is None else f"={default}"))
    return f"({', '.join(parts)})"


def _additions(documented: str, ours: str) -> list[str]:
    """Return the arguments that ours takes as well."""
    if "(" not in documented:
        return []
    known = {name for name, *_ in _named("(" + documented.partition("(")[2])}
    return [
        name if default is None else f"{name}={default}"
        for name, _, default in _named(ours)
        if name not in known
    ]


def page() -> str:
    """Return docs/interface.md."""
    lines = [
        "# The documented interface",
        "",
        "Names, keyword names, order and defaults that NeMoS 0.2.9 documents for its GLM side, and what there is here.",
        "A call by the left column means the same here unless the last column says why not",
        "([differences](differences.md)); a default that is a function stands under a name for what it does.",
        "`python -m tests.documented` in a checkout prints this page, and a test holds the two equal.",
    ]  # fmt: skip
    heading = None
    for row in rows():
        if row.heading != heading:
            heading = row.heading
            lines += [
                "",
                f"## {heading}",
                "",
                "| documented | of | here | why |",
                "|---|---|---|---|",
            ]
        reason = "" if row.key is None else REASONS[row.key]
        lines.append(f"| {row.shown} | {row.owners} | {row.here} | {reason} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
