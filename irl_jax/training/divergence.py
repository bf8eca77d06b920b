"""Training that has gone wrong ends at once: what is not finite once stays so, and is neither logged nor saved."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from irl_jax import errors


def check(
  where: str, figures: Mapping[str, Any], skipped_in_row: int, limit: int, kept: str, remedy: str
) -> None:
  """Ends training that diverges.

  Args:
    where: the stage and the step, for the message.
    figures: numbers or arrays by their name in the message, all of which must be finite.
    skipped_in_row: the most updates in a row that were left out because a gradient was not finite.
    limit: how many are too many.
    kept: which checkpoint is left (`Checkpoints.kept`).
    remedy: what may help, a sentence.

  Raises:
    DivergedError: a figure is not finite, or too many updates were left out.
  """
  spoilt = [name for name, values in figures.items() if not np.isfinite(values).all()]
  if spoilt:
    verb = 'is' if len(spoilt) == 1 else 'are'
    raise errors.DivergedError(
      f'{where}: {" and ".join(spoilt)} {verb} not finite; {kept}. {remedy}'
    )
  if skipped_in_row >= limit:
    raise errors.DivergedError(
      f'{where}: {skipped_in_row} updates in a row had a gradient that is not finite and were '
      f'left out (config.runtime.max_skipped_in_row = {limit}); {kept}. {remedy}'
    )
