"""Recovers one reward from demonstrations: shuffled minibatches of pairs, the epoch of least validation loss is kept.

Dims: B pairs, S padded length.
"""

import pathlib
from typing import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import batches
from irl_jax import checkpoint
from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import interruption
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax import text
from irl_jax.irl import export
from irl_jax.irl import objectives
from irl_jax.irl import update as update_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of the aligned and of the base text


def encode_pairs(model: pretrained.Pretrained, aligned: Sequence[str], base: Sequence[str], max_tokens: int
                 ) -> list[Pair]:
  """Whole texts to token ids, nothing added before or behind; an empty text is EOS alone."""
  limit = min(max_tokens, model.config.max_position_embeddings)
  encode = lambda texts: [ids or [model.config.eos_token_id]
                          for ids in text.encode(model.tokenizer, texts, max_tokens=limit)[0]]
  return list(zip(encode(aligned), encode(base)))


def pair_batch(pairs: Sequence[Pair], weight: np.ndarray, pad_id: int, length: int) -> structs.PairBatch:
  """Right-padded pairs; weight [B] is 0 for those that only fill the batch."""
  aligned, base = zip(*pairs)
  return structs.PairBatch(batches.text_batch(aligned, pad_id, length), batches.text_batch(base, pad_id, length),
                           np.asarray(weight, np.float32))


def padded_length(pairs: Sequence[Pair]) -> int:
  """One length for all pairs, so that the update compiles once."""
  return batches.round_up(max(max(map(len, pair)) for pair in pairs))


def differences(score_pairs: Callable, parts, pairs: Sequence[Pair], batch_size: int, pad_id: int) -> np.ndarray:
  """Δ [N] of all pairs, in their order."""
  length = padded_length(pairs)
  out = np.zeros(len(pairs), np.float32)
  for rows in batches.by_length([max(pair, key=len) for pair in pairs], batch_size):
    batch = pair_batch([pairs[row] for row in rows], np.ones(len(rows)), pad_id, length)
    out[rows] = parallel.gather(score_pairs(parts, parallel.shard(batch)))
  return out


def train(base: pretrained.Pretrained, training: Sequence[Pair], validation: Sequence[Pair], irl: config_lib.IRL,
          seed: int, folder: pathlib.Path, *, dtype=jnp.float32, keep: int = 2,
          log: Callable[[int, dict[str, float]], None], truncate_log: Callable[[int], None] = lambda step: None,
          progress: Callable = iter) -> pretrained.Pretrained:
  """Recovers a reward by max-margin IRL; continues from the newest checkpoint in `folder`.

  Args:
    base: the language model that the reward starts from.
    training: pairs that are trained on.
    validation: pairs whose loss selects the epoch.
    irl: hyper-parameters.
    seed: of the head's first direction and the order of the data.
    folder: of the checkpoints.
    dtype: of computation.
    keep: checkpoints that stay.
    log: called after every epoch with the number of updates and metrics.
    truncate_log: called with the first update that this run will do.
    progress: wraps the iterable of epochs.

  Returns:
    The uncentred reward (its zero is 0) of the epoch with the least validation loss.

  Raises:
    ConfigError: there are more blocks to train than the model has.
    DivergedError: the validation loss is not finite.
  """
  pad_id, length = base.config.eos_token_id, padded_length(training)
  batch_size = parallel.batch_size(irl.batch_size, len(training))
  per_epoch = max(len(training) // batch_size, 1)
  tx, _ = optimizer.adamw(learning_rate=irl.learning_rate, updates=irl.epochs * per_epoch, schedule=irl.schedule,
                          warmup=irl.warmup_steps, weight_decay=irl.weight_decay)
  statics = dict(config=base.config, dtype=dtype)
  update = parallel.map_update(update_lib.update, irl=irl, tx=tx, **statics)
  score_pairs = parallel.map_forward(update_lib.score_pairs, **statics)
  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = heads.init_reward_head(jax.random.key(seed), base.config.hidden_size)
  try:
    trained, frozen = gpt_neox.split(trunk | {'reward_head': head}, irl.trained_blocks)
  except ValueError as error:
    raise errors.ConfigError(f'config.irl.{error}') from error
  state = parallel.replicate(optimizer.new_state(parallel.replicate(trained), tx))
  frozen = parallel.replicate(frozen)
  best = parallel.replicate(trained)
  objective = objectives.objective(irl.objective, irl.margin, irl.temperature)
  with checkpoint.Checkpoints(folder, keep) as checkpoints:
    first, best_loss = 0, float('inf')
    if restored := checkpoints.restore({'state': state, 'best': best}):
      first, saved, meta = restored
      state, best, best_loss = saved['state'], saved['best'], meta['best_loss']
    truncate_log(first * per_epoch)
    for epoch in progress(range(first, irl.epochs)):
      history = []
      for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
        rows = batches.shuffled_indices(len(training), batch_size, step, seed)
        batch = pair_batch([training[row] for row in rows], np.ones(batch_size), pad_id, length)
        state, metrics = update(state, frozen, parallel.shard(batch))
        history.append(metrics)
      delta = differences(score_pairs, (state.params, frozen), validation, batch_size, pad_id)
      loss = float(np.mean(objective(delta)))
      if not np.isfinite(loss):
        raise errors.DivergedError(f'IRL epoch {epoch}: the validation loss is not finite; lower '
                                   'config.irl.learning_rate')
      if loss < best_loss:
        best, best_loss = jax.tree.map(jnp.copy, state.params), loss
      averaged = {name: float(np.mean([metrics[name] for metrics in jax.device_get(history)])) for name in history[0]}
      log((epoch + 1) * per_epoch - 1, averaged | {
          'epoch': epoch + 1, 'validation/loss': loss, 'validation/margin': float(delta.mean()),
          'validation/pairwise_accuracy': float(np.mean((delta > 0) + 0.5 * (delta == 0)))})
      checkpoints.save(epoch + 1, {'state': state, 'best': best}, {'best_loss': best_loss})
      if interruption.requested() and epoch + 1 < irl.epochs:
        interruption.stop()
  return export.reward_model(base, best, frozen, zero=0.0)


def recentred(model: pretrained.Pretrained, zero: float) -> pretrained.Pretrained:
  """The same uncentred reward with its 0 at `zero`."""
  head = {'direction': model.params['score']['kernel'][:, 0]}
  return export.reward_model(model, model.params | {'reward_head': head}, {}, zero)
