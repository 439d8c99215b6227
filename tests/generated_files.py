"""Generated cases of what is kept in files, and of damage to these, and their laws: see generated.py."""

from __future__ import annotations

import contextlib
import copy
import functools
import io as textio
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import made_up
import numpy as np
import pandas as pd
import tables
from generated_base import (
    CLASSES,
    FACES,
    NEURONS,
    RESPONSES,
    VALUES,
    N,
    P,
    makes,
    outcome,
    results,
    same,
)
from generated_input import assert_unchanged, fitted, same_setting, state_of
from hypothesis import strategies as st
from problems import layout_of

import bayesglm as nmo
from bayesglm import io

# -- files ------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A fit with any names, which is written and read."""

    face: str
    tree: str
    keys: tuple
    names: tuple | None
    neurons: tuple | None
    labels: tuple
    regularizer: str
    strength: str
    draws: str


#: Texts that mean something to somebody.
WORDS = (
    "", " ", ".", "a.b", "a", "b", "[0]", "0", "'", '"', "/", "..", "\0", "a\0", "\ud800", "N/A", "nan", "None", "coef",
    "chain", "draw", "Größe ☃", "two\nlines", "\x1b[0m", "<b>&", "é", "e\u0301",
)  # fmt: skip
STRENGTHS = ("given", "default", "each")


@st.composite
def kept(draw, wide=False):
    """Draw names, labels and strengths."""
    one = lambda *some: draw(st.sampled_from(some))  # noqa: E731
    text = st.sampled_from(WORDS) | st.text(max_size=5)
    lists = lambda n, what: st.lists(what, min_size=n, max_size=n, unique=True)  # noqa: E731
    several = lambda n, what=text: draw(lists(n, what).map(tuple))  # noqa: E731
    tree = one("matrix", "dict", "nested")
    kinds = [
        text,
        st.integers(-(2**40), 2**40),
        st.floats(-1e9, 1e9),
        st.binary(min_size=1, max_size=3),
    ]
    penalties = [name for name in tables.REGULARIZERS if tree == "matrix" or name != "GroupLasso"]
    face, penalty, draws = one(*FACES), one(*penalties), one(*["none"] * 8, "made up", "sampled")
    if not wide and (face, penalty) != ("PopulationGLM", "Ridge") and draws == "sampled":
        draws = "made up"  # to compile samplers takes long
    return Kept(
        face, tree, several(3, one(text, st.integers())), one(None, several(P)),
        one(None, several(NEURONS), several(NEURONS, st.integers())), several(CLASSES, one(*kinds)),
        penalty, one(*STRENGTHS), draws,
    )  # fmt: skip


