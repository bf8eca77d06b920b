"""Distances against a loop over the inverse covariance, and the share that the flag passes."""

from bayesian import familiarity
import numpy as np
import pytest

RNG = np.random.default_rng(0)
MIX = np.array([[3.0, 0, 0], [2, 1, 0], [0, 0.5, 0.1]])


def texts(count):
  return (RNG.normal(size=(count, 3)) @ MIX.T + [5, -2, 100]).astype(np.float32)


def test_distances_equal_a_loop_over_the_inverse_covariance():
  seen, new = texts(500), texts(4)
  found = familiarity.fit(seen)
  seen64 = seen.astype(np.float64)
  deviation = np.sqrt(((seen64 - seen64.mean(0)) ** 2).mean(0))
  np.testing.assert_allclose(found.standardise(seen).mean(0), 0, atol=1e-9)
  np.testing.assert_allclose(found.standardise(seen).std(0), 1)
  inverse = np.linalg.inv(np.corrcoef(seen64.T) + familiarity.RIDGE * np.eye(3))
  for text, distance in zip(new, found.distance(new)):
    z = (text - seen64.mean(0)) / deviation
    assert distance == pytest.approx(
      np.sqrt(sum(z[i] * inverse[i, j] * z[j] for i in range(3) for j in range(3)))
    )


def test_the_flag_passes_99_of_100_ordinary_texts_and_stops_others():
  found = familiarity.fit(texts(4000))
  limit = familiarity.limit(found.distance(texts(4000)))
  assert np.mean(found.distance(texts(4000)) > limit) == pytest.approx(0.01, abs=0.006)
  along, across = MIX @ [3, 0, 0], np.array([3.0, -2, 0])  # as the texts vary, and as they never do
  assert np.mean(found.distance(texts(200) + along) > limit) < 0.7
  assert np.mean(found.distance(texts(200) + across) > limit) == 1


def test_what_never_varies_neither_divides_by_zero_nor_hides_a_change():
  seen = texts(100)
  seen[:, 1] = 7
  found = familiarity.fit(seen)
  assert found.deviation[1] == 1 and np.isfinite(found.distance(seen)).all()
  changed = seen.copy()
  changed[:, 1] += 1
  assert found.distance(changed).min() > 30 > found.distance(seen).max()


def test_fewer_texts_than_features_still_have_distances():
  found = familiarity.fit(RNG.normal(size=(5, 20)))
  assert np.isfinite(found.distance(RNG.normal(size=(3, 20)))).all()


@pytest.mark.parametrize('features', [np.zeros((1, 3)), np.array([[0, np.inf], [1, 2]])])
def test_what_cannot_be_fitted_is_refused(features):
  with pytest.raises(ValueError, match='finite'):
    familiarity.fit(features)
