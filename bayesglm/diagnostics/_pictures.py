"""The pictures of a report, as inline SVG.

Texts and axes take the colour of the page around them, so that a picture can be read on light and on dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.rcsetup import cycler

from bayesglm import _families, _residuals, plotting
from bayesglm.diagnostics import _dependence, _draws, _fit, _scores

# Matplotlib leaves plain black out of SVG files, where it would stay black on dark pages.
_INK = "#010203"
_SIZE = (4.2, 2.7)
_MOST_PARAMETERS, _TRACES, _MOST_POINTS = 30, 3, 1500
# Letters of a label, and inches that a letter and a row take.
_LONGEST, _LETTER, _ROW = 24, 0.083, 0.19
_STYLE = {
    "svg.fonttype": "none", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False,
    "figure.subplot.left": 0.22, "figure.subplot.right": 0.97, "figure.subplot.bottom": 0.2,
    "figure.subplot.top": 0.96, "axes.titlesize": 10, "figure.facecolor": "white", "axes.facecolor": "white",
    "text.parse_math": False,  # names are the user's
    "legend.framealpha": 0.0, "axes.prop_cycle": cycler(color=["#3987e5", "#d9822b", "#2f9e6e", "#c45ab3"]),
}  # fmt: skip


class Picture(NamedTuple):
    """A picture with a title, what it shows in words, and how to read it."""

    title: str
    caption: str
    svg: str


def pictures(report) -> Iterator[Picture]:
    """Yield the pictures for which there is evidence."""
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    evidence = report._evidence
    k = _focus(report)
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # what plotting libraries warn of (layout, discrete data) is nothing that a reader of the report could act on
        warnings.simplefilter("ignore")
        for title, caption, draw in (
            *_of_population(report),
            *_of_fit(report, k),
            *_of_residuals(report, k),
            *_of_draws(evidence, k),
        ):
            figure = Figure(figsize=_SIZE)
            drawn = draw(figure)
            if isinstance(drawn, Figure):  # ArviZ makes figures of its own
                plt.close(drawn)
                yield Picture(title, caption, _svg(drawn, title, fits=False))
            else:
                yield Picture(title, caption, _svg(figure, title, fits=True))


def _focus(report) -> int:
    """Return the neuron that single pictures show: the worst one that has estimates."""
    evidence = report._evidence
    order = [0] if evidence.labels is None else [
        int(np.flatnonzero(evidence.labels == label)[0]) for label in report.table.index
    ]  # fmt: skip
    return next((k for k in order if evidence.finite[k]), order[0])


def _name(evidence, k: int) -> str:
    return "" if evidence.labels is None else f", neuron {evidence.labels[k]}"


def _of_population(report):
    """Return a strip for each check of a population that varies between neurons."""
    evidence = report._evidence
    if evidence.n_neurons == 1:
        return
    for check in report.checks.values():
        values = np.where(np.isfinite(check.values), check.values, np.nan)
        if np.isnan(values).all() or np.nanmin(values) == np.nanmax(values):
            continue

        def draw(figure, values=values, check=check):
            plotting.neurons(values, caution=check.limits[0], fail=check.limits[1], labels=evidence.labels,
                             ax=figure.subplots())  # fmt: skip

        caption = "Each neuron; dashed: limit for caution, solid: for failure."
        yield check.definition.title, caption, draw


def _of_fit(report, k: int):
    evidence = report._evidence
    if evidence.estimates is not None:
        some = _table_of(evidence, k).iloc[:_MOST_PARAMETERS]
        kind = "Posterior means" if evidence.tree is not None else "Estimates"
        caption = f"{kind}, each with its {evidence.estimates.attrs.get('interval', 'interval')}."
        yield (
            f"Coefficients{_name(evidence, k)}",
            caption,
            lambda figure: _coefficients(some, figure),
        )
    found = evidence.responses
    if found is None or not evidence.finite[k]:
        return
    if "calibration" in report.checks:
        bins = _fit.bins(found, k)
        if len(bins.count):
            yield (f"Calibration{_name(evidence, k)}",
                   "Observed against expected means; bars: two standard errors. On the line the means are right.",
                   lambda figure: plotting.bins(bins, figure.subplots()))  # fmt: skip
    if found.classes or not _families.is_known(found.model):
        return
    if evidence.tree is None and "residuals" in report.checks:
        values = _fit.transforms(found, k)
        yield (f"Residuals{_name(evidence, k)}", _ECDF,
               lambda figure: plotting.difference(values, figure.subplots()))  # fmt: skip
    spikes = _residuals.is_spike_train(found.model, found.y, found.weight)
    if "time_rescaling" in report.checks and spikes[k]:
        intervals = _fit.rescaled(found, k)
        yield (f"Time rescaling{_name(evidence, k)}",
               "Distribution of the intervals between spikes in rescaled time; within the band (99 %) the rate "
               "explains when spikes come.",
               lambda figure: plotting.ks(intervals, figure.subplots()))  # fmt: skip


def _of_residuals(report, k: int):
    """Return mean residuals along the feature with the strongest curve and along time, and their correlations."""
    evidence, found = report._evidence, report._evidence.responses
    if found is None or not evidence.finite[k] or "linearity" not in report.checks:
        return
    c, feature = _scores.most_curved(found, k)
    cells, name = _scores.cells(found, k, c), _name(evidence, k)
    name += f", class {evidence.settings['classes'][c]}" if found.classes else ""
    curve = _residuals.curve(cells.error, np.asarray(found.matrix[:, feature], float), cells.weight)
    caption = "Means of the residuals in bins, with two standard errors. Around zero, the model misses nothing there."
    label = _short(found.names[feature])
    yield (f"Residuals along {label}{name}",
           f"{caption} Of all features, this is the one with the strongest curve.",
           lambda figure: plotting.along(curve, label, figure.subplots()))  # fmt: skip
    if found.order is None:
        return
    ordered = cells.at(found.order.rows)
    drift = _residuals.curve(ordered.error, np.arange(len(ordered.error)) * 1.0, ordered.weight, 20)
    yield (f"Residuals over time{name}", caption,
           lambda figure: plotting.along(drift, "row, in order of time", figure.subplots()))  # fmt: skip
    values, error = _dependence.correlations(ordered, found.order)
    if len(values):
        yield (f"Dependence in time{name}",
               "Correlations of the residuals of rows so many rows apart; shaded: two standard errors if rows do not "
               "depend on each other.",
               lambda figure: plotting.correlations(values, error, figure.subplots()))  # fmt: skip


def _short(name: str) -> str:
    """Return a label that fits into a picture: its begin and its end, where labels differ."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}\u2026{name[-half:]}"


