"""The starting point of training: the initial parameters, and the frozen layers' outputs.

Dims: N pairs, S padded length, D width.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import reward as reward_lib
from irl_jax.irl import update as update_lib
from irl_jax.models import cut as cut_lib
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
) -> reward_lib.Parts:
  """Returns the base model's trunk under the first head, cut into trained and frozen parameters.

  Raises:
    ConfigError: config.irl.trained_blocks exceeds the model's blocks.
  """
  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  try:
    trained, frozen = cut_lib.split(trunk, irl.trained_blocks)
  except ValueError as error:
    raise errors.ConfigError(f'config.irl.{error}') from error
  trained = optimizer.masters(trained)
  if irl.initial_head == 'random':
    head = heads.init_reward_head(jax.random.key(seed), base.config.hidden_size)
  else:
    rows = np.random.default_rng(seed).permutation(len(pairs))[:DIRECTION_PAIRS]
    states = features(base, [pairs[row] for row in rows], irl, (trained, frozen), dtype)
    head = difference_head(states, base.config)
  return trained | {'reward_head': head}, frozen


def difference_head(states: np.ndarray, config: trunk_lib.Config) -> reward_lib.Params:
  """Returns a head along the mean normalised state of aligned texts minus that of base texts.

  This is the direction that one step of matching feature expectations gives (Abbeel & Ng 2004).
  Trunk and head then learn together. With a random head, which differs for each seed, the trunk
  would first have to adapt to it.

  Args:
    states: the states of the aligned and the base texts [N, 2, D].
    config: the trunk's shape.
  """
  aligned, base = (
    jnp.mean(trunk_lib.normalise(jnp.asarray(states[:, side]), config), axis=0) for side in (0, 1)
  )
  return jax.device_get(heads.reward_head_along(aligned - base))


def features(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  parts: reward_lib.Parts,
  dtype: DTypeLike,
) -> np.ndarray:
  """Returns the trunk's pooled states [N, 2, D] of both texts of every pair."""
  return pairs_lib.compute_features(
    pairs,
    scoring.over_tokens(
      reward_lib.features,
      reward_lib.with_parts(base, parts),
      base.config.max_position_embeddings,
      base.config.eos_token_id,
      rewards.BATCH_SIZE,
      dtype,
      pooling=irl.pooling,
    ),
  )


def training_data(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  parts: reward_lib.Parts,
  dtype: DTypeLike,
  runtime: config_lib.Runtime = config_lib.Runtime(),
) -> pairs_lib.PairDataset:
  """Builds the training data: token ids, plus the frozen layers' outputs, computed once.

  These are the features if only the head is trained. Otherwise they are the activations at the cut,
  if they fit in `runtime.activation_cache`.
  """
  updates = irl.epochs * len(pairs) // irl.batch_size
  dataset = pairs_lib.pair_dataset(pairs, base.config.eos_token_id, updates)
  if irl.trained_blocks == 0 and not irl.prefix_weight:
    return dataclasses.replace(dataset, features=features(base, pairs, irl, parts, dtype))
  longest = dataset.buckets[-1]
  size = 2 * len(pairs) * longest * base.config.hidden_size * jnp.dtype(dtype).itemsize
  if irl.trained_blocks == -1 or size > runtime.activation_cache * 2**30:
    return dataset
  statics: dict[str, Any] = dict(config=base.config, dtype=dtype)
  run = parallel.map_forward(update_lib.cut_hidden, **statics)
  frozen = parallel.replicate(cut_lib.stored(parts[1], dtype))
  batch_size = parallel.batch_size(rewards.BATCH_SIZE, len(pairs))
  of_one_length = dataclasses.replace(dataset, buckets=(longest,))
  cut_hidden = over_pairs(run, frozen, of_one_length, batch_size)
  return dataclasses.replace(dataset, cut_hidden=cut_hidden)


def over_pairs(
  run: Callable, parts: reward_lib.Parts, dataset: pairs_lib.PairDataset, batch_size: int
) -> np.ndarray:
  """Runs `run` (parts, batch [B] -> [B, ...]) over all pairs in order; returns [N, ...]."""
  blocks = pairs_lib.blocks_of_rows(len(dataset), batch_size)
  pending = [run(parts, parallel.shard(dataset.batch(rows))) for rows in blocks]
  return np.concatenate([parallel.gather(result) for result in pending])[: len(dataset)]
