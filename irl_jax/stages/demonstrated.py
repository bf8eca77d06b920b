"""The demonstrations as IRL reads them: which pairs, their tokens, and their labels.

Dims: N pairs.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from irl_jax.config import IRL
from irl_jax.errors import ConfigError
from irl_jax.evaluation import likelihoods
from irl_jax.irl import labels as labels_lib
from irl_jax.irl import pairs
from irl_jax.models import pretrained
from irl_jax.runtime.records import DemonstrationRow
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run

SIDES = ('aligned', 'base')
Demonstrated = tuple[Sequence[DemonstrationRow], Sequence[pairs.Pair]]  # rows [N], their tokens


def different(rows: Sequence[DemonstrationRow]) -> list[DemonstrationRow]:
  """Returns the demonstrations whose two texts differ; the others carry no evidence."""
  return [row for row in rows if row['aligned'] != row['base']]


def training_rows(rows: Sequence[DemonstrationRow], settings: IRL) -> list[DemonstrationRow]:
  """Returns the demonstrations to train on.

  An objective of single pairs gets those whose texts differ. A group objective averages over all
  samples of a prompt, so it gets all of them, including identical ones.
  """
  return list(rows) if settings.group_size > 1 else different(rows)


def encode_demonstrations(
  model: pretrained.Decoder, rows: Sequence[DemonstrationRow], settings: IRL
) -> list[pairs.Pair]:
  """Tokenises demonstrations."""
  return pairs.encode_pairs(
    model,
    full_texts(rows, 'aligned'),
    full_texts(rows, 'base'),
    settings.max_tokens,
    [row['prompt'] for row in rows],
  )


def with_log_ratios(
  run: Run, models: dict[str, pretrained.Decoder], rows: Sequence[DemonstrationRow], split: str
) -> list[DemonstrationRow]:
  """Returns a split's rows with the cumulative log-ratios of both texts, if IRL needs them.

  These are pairs of training and validation, with config.irl.pair_label other than 'source'. A
  ratio is that of the tokens that R̂ reads.

  Args:
    run: its settings of irl are used.
    models: the 'aligned' and the 'base' model.
    rows: the split's demonstrations; those that IRL does not read stay as they are.
    split: the name of the split.
  """
  settings = run.config.irl
  if settings.pair_label == 'source' or split == 'heldout':
    return list(rows)
  used = training_rows(rows, settings) if split == 'train' else different(rows)
  if not used:
    return list(rows)
  texts = pairs.texts_of(encode_demonstrations(models['base'], used, settings))
  ratios = likelihoods.cumulative_log_ratios(
    models['aligned'], models['base'], texts, run.config.evaluation.batch_size, run.dtype
  )
  values = [np.round(ratio, 4).tolist() for ratio in ratios]
  for row, aligned, base in zip(used, values[: len(used)], values[len(used) :]):
    row['log_ratio_aligned'], row['log_ratio_base'] = aligned, base
  return list(rows)


def labels_of(
  settings: IRL, training: Demonstrated, *others: Demonstrated
) -> list[labels_lib.Labels] | None:
  """Returns the labels of every set of pairs; None if the source is the label.

  Args:
    settings: its label is read.
    training: the training pairs, whose differences decide the scale.
    *others: other sets, such as the validation pairs.

  Raises:
    ConfigError: a row's log-ratios are missing, or are not those of its tokens.
  """
  if settings.pair_label == 'source':
    return None
  of_sets = [differences_of(*demonstrated) for demonstrated in (training, *others)]
  scale = labels_lib.deviation(of_sets[0])
  return [labels_lib.from_differences(one, settings.pair_label, scale) for one in of_sets]


def differences_of(
  rows: Sequence[DemonstrationRow], encoded: Sequence[pairs.Pair]
) -> list[np.ndarray]:
  """Returns the differences of the log-ratios of N pairs, as `labels.differences`.

  Raises:
    ConfigError: a row's log-ratios are missing, or are not those of its tokens.
  """
  of_sides = []
  for number, side in enumerate(SIDES):
    ratios = [cast(dict, row).get(f'log_ratio_{side}', ()) for row in rows]
    for row, ratio, pair in zip(rows, ratios, encoded):
      if len(ratio) != len(pair[number]):
        raise ConfigError(
          f'demos: the {side} text of prompt_id {row["prompt_id"]} has {len(ratio)} log-ratios and '
          f'{len(pair[number])} tokens; config.irl.pair_label needs one per token: run the stage '
          'demos in a new --workdir'
        )
    of_sides.append(ratios)
  return labels_lib.differences(*of_sides)
