"""Any text may be a name of features or a class: in files, tables, reports and pictures."""

import json

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import drawn, fitted

import bayesglm as nmo
from bayesglm._design import feature_labels
from bayesglm.diagnostics import _pictures

NAMES = (
    "a/b", "a.b", "/", "../..", ".", "N/A", "nan", "None", "", " ", "a, b", "[0]", "0", "coef", "posterior", "chain",
    "draw", "Größe ☃", "it's \"quoted\"", "two\nlines", "x" * 300, "<b>&amp;", "-->", "$", r"$\frac{$", "%s {0}", r"\0",
)  # fmt: skip
#: Labels of classes of each kind.
CLASSES = {
    "texts": NAMES,
    "integers": (-1, 0, 7),
    "floats": (0.5, 1.0, 1e300),
    "truths": (False, True),
}
# Matplotlib has no glyph for it; the text of an SVG is drawn by the browser
GLYPHS = "ignore:Glyph"


@pytest.fixture(params=CLASSES)
def estimator(request):
    found = fitted("ClassifierGLM", NAMES, CLASSES[request.param])
    found.posterior_ = drawn(found)
    return found


def test_any_name_comes_back_from_files(estimator, tmp_path):
    estimator.save_params(tmp_path / "model.npz")
    estimator.posterior_.to_netcdf(tmp_path / "draws.nc")
    found = nmo.load_model(tmp_path / "model.npz")
    found.posterior_ = tmp_path / "draws.nc"
    assert list(found.coef_) == list(estimator.coef_)
    np.testing.assert_array_equal(found.classes_, estimator.classes_)
    assert found.classes_.dtype == estimator.classes_.dtype
    nmo.inspect_npz(tmp_path / "model.npz")
    nothing = np.zeros((3, 1))
    X = dict.fromkeys(NAMES, nothing)
    np.testing.assert_array_equal(found.predict(X), estimator.predict(X))


def test_no_two_features_have_one_label():
    trees = {"a.b": 1, "a": {"b": 1, "b[0]": 1}, "'a.b'": 1, "": {"": 1}, "a[0": {"]": 1}, "\0": 1}
    structure = jax.tree.structure(trees)
    labels = feature_labels(structure, [1] * structure.num_leaves)
    assert len(set(labels)) == structure.num_leaves
    assert feature_labels(jax.tree.structure({"a": {"b": 1}}), [2]) == ["a.b[0]", "a.b[1]"]
    assert all(label.isprintable() for label in labels)  # and so in any file


@pytest.mark.filterwarnings(GLYPHS)
def test_any_name_stands_in_tables_and_reports(estimator, tmp_path):
    features = estimator.posterior_["posterior"]["feature"].values
    names = [f"coef[{feature}, {label}]" for feature in features for label in estimator.classes_]
    assert len(set(names)) == len(NAMES) * estimator.n_classes
    assert set(names) < set(estimator.summary().index)
    report = estimator.report()
    assert report.verdict in str(report)
    assert "<svg" in report._repr_html_()
    report.save(tmp_path / "report.html")
    report.save(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(names) < {row["parameter"] for row in told["parameters"]}


@pytest.mark.filterwarnings(GLYPHS)
def test_any_name_may_be_that_of_a_trace():
    """A report shows those of the parameters with the fewest effective draws."""
    for first in range(0, len(NAMES), 3):
        some = NAMES[first : first + 3]
        ess = np.append(np.arange(len(some)), [np.nan, np.nan])  # intercept and dispersion
        with matplotlib.rc_context(_pictures._STYLE):
            figure = _pictures._trace(drawn(fitted("GLM", some)), ess, [*some, "", ""])
            svg = _pictures._svg(figure, "Traces", fits=False)
        titles = [ax.get_title() for ax in figure.axes]
        assert all(
            title == _pictures._short(name) for title, name in zip(titles, some, strict=True)
        )
        assert svg.startswith("<svg")
        plt.close(figure)
