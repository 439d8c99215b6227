"""Groups of a GroupLasso: which masks make sense, and what they mean."""

import numpy as np
import pytest
import tables
from test_regularizer import fit

from bayesglm.glm import PopulationGLM
from bayesglm.regularizer import GroupLasso

BAD_MASKS = {
    "one dimension": (np.ones(4), ValueError, "n_groups"),
    "values": (np.full((1, 4), 2), ValueError, "zeros and ones"),
    "overlap": (np.ones((2, 4)), ValueError, "one group"),
    "empty": (np.zeros((2, 4)), ValueError, "empty"),
    "groups of leaves": (
        {"a": np.eye(2), "b": np.array([[1, 0]])},
        ValueError,
        "same number of groups",
    ),
    "not an array": ("a mask", TypeError, "array"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_a_wrong_group_mask_is_refused_when_it_is_set(case):
    mask, error, message = BAD_MASKS[case]
    with pytest.raises(error, match=message):
        GroupLasso(mask)
    regularizer = GroupLasso(np.eye(4))
    with pytest.raises(error, match=message):
        regularizer.mask = mask
    np.testing.assert_array_equal(regularizer.mask, np.eye(4))


def test_a_group_mask_must_fit_the_features():
    y = tables.RESPONSES["Poisson"][:, 0]
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        fit(GroupLasso(np.ones((1, 3))), 0.1)
    with pytest.raises(ValueError, match=r"\(1, 4, 3\)"):
        fit(GroupLasso(np.ones((1, 4))), 0.1, y=tables.RESPONSES["Poisson"], kind=PopulationGLM)
    swapped = {"a": np.ones((1, 3)), "b": np.zeros((1, 1))}
    with pytest.raises(ValueError, match=r"\(1, 1\).*\(1, 3\)"):
        fit(GroupLasso(swapped), 0.1, {"a": tables.X[:, :1], "b": tables.X[:, 1:]}, y)


def test_fitting_leaves_the_group_mask_as_it_was_given():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
    regularizer = GroupLasso(mask)
    fit(regularizer, 0.05)
    assert regularizer.mask is mask
    shape = fit(regularizer, 0.05, {"only": tables.X}).coef_["only"].shape
    assert shape == (4,)


def test_by_default_the_leaves_are_the_groups():
    X = {"a": tables.X[:, :1], "b": tables.X[:, 1:]}
    automatic = fit("GroupLasso", 0.05, X)
    by_hand = fit(
        GroupLasso({"a": np.array([[1], [0]]), "b": np.array([[0] * 3, [1] * 3])}), 0.05, X
    )
    for key in X:
        np.testing.assert_allclose(automatic.coef_[key], by_hand.coef_[key], atol=1e-12)
