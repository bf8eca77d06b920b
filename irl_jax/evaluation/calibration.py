"""What is said of the scale of one recovered reward: its zero, how sure that is, and how much of it is saturated."""

from typing import Any

from irl_jax.evaluation.zero import saturation, zero


def calibration(scores, bootstrap_samples: int, seed: int) -> dict[str, Any]:
  """Describes a reward by its uncentred scores [N] of unlabelled texts that it was not trained on.

  A reliable zero means that the texts fall into two classes, not that these are the toxic and the harmless ones.

  Returns:
    zero with its 95 % interval zero_low to zero_high, reliable_zero (bool), saturated (share of |R| > .9); under
    'why' the reason where the zero is not reliable.

  Raises:
    ValueError: a score is not finite.
  """
  found = zero(scores, bootstrap_samples, seed)
  plain = {'zero': found['zero'], 'zero_low': found['low'], 'zero_high': found['high'],
           'reliable_zero': found['reliable'], 'saturated': saturation(scores)}
  return plain | ({} if found['reliable'] else {'why': {'reliable_zero': found['why']}})
