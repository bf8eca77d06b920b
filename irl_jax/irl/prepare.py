"""The starting point of training: the initial parameters, and the data.

Dims: N pairs, R of them, D width.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax.irl import frozen as frozen_lib
from irl_jax.irl import labels as labels_lib
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import reward as reward_lib
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import trunk as trunk_lib
from irl_jax.runtime import parallel
from irl_jax.training import optimizer

DIRECTION_PAIRS = 2000  # training pairs, drawn by the seed, that determine the first head


def initial_parts(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  dtype: DTypeLike,
  outputs: frozen_lib.Outputs = frozen_lib.Outputs(),
  labels: labels_lib.Labels | None = None,
) -> reward_lib.Parts:
  """Returns the base model's trunk under the first head, cut into trained and frozen parameters.

  Args:
    base: the language model that the reward starts from.
    pairs: training pairs.
    irl: hyper-parameters.
    seed: random seed for the head.
    dtype: the compute type.
    outputs: the frozen layers' outputs for both texts of every pair, if they are known.
    labels: of the pairs; None: the aligned texts are better.

  Raises:
    ConfigError: config.irl.trained_blocks exceeds the model's blocks.
  """
  trained, frozen = frozen_lib.split_trunk(base, irl)
  trained = optimizer.masters(trained)
  if irl.initial_head == 'random':
    head = heads.init_reward_head(jax.random.key(seed), base.config.hidden_size)
  else:
    rows = np.random.default_rng(seed).permutation(len(pairs))[:DIRECTION_PAIRS]
    states = features(base, pairs, rows, irl, (trained, frozen), dtype, outputs)
    of_rows = None if labels is None else labels_lib.of_whole_texts(labels)[rows]
    head = difference_head(states, base.config, of_rows)
  return trained | {'reward_head': head}, frozen


def difference_head(
  states: np.ndarray, config: trunk_lib.Config, label: np.ndarray | None = None
) -> reward_lib.Params:
  """Returns a head along the mean normalised state of aligned texts minus that of base texts.

  This is the direction that one step of matching feature expectations gives (Abbeel & Ng 2004).
  Trunk and head then learn together. With a random head, which differs for each seed, the trunk
  would first have to adapt to it.

  Args:
    states: the states of the aligned and the base texts [N, 2, D].
    config: the trunk's shape.
    label: how likely the aligned text of each pair is the better one [N]: its difference counts
      2 label - 1 times, as in the gradient of Bradley-Terry at Δ = 0. None: it is better.
  """
  if label is not None:
    both = [trunk_lib.normalise(jnp.asarray(states[:, side]), config) for side in (0, 1)]
    weighted = (2 * label - 1)[:, None] * (both[0] - both[1])
    return jax.device_get(heads.reward_head_along(jnp.mean(weighted, axis=0)))
  aligned, base = (
    jnp.mean(trunk_lib.normalise(jnp.asarray(states[:, side]), config), axis=0) for side in (0, 1)
  )
  return jax.device_get(heads.reward_head_along(aligned - base))


def features(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  rows: np.ndarray,
  irl: config_lib.IRL,
  parts: reward_lib.Parts,
  dtype: DTypeLike,
  outputs: frozen_lib.Outputs,
) -> np.ndarray:
  """Returns the trunk's pooled states [R, 2, D] of both texts of the pairs of R rows.

  What `outputs` has for the texts of all pairs is not computed again.
  """
  if outputs.features is not None:
    return pairs_lib.of_both(outputs.features)[rows]
  states = outputs.states and outputs.states.of_texts(np.append(rows, rows + len(pairs)))
  texts = pairs_lib.texts_of([pairs[row] for row in rows])
  return pairs_lib.of_both(frozen_lib.features(base, texts, irl, parts, dtype, states))


def training_data(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  outputs: frozen_lib.Outputs,
  labels: labels_lib.Labels | None = None,
) -> pairs_lib.PairDataset:
  """Returns the training data: token ids, and what is known of the frozen layers' outputs.

  Args:
    base: its padding token is used.
    pairs: N pairs.
    irl: its number of updates is used.
    outputs: the frozen layers' outputs for both texts of every pair.
    labels: of the pairs; None: the aligned texts are better.
  """
  updates = irl.epochs * len(pairs) // irl.batch_size
  dataset = pairs_lib.pair_dataset(pairs, base.config.eos_token_id, updates)
  pooled = None if outputs.features is None else pairs_lib.of_both(outputs.features)
  return dataclasses.replace(dataset, features=pooled, cut_hidden=outputs.states, labels=labels)


def over_pairs(
  run: Callable, parts: reward_lib.Parts, dataset: pairs_lib.PairDataset, batch_size: int
) -> np.ndarray:
  """Runs `run` (parts, batch [B] -> [B, ...]) over all pairs in order; returns [N, ...]."""
  blocks = pairs_lib.blocks_of_rows(len(dataset), batch_size)
  pending = [run(parts, parallel.shard(dataset.batch(rows))) for rows in blocks]
  return np.concatenate([parallel.gather(result) for result in pending])[: len(dataset)]