def check_kept(case: Kept) -> None:
    """Every name is one; a fit that was written, pickled or copied says the same, draws are the same."""
    made = outcome(lambda: _fit_kept(case))
    if made.error is not None:  # names that cannot be written
        return
    model, X, y = made.value
    expected = results(model, X)
    features = layout_of(model).feature_labels
    assert len(set(features)) == P, features
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        assert_saved(model, path)
        others = [nmo.load_model(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
        for other in others:
            same(results(other, X), expected)
            assert layout_of(other).names == layout_of(model).names
            assert list(map(str, layout_of(other).feature_labels)) == features
            for name, value in model.get_params().items():
                same_setting(other.get_params()[name], value)
        others[0].save_params(path)
        np.testing.assert_equal(io.read(path), io.read(Path(folder) / "again.npz"))
        if case.draws != "none":
            assert_draws_kept(model, others[0], Path(folder) / "draws.nc", case, X, y)


def _fit_kept(case):
    classifier, population = "Classifier" in case.face, "Population" in case.face
    y = RESPONSES["Poisson"]
    if classifier:
        y = np.array(case.labels)[tables.LABELS[:N]]
    y = y if population else y[:, 0]
    if population and case.neurons is not None:
        y = pd.DataFrame(y, columns=list(case.neurons))
    X = pd.DataFrame(VALUES["quarters"], columns=case.names)
    cut = lambda a, b: X.iloc[:, a:b]  # noqa: E731
    one, two, three = case.keys
    if case.tree == "dict":
        X = {one: cut(0, 2), two: cut(2, P)}
    elif case.tree == "nested":
        X = {one: {two: cut(0, 1), three: cut(1, 2)}, two: cut(2, P)}
    strength = tables.REGULARIZERS[case.regularizer]
    if case.strength == "default":
        strength = None
    elif case.strength == "each" and case.regularizer in ("Ridge", "Lasso"):
        outputs = (NEURONS,) * population + (CLASSES,) * classifier
        strength = jax.tree.map(lambda leaf: np.full((leaf.shape[1], *outputs), 0.1), X)
    model = makes(case.face, "Categorical" if classifier else "Poisson")
    model.set_params(regularizer=case.regularizer, regularizer_strength=strength)
    return model.fit(X, y), X, y


def assert_saved(model, path) -> None:
    """Hold that a file is written, by its name or another, and can be looked at."""
    model.save_params(path)
    model.save_params(str(path.with_name("again")))
    with contextlib.redirect_stdout(textio.StringIO()) as shown:
        nmo.inspect_npz(path)
    assert type(model).__name__ in shown.getvalue()


def assert_draws_kept(model, loaded, path, case, X, y) -> None:
    """Hold that draws are the same in a file."""
    if case.draws == "sampled":
        how = {"method": "laplace", "num_samples": 4, "num_chains": 2, "progress_bar": False}
        # an unregularized posterior may be improper
        if outcome(lambda: model.sample_posterior(X, y, **how)).error is not None:
            return
    else:
        model.posterior_ = made_up.drawn(model)
    model.posterior_.to_netcdf(path)
    loaded.posterior_ = path
    assert_same_draws(loaded.posterior_, model.posterior_)


def assert_same_draws(found, expected) -> None:
    """Hold that two trees hold the same numbers, labels and attributes."""
    assert set(found.children) == set(expected.children)
    for name in expected.children:
        one, two = found[name].dataset, expected[name].dataset
        assert one.drop_attrs().identical(two.drop_attrs())
        for key, value in two.attrs.items():
            assert str(np.ravel(one.attrs[key])) == str(np.ravel(value)), key


class Damage(NamedTuple):
    """What happens to a file, at places given as shares of its length."""

    face: str
    changes: tuple[tuple[str, float, float], ...]


def _flip(content, a, b):
    place = int(a * len(content))
    return content[:place] + bytes([content[place] ^ 1 << int(8 * b)]) + content[place + 1 :]


def _put(content, a, b):
    place = int(a * len(content))
    return content[:place] + bytes([int(256 * b)]) + content[place + 1 :]


def _stretch(a, b):
    """Return begin and length of a stretch: short ones are as likely as long ones."""
    return lambda n: (int(a * n), max(1, int(np.exp(b * np.log(n)))))


def _zero(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[:begin] + bytes(len(content[begin : begin + length])) + content[begin + length :]


def _cut(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[:begin] + content[begin + length :]


def _twice(content, a, b):
    begin, length = _stretch(a, b)(len(content))
    return content[: begin + length] + content[begin : begin + length] + content[begin + length :]


def _exchange(content, a, b):
    begin, length = _stretch(a, b)(len(content) // 2)
    half = len(content) // 2
    one, two = content[begin : begin + length], content[half + begin : half + begin + length]
    return (
        content[:begin] + two + content[begin + len(one) : half + begin] + one
        + content[half + begin + len(two) :]
    )  # fmt: skip


BYTES = {
    "flip": _flip,
    "put": _put,
    "truncate": lambda content, a, b: content[: int(a * len(content))],
    "more": lambda content, a, b: content + content[: int(a * len(content))],
    "zero": _zero,
    "cut": _cut,
    "twice": _twice,
    "exchange": _exchange,
}


def _members(change):
    """Return a change of the members of an .npz file, whose checksums are right again."""

    def apply(content, a, b):
        with zipfile.ZipFile(textio.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        names = list(members)
        change(members, names[int(a * len(names))], names[int(b * len(names))])
        new = textio.BytesIO()
        with zipfile.ZipFile(new, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return new.getvalue()

    def safely(content, a, b):
        with contextlib.suppress(Exception):  # damaged before
            return apply(content, a, b)
        return content

    return safely


def _swap(members, one, two):
    members[one], members[two] = members[two], members[one]


def _from_another(members, one, two):
    with zipfile.ZipFile(textio.BytesIO(saved("GLM", other=True))) as archive:
        if two in archive.namelist():
            members[one] = archive.read(two)


MEMBERS = {
    "swap members": _members(_swap),
    "copy a member": _members(lambda members, one, two: members.update({one: members[two]})),
    "drop a member": _members(lambda members, one, two: members.pop(one)),
    "member of another": _members(_from_another),
}


@functools.cache
def saved(face, other=False) -> bytes:
    """Return the file of a fit."""
    model, X, y = fitted(face)
    if other:
        model = copy.copy(model).fit(X[::-1], y)
    with tempfile.TemporaryDirectory() as folder:
        model.save_params(Path(folder) / "model.npz")
        return (Path(folder) / "model.npz").read_bytes()


@functools.cache
def drawn(face) -> bytes:
    """Return the file of draws."""
    with tempfile.TemporaryDirectory() as folder:
        fitted(face)[0].posterior_.to_netcdf(Path(folder) / "draws.nc")
        return (Path(folder) / "draws.nc").read_bytes()


@st.composite
def damage(draw, changes):
    """Draw one or two changes of a file."""
    share = st.floats(0.0, 1.0, exclude_max=True)
    one = st.tuples(st.sampled_from([*changes]), share, share)
    return Damage(
        draw(st.sampled_from([*FACES])), tuple(draw(st.lists(one, min_size=1, max_size=2)))
    )


def check_damaged_fit(case: Damage) -> None:
    """A damaged file is refused by its name, or the damage does not matter."""
    model, X, y = fitted(case.face)
    content = saved(case.face)
    for kind, a, b in case.changes:
        content = (BYTES | MEMBERS)[kind](content, a, b) if content else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(content)
        found = outcome(lambda: nmo.load_model(path))
    if found.error is not None:
        assert_names(found.error, path)
        return
    same(results(found.value, X, y), results(model, X, y))
    assert repr(found.value) == repr(model)


def check_damaged_draws(case: Damage) -> None:
    """A damaged file of draws is refused by its name, and the estimator is as before; or the damage does not matter."""
    model, _, _ = fitted(case.face)
    model = copy.copy(model)
    content = drawn(case.face)
    for kind, a, b in case.changes:
        content = BYTES[kind](content, a, b) if content else content
    before = state_of(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.nc"
        path.write_bytes(content)
        found = outcome(lambda: setattr(model, "posterior_", path))
    if found.error is not None:
        assert_names(found.error, path)
        assert_unchanged(model, before)
        return
    assert_same_draws(model.posterior_, before["_posterior"][0].tree)


def assert_names(error, path) -> None:
    """Hold that an error is a ValueError with the name of a file."""
    assert isinstance(error, ValueError), repr(error)
    assert path.name in str(error), str(error)
