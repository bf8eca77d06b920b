"""A verdict claims no more than its interval allows."""

import pytest

from irl_jax.report import wording


@pytest.mark.parametrize(
  'value, bounds, verdict',
  [
    (0.95, None, 'yes'),
    (0.95, (0.7, 0.99), 'yes'),
    (0.95, (0.69, 0.99), 'partly'),
    (0.95, (0.0, 0.99), 'unknown'),
    (0.8, (0.01, 0.99), 'partly'),
    (0.8, (0.0, 0.89), 'unknown'),
    (0.5, (-0.2, 0.89), 'no'),
    (0.5, (0.1, 0.9), 'unknown'),
  ],
)
def test_a_verdict_claims_no_more_than_its_interval(value, bounds, verdict):
  assert wording.grade_within(value, bounds, 0.9, 0.7, chance=0.0) == verdict
