"""Laws of the label encoder: decoding undoes encoding, and nothing unknown passes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesglm.labels import LabelEncoder

quick = settings(max_examples=40, deadline=None, database=None)

LABELS = st.one_of(
    st.sets(st.integers(-(2**40), 2**40), min_size=2, max_size=6),
    st.sets(st.text(st.characters(exclude_characters="\0"), max_size=4), min_size=2, max_size=6),
    st.sets(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=6),
    st.just({False, True}),
)
KINDS = {
    "default": np.array([2, 0, 1, 1]),
    "integers": np.array([7, -3, 100, 7]),
    "unsigned": np.array([7, 3, 200, 7], dtype=np.uint8),
    "floats": np.array([0.5, -1.5, 2.5, 0.5]),
    "strings": np.array(["b", "a", "long label", "b"]),
    "bytes": np.array([b"b", b"a", b"c", b"b"]),
    "objects": np.array(["b", "a", "long label", "b"], dtype=object),
    "variable": np.array(["b", "a", "long label", "b"], dtype=np.dtypes.StringDType()),
    "tuples": np.array([(1, 2), (0, 5), (3, 0), (1, 2)], dtype="O,O").astype(object),
    "dates": np.array(["2020-02-01", "2020-01-01", "2021-01-01", "2020-02-01"], dtype="M8[D]"),
}


def encoder_for(y):
    encoder = LabelEncoder(len(np.unique(y)))
    encoder.set_classes(y)
    return encoder


@quick
@given(LABELS, st.data())
def test_decode_undoes_encode(labels, data):
    labels = sorted(labels)
    y = np.array(data.draw(st.permutations(labels + labels)))
    encoder = encoder_for(y)
    index = encoder.encode(y)
    np.testing.assert_array_equal(np.asarray(encoder.decode(index)), y)
    np.testing.assert_array_equal(encoder.classes_, np.array(labels))
    assert index.dtype == np.intp


@pytest.mark.parametrize("y", KINDS.values(), ids=KINDS)
def test_index_orders_as_labels(y):
    expected = np.unique(y, return_inverse=True)[1]
    np.testing.assert_array_equal(encoder_for(y).encode(y), expected)


@pytest.mark.parametrize("y", KINDS.values(), ids=KINDS)
def test_two_dimensional_labels_encode_elementwise(y):
    encoder = encoder_for(y)
    index = encoder.encode(y.reshape(2, 2))
    np.testing.assert_array_equal(index, encoder.encode(y).reshape(2, 2))
    assert np.asarray(encoder.decode(index)).shape == (2, 2)


@pytest.mark.parametrize("y", [[0, 1, 2], [5, -1, 3], [True, False]])
def test_jax_and_numpy_labels_encode_alike(y):
    encoder = encoder_for(np.array(y))
    np.testing.assert_array_equal(encoder.encode(jnp.array(y)), encoder.encode(np.array(y)))
    assert encoder == encoder_for(jnp.array(y))


@pytest.mark.parametrize("y", [[0, 1, 2], [5, -1, 3]])
def test_integral_floats_match_integers_both_ways(y):
    integers, floats = np.array(y), np.array(y, dtype=float)
    expected = encoder_for(integers).encode(integers)
    np.testing.assert_array_equal(encoder_for(integers).encode(floats), expected)
    np.testing.assert_array_equal(encoder_for(floats).encode(integers), expected)


@pytest.mark.parametrize("y", [[0.0, 1.0, np.nan, 2.0], [5.5, np.inf, -1.0, np.nan, 3.0]])
@pytest.mark.parametrize("as_array", [np.array, jnp.array])
def test_missing_floats_are_no_class_and_encode_as_minus_one(y, as_array):
    y = as_array(y)
    encoder = LabelEncoder(3)
    encoder.set_classes(y)
    np.testing.assert_array_equal(encoder.encode(y) == -1, ~np.isfinite(np.asarray(y)))


@pytest.mark.parametrize("dtype", [object, np.dtypes.StringDType()])
def test_strings_match_whatever_array_holds_them(dtype):
    plain = np.array(["b", "a", "long label", "b"])
    other = plain.astype(dtype)
    assert encoder_for(other).classes_.dtype.kind == "U"
    assert encoder_for(other) == encoder_for(plain)
    np.testing.assert_array_equal(
        encoder_for(plain).encode(other), encoder_for(other).encode(plain)
    )


def test_objects_that_are_integers_from_zero_are_default():
    assert encoder_for(np.array([1, 0, 2], dtype=object)).is_default


def test_missing_objects_are_no_class_and_encode_as_minus_one():
    y = np.array(["b", None, "a", np.nan], dtype=object)
    encoder = LabelEncoder(2)
    encoder.set_classes(y)
    assert encoder.encode(y).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize(
    ("known", "given_labels", "named"),
    [
        ([0, 1, 2], [0, 3, 1], "3"),
        ([0, 1, 2], [0, -1, 1], "-1"),
        ([0, 1, 2], [0, 0.5, 1], "0.5"),
        ([0, 1, 2], ["1", "2", "0"], "'1'"),
        ([4, 6, 9], [4, 5, 9], "5"),
        ([4, 6, 9], [4, 10, 9], "10"),
        ([4, 6, 9], ["4", "6", "9"], "'4'"),
        (["a", "b"], ["a", "c"], "'c'"),
        (["a", "b"], [0, 1], "0"),
        ([False, True], [0, 2], "2"),
    ],
)
def test_unknown_labels_are_named(known, given_labels, named):
    encoder = encoder_for(np.array(known))
    with pytest.raises(ValueError, match=named):
        encoder.encode(np.array(given_labels))
    with pytest.raises(ValueError, match=named):
        encoder.encode(np.array(given_labels, dtype=object))
    if np.array(given_labels).dtype.kind in "if":
        with pytest.raises(ValueError, match=named):
            encoder.encode(jnp.array(given_labels))


def test_narrow_unsigned_labels_outside_the_range_are_unknown():
    """A uint8 cannot hold -1: marking the unknown must not overflow or wrap."""
    encoder = LabelEncoder(2)
    encoder.set_classes([0, 1])
    assert encoder.encode(np.array([1, 0], dtype=np.uint8)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="255"):
        encoder.encode(np.array([255], dtype=np.uint8))


def test_default_labels_decode_to_jax_integers_and_others_to_numpy():
    default, other = encoder_for([0.0, 1.0]), encoder_for(["a", "b"])
    decoded = default.decode([1, 0])
    assert hasattr(decoded, "devices")
    assert jnp.issubdtype(decoded.dtype, jnp.integer)
    assert default.is_default
    assert default.classes_.dtype.kind == "i"
    assert type(other.decode([1, 0])) is np.ndarray
    assert not other.is_default


def test_booleans_come_back_as_booleans():
    encoder = encoder_for([True, False])
    assert encoder.decode(encoder.encode([True, False])).dtype == bool


@pytest.mark.parametrize("y", [[0, 1], [0, 1, 2, 3]])
def test_wrong_number_of_classes_leaves_the_earlier_ones(y):
    encoder = encoder_for(["a", "b", "c"])
    with pytest.raises(ValueError, match=f"Found {len(y)} .* 3"):
        encoder.set_classes(y)
    assert encoder == encoder_for(["a", "b", "c"])


def test_unsortable_labels_are_refused():
    with pytest.raises(TypeError, match="sortable"):
        LabelEncoder(2).set_classes(np.array(["a", 1], dtype=object))


@pytest.mark.parametrize("n_classes", [3, 3.0, np.int8(3), np.array([3]), jnp.array(3)])
def test_integral_class_counts_are_accepted(n_classes):
    encoder = LabelEncoder(n_classes)
    assert encoder.n_classes == 3
    assert type(encoder.n_classes) is int


@pytest.mark.parametrize("n_classes", [1, 0, -2, 2.5, "3", None, np.nan, np.inf, [2], np.ones(2)])
def test_other_class_counts_are_refused(n_classes):
    message = "The number of classes must be an integer greater than or equal to 2."
    with pytest.raises(ValueError, match=message):
        LabelEncoder(n_classes)


def test_unset_classes_name_the_method():
    encoder = encoder_for([0, 1])
    encoder.reset()
    start = "^Classes are not set. Must call ``set_classes`` before calling .*"
    with pytest.raises(RuntimeError, match=start + "predict_proba"):
        encoder.check_classes_is_set("predict_proba")
    with pytest.raises(RuntimeError, match=start + "encode"):
        encoder.encode([0, 1])
    with pytest.raises(RuntimeError, match=start + "decode"):
        encoder.decode([0, 1])


def test_equality_compares_classes():
    fresh = LabelEncoder(2)
    assert fresh == LabelEncoder(2)
    assert fresh != LabelEncoder(3)
    assert fresh != encoder_for([0, 1])
    assert encoder_for([0, 1]) == encoder_for([1.0, 0.0])
    assert encoder_for([0, 1]) != encoder_for([0, 2])
    assert encoder_for([0, 1]) != encoder_for(["a", "b"])
    assert fresh != "LabelEncoder"