_ECDF = (
    "Distribution of the transforms minus the uniform one; within the band (99 %) the family fits."
)


def _table_of(evidence, k: int):
    """Return the rows of the table that belong to one neuron: coefficients, then intercepts."""
    each = int(np.prod(evidence.settings["outputs"], dtype=int))
    table = evidence.estimates.iloc[: (evidence.settings["features"] + 1) * each]
    rows = np.arange(len(table)).reshape(evidence.settings["features"] + 1, evidence.n_neurons, -1)
    return table.iloc[rows[:, k].ravel()]


def _coefficients(table, figure) -> None:
    """Plot parameters, as high as their labels need, beside the longest of these."""
    table = table.set_axis([_short(str(name)) for name in table.index])
    width, height = _SIZE[0], max(_SIZE[1], _ROW * len(table) + 0.7)
    figure.set_size_inches(width, height)
    longest = max((len(name) for name in table.index), default=0)
    figure.subplots_adjust(
        left=(0.25 + _LETTER * longest) / width, bottom=0.55 / height, top=1.0 - 0.1 / height
    )
    plotting.coefficients(table, ax=figure.subplots())


def _of_draws(evidence, k: int):
    if evidence.tree is None:
        return
    tree = evidence.tree if evidence.labels is None else _of_neuron(evidence.tree, k)
    found, names = _draws.statistics(evidence.tree, evidence.convergence)
    ess = found.ess_bulk[k]
    yield (f"Traces{_name(evidence, k)}",
           "Parameters with the fewest effective draws; chains should cover the same range, without trends.",
           lambda f: _trace(tree, ess, names))  # fmt: skip
    if "energy" in tree["sample_stats"] and "khat" not in tree["sample_stats"]:
        yield (f"Energy{_name(evidence, k)}",
               "Marginal energy and its changes; where the second is much narrower, tails are explored slowly.",
               lambda f: _energy(tree))  # fmt: skip
    loo = evidence.loo
    if loo is not None:
        if loo.transforms is not None:
            values = loo.transforms[k]
            yield (
                f"LOO-PIT{_name(evidence, k)}",
                _ECDF,
                lambda f: plotting.difference(values, f.subplots()),
            )
        yield (f"Pareto k{_name(evidence, k)}",
               f"Of each response; above {loo.good_k:.2f} leave-one-out is not to be trusted.",
               lambda f: _pareto(loo, k, f))  # fmt: skip
    if evidence.replicates is not None:
        yield (f"Replicated data{_name(evidence, k)}",
               "Histograms: statistics of data drawn from the posterior; lines: those of the data.",
               lambda f: _replicated(evidence.replicates, k, f))  # fmt: skip


