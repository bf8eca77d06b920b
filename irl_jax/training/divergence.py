"""A check that ends training once it has diverged.

A non-finite parameter stays non-finite, so training ends at once and neither logs nor saves the
step.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from irl_jax import errors
from irl_jax.runtime import terminal


def check(
  where: str,
  values: Mapping[str, ArrayLike],
  skipped_in_row: int,
  limit: int,
  saved: str,
  remedy: str,
) -> None:
  """Ends training that diverges.

  Args:
    where: the stage and the step, for the message.
    values: numbers or arrays by their name in the message; all of them must be finite.
    skipped_in_row: the largest number of consecutive updates skipped because of a non-finite
      gradient.
    limit: the number of consecutive skipped updates that ends training.
    saved: describes the newest checkpoint, for the message (`Checkpoints.saved`).
    remedy: a sentence that says what the user can try.

  Raises:
    DivergedError: a value is not finite, or too many updates were skipped.
  """
  non_finite = [name for name, value in values.items() if not np.isfinite(value).all()]
  if non_finite:
    verb = terminal.plural(len(non_finite), 'is', 'are')
    raise errors.DivergedError(
      f'{where}: {" and ".join(non_finite)} {verb} not finite; {saved}. {remedy}'
    )
  if skipped_in_row >= limit:
    raise errors.DivergedError(
      f'{where}: {skipped_in_row} consecutive updates had a non-finite gradient and were skipped '
      f'(config.runtime.max_skipped_in_row = {limit}); {saved}. {remedy}'
    )
