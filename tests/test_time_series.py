"""pynapple objects in give pynapple objects out."""

import jax
import numpy as np
import pynapple as nap
import pytest
from faces import FACES, Y, by_hand
from tables import COEF, N_SAMPLES, X

from bayesglm.glm import PopulationGLM

TIME = np.arange(N_SAMPLES) * 0.5
SUPPORT = nap.IntervalSet([0.0, 60.0], [50.0, 100.0])


def on_time(values, **keywords):
    kind = nap.Tsd if values.ndim == 1 else nap.TsdFrame
    return kind(t=TIME, d=values, time_support=SUPPORT, **keywords)


def assert_on_time(found, values):
    rows = on_time(X)
    assert isinstance(found, (nap.Tsd, nap.TsdFrame, nap.TsdTensor))
    np.testing.assert_array_equal(found.t, rows.t)
    np.testing.assert_array_equal(found.time_support.values, rows.time_support.values)
    np.testing.assert_array_equal(np.asarray(found.d), values)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("structure", ["frame", "dict"])
def test_time_series_in_gives_time_series_out(face, structure):
    make, _, outputs = FACES[face]
    coef = np.resize(COEF, (4, *outputs))
    intercept = np.zeros(outputs or 1)
    classes = [0, 1, 2] if "Classifier" in face else None
    rows, plain = on_time(X), np.asarray(on_time(X).d)
    if structure == "dict":
        rows = {"a": on_time(X[:, :3]), "b": on_time(X[:, 3:])}
        plain = {key: np.asarray(value.d) for key, value in rows.items()}
        coef = {"a": coef[:3], "b": coef[3:]}
    estimator = by_hand(make, coef, intercept, 1.0, classes)
    assert_on_time(estimator.predict(rows), estimator.predict(plain))
    key = jax.random.key(0)
    for mine, theirs in zip(
        estimator.simulate(key, rows), estimator.simulate(key, plain), strict=True
    ):
        assert_on_time(mine, theirs)
    if classes:
        assert_on_time(estimator.predict_proba(rows), estimator.predict_proba(plain))
    assert isinstance(estimator.predict(plain), jax.Array)


def test_columns_and_metadata_of_the_responses_come_back():
    y = on_time(Y, columns=["x", "y", "z"], metadata={"area": ["V1", "V1", "MT"]})
    estimator = PopulationGLM().fit(on_time(X), y)
    alone = PopulationGLM().fit(np.asarray(on_time(X).d), np.asarray(y.d))
    np.testing.assert_array_equal(estimator.coef_, alone.coef_)
    for found in (
        estimator.predict(on_time(X)),
        *estimator.simulate(jax.random.key(0), on_time(X)),
    ):
        assert list(found.columns) == ["x", "y", "z"]
        assert list(found["area"]) == ["V1", "V1", "MT"]
    assert estimator.score(on_time(X), y) == alone.score(np.asarray(on_time(X).d), np.asarray(y.d))
