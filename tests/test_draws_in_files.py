"""Draws come back from files as they were, or a ValueError names the file and the estimator is as before."""

import h5netcdf
import numpy as np
import pytest
import xarray as xr
from made_up import DRAWS, FACES, drawn, fitted


@pytest.fixture
def path(tmp_path):
    return tmp_path / "draws.nc"


def same(found, expected):
    """Whether two trees hold the same, values and labels bit by bit."""
    groups = set(found.children) == set(expected.children)
    return groups and all(
        found[name].dataset.drop_attrs().identical(expected[name].dataset.drop_attrs())
        and all(str(np.ravel(found[name].attrs[k])) == str(np.ravel(v)) for k, v in expected[name].attrs.items())
        for name in expected.children
    )  # fmt: skip


@pytest.mark.parametrize("face", FACES)
def test_draws_come_back_from_a_file(face, path):
    estimator = fitted(face)
    tree = drawn(estimator)
    tree.to_netcdf(path)
    estimator.posterior_ = str(path)
    assert same(estimator.posterior_, tree)
    estimator.posterior_ = tree
    assert estimator.posterior_ is tree
    estimator.posterior_.to_netcdf(path, encoding={"/posterior": {"coef": {"zlib": True}}})
    estimator.posterior_ = path
    assert same(estimator.posterior_, tree)


def change(group, **variables):
    """Return a change of some variables of a group, each by a function."""

    def apply(tree):
        data = tree[group].to_dataset()
        tree[group] = xr.DataTree(data.assign({k: f(data[k]) for k, f in variables.items()}))

    return apply


def without(group, name):
    def apply(tree):
        tree[group] = xr.DataTree(tree[group].to_dataset().drop_vars(name))

    return apply


def with_first(value):
    """Return a function that replaces one entry."""

    def replace(array):
        changed = array.copy(deep=True)
        changed[(0,) * array.ndim] = value
        return changed

    return replace


def drop_group(name):
    def apply(tree):
        del tree[name]

    return apply


as_text = lambda array: array.astype(str)  # noqa: E731
fewer = lambda array: array.isel(draw=slice(1)).rename(draw="other")  # noqa: E731
turned = lambda array: array.transpose(..., "chain")  # noqa: E731
#: Damages that can be seen without a checksum.
DAMAGES = {
    "no group": drop_group("sample_stats"),
    "no coefficients": without("posterior", "coef"),
    "no intercepts": without("posterior", "intercept"),
    "no responses": without("observed_data", "y"),
    "no labels": without("posterior", "feature"),
    "other labels": change("posterior", feature=lambda a: a.copy(data=a.values[::-1])),
    "a draw that is NaN": change("posterior", coef=with_first(np.nan)),
    "a draw that is infinite": change("posterior", intercept=with_first(np.inf)),
    "a dispersion that is NaN": change("posterior", scale=with_first(np.nan)),
    "coefficients of text": change("posterior", coef=as_text),
    "dispersions of text": change("posterior", scale=as_text),
    "responses of text": change("observed_data", y=as_text),
    "statistics of text": change("sample_stats", lp=as_text),
    "coefficients the other way round": change("posterior", coef=turned),
    "intercepts the other way round": change("posterior", intercept=turned),
    "fewer dispersions": change("posterior", scale=fewer),
    "fewer statistics": change("sample_stats", lp=fewer),
    "a log prior of text": change("log_prior", coef=as_text),
    "no draws": lambda tree: tree.update(tree.isel(draw=slice(0)).children),
}


def refused(estimator, path, match=None):
    """The file is refused by name, and the draws of before are there."""
    before = estimator.posterior_
    with pytest.raises(ValueError, match=match) as caught:
        estimator.posterior_ = path
    assert path.name in str(caught.value)
    assert estimator.posterior_ is before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_draws_that_are_not_whole_are_refused_without_a_checksum_too(damage, path):
    estimator = fitted("GLM")
    estimator.posterior_ = drawn(estimator)
    tree = drawn(estimator)
    for group in tree.children.values():
        del group.attrs["checksum"]
    damage(tree)
    tree.to_netcdf(path)
    refused(estimator, path)
    with pytest.raises(ValueError, match="posterior|draws|group"):
        estimator.posterior_ = tree


@pytest.mark.parametrize("face", FACES)
def test_no_number_label_or_attribute_can_change_unseen(face, path):
    estimator = fitted(face)
    for group in ("posterior", "sample_stats", "observed_data", "log_prior"):
        for name in drawn(estimator)[group].variables:
            tree = drawn(estimator)
            values = tree[group][name].values
            other = values.copy()
            # the smallest change that a number, a truth or a label can suffer
            first, kind = values.ravel()[0], values.dtype.kind
            step = {"f": lambda v: np.nextafter(v, np.inf), "U": lambda v: v + "x"}
            other.ravel()[0] = step.get(kind, lambda v: v ^ 1)(first)
            change(group, **{name: lambda array, other=other: (array.dims, other)})(tree)
            with pytest.raises(ValueError, match="checksum|other labels|another model"):
                estimator.posterior_ = tree
    tree = drawn(estimator)
    tree["posterior"].attrs["n_train"] = tree["posterior"].attrs["n_train"] + 1
    with pytest.raises(ValueError, match="checksum"):
        estimator.posterior_ = tree


def test_changed_draws_are_taken_once_their_checksum_is_deleted(path):
    estimator = fitted("PopulationGLM")
    tree = drawn(estimator).isel(draw=slice(None, None, 2))
    tree.to_netcdf(path)
    refused(estimator, path, match=r"del tree\['posterior'\]\.attrs\['checksum'\]")
    for group in tree.children.values():
        group.attrs.pop("checksum")
    estimator.posterior_ = tree
    assert estimator.posterior_["posterior"].sizes["draw"] == (DRAWS + 1) // 2
    tree["posterior"]["more"] = tree["posterior"]["coef"] * 2  # what one adds is one's own
    estimator.posterior_ = tree


def test_no_file_makes_arrays_far_beyond_its_size(path):
    estimator = fitted("PopulationGLM")
    drawn(estimator).to_netcdf(path)
    with h5netcdf.File(path, "a") as file:  # a terabyte that takes no space
        group = file["sample_stats"]
        group.dimensions["more"] = 1 << 37
        group.create_variable("more", ("more",), float, chunks=(1 << 20,))
    refused(estimator, path, match="claims")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of h5netcdf
def test_damaged_bytes_are_refused_or_do_not_matter(path):
    """Bytes that the file does not use may change; thousands of such files were tried when this was written."""
    estimator = fitted("PopulationGLM")
    tree = drawn(estimator)
    tree.to_netcdf(path)
    content = path.read_bytes()
    rng = np.random.default_rng(5)
    for place in rng.integers(len(content), size=25):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        for damaged in (content[:place], bytes(flipped)):
            path.write_bytes(damaged)
            try:
                estimator.posterior_ = path
            except ValueError as error:
                assert path.name in str(error)
            else:
                assert same(estimator.posterior_, tree)


def test_missing_files_and_folders_keep_their_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        fitted("GLM").posterior_ = tmp_path / "draws.nc"
    with pytest.raises(IsADirectoryError):
        fitted("GLM").posterior_ = tmp_path
