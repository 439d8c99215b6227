"""How Sphinx builds the documentation: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

import re
from importlib.metadata import version as _version

project = "bayesglm"
author = "bayesglm contributors"
copyright = author  # noqa: A001
release = version = _version("bayesglm")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]

# The same dollars that a code host renders.
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# Docstrings are in NumPy's style; a class is documented once, with its constructor's parameters.
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_param = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
autoclass_content = "class"
default_role = "literal"  # `name` in a docstring is a name, as it is on these pages

html_theme = "furo"
html_title = f"bayesglm {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def tidy(app, what, name, obj, options, lines):
    """Keep the star of a shape such as (features, *outputs) from opening an emphasis, and link papers."""
    for i, line in enumerate(lines):
        line = re.sub(r"(?<=, )\*(?=[a-z])", r"\\*", line)
        line = re.sub(r"doi:(10\.\S*[^\s.,;)])", r"`doi:\1 <https://doi.org/\1>`__", line)
        lines[i] = re.sub(r"arXiv:(\d+\.\d+)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)


def skip_metadata_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn gives to every estimator, and explains itself."""
    return skip or name == "get_metadata_routing" or name.endswith("_request")


def setup(app):
    """Register the two."""
    app.connect("autodoc-process-docstring", tidy, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_metadata_routing)