def _of_neuron(tree, k: int):
    import xarray as xr

    return xr.DataTree.from_dict({
        name: group.dataset.isel(neuron=k, drop=True) if "neuron" in group.dims else group.dataset
        for name, group in tree.children.items()
    })  # fmt: skip


def _arviz(name: str, tree, size=_SIZE, **keywords):
    import arviz_plots

    found = getattr(arviz_plots, name)(
        tree, backend="matplotlib", figure_kwargs={"figsize": size}, **keywords
    )
    return found.viz["figure"].item()


def _energy(tree):
    figure = _arviz("plot_energy", tree)
    for ax, label in zip(figure.axes, ("E-BFMI of each chain", "energy"), strict=False):
        ax.set_title("")
        ax.set_xlabel(label)
    figure.axes[0].yaxis.get_major_locator().set_params(integer=True)
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            legend.set_loc("upper left")
            legend.set_bbox_to_anchor((0.52, 1.16), transform=figure.transFigure)
    return figure


def _trace(tree, ess, names):
    """Plot the chains of the parameters with the fewest effective draws."""
    import xarray as xr

    data = tree["posterior"].dataset
    worst = np.argsort(np.where(np.isnan(ess), np.inf, ess))[:_TRACES]
    draws = np.concatenate([_draws.by_neuron(v) for v in data.data_vars.values()], axis=3)
    # the names of parameters may hold what those of variables may not, such as a slash
    some = {str(j): (("chain", "draw"), draws[:, :, 0, j]) for j in worst}
    coords = {name: data[name].values for name in ("chain", "draw")}
    chosen = xr.DataTree.from_dict({"posterior": xr.Dataset(some, coords)})
    figure = _arviz("plot_trace", chosen, size=(_SIZE[0], 1.9 * len(worst)), col_wrap=1)
    figure.set_layout_engine("constrained", h_pad=0.08)
    for ax, j in zip(figure.axes, worst, strict=False):
        ax.set_xlabel("")
        ax.set_title(_short(names[j]))
        for line in ax.lines:
            line.set(rasterized=True, linewidth=0.5)
    return figure


def _pareto(loo, k: int, figure) -> None:
    ax = figure.subplots()
    values = loo.cells.k[loo.cells.weight[:, k] > 0, k]
    shown = np.unique(np.concatenate([
        np.argsort(-values)[:_MOST_POINTS // 2],
        np.linspace(0, len(values) - 1, _MOST_POINTS // 2).astype(int),
    ])) if len(values) > _MOST_POINTS else np.arange(len(values))  # fmt: skip
    ax.plot(shown, values[shown], ".", markersize=3, rasterized=True)
    ax.axhline(loo.good_k, color="0.5", linestyle="--", linewidth=1)
    ax.set(xlabel="response", ylabel="Pareto k")


def _replicated(found, k: int, figure) -> None:
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(_SIZE[0], 1.3 * _SIZE[1])
    figure.subplots_adjust(left=0.04, bottom=0.16, wspace=0.1, hspace=0.6)
    axes = figure.subplots(-(-len(found.observed) // 2), 2).ravel()
    for ax, (name, value) in zip(axes, found.observed.items(), strict=False):
        ax.hist(found.drawn[name][:, k], bins=15, alpha=0.6)
        ax.axvline(value[k], color=_INK)
        ax.set_yticks([])
        ax.set_xlabel(name)
        ax.xaxis.set_major_locator(MaxNLocator(4, prune="both"))


def _svg(figure, title: str, fits: bool) -> str:
    """Return a figure as an element; one whose labels may not fit into its margins is drawn twice to find its size."""
    import matplotlib

    target = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(
            target, format="svg", bbox_inches=None if fits else "tight", dpi=100, transparent=True
        )
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"#010203|#000000", "currentColor", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)  # that of the page
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z][\w.-]*)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true">',
        text,
        count=1,
    )
