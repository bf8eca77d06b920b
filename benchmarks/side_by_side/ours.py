"""What of irl_jax is timed, each through the entry point that its users and stages call. Random weights."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
import tempfile
from typing import Any
from unittest import mock

import jax
import numpy as np

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import pipeline
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import scoring
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.irl import loop as irl_loop
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.ppo import loop as ppo_loop
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import parallel
from irl_jax.training import checkpoint
from irl_jax.training import optimizer
from irl_jax.training import supervised
from side_by_side import inputs
from side_by_side import limits
from side_by_side import turns

ENDLESS = 10**6  # more steps than will be timed


def language_model(shape: limits.Shape, models: str) -> pretrained.Pretrained:
  """A Pythia of that shape; of 14m the one in `models`/neox_14m, where it is there."""
  compilation_cache.use()
  if shape == limits.PYTHIA['14m'] and (pathlib.Path(models) / 'neox_14m').is_dir():
    return pretrained.load(str(pathlib.Path(models) / 'neox_14m'))
  config = gpt_neox.GPTNeoXConfig(
    shape.vocabulary, shape.width, shape.blocks, shape.heads, shape.feed_forward
  )
  params = jax.device_get(gpt_neox.init(jax.random.key(0), config))
  return pretrained.Pretrained(
    'causal_lm', config, params, inputs.pythia_tokenizer(models), source='random weights'
  )


def classifier(shape: limits.Shape, models: str) -> pretrained.Pretrained:
  """A RoBERTa of that shape."""
  compilation_cache.use()
  config = roberta.RobertaConfig(
    shape.vocabulary,
    shape.width,
    shape.blocks,
    shape.heads,
    shape.feed_forward,
    labels=('neutral', 'toxic'),
  )
  params = jax.device_get(roberta.init(jax.random.key(0), config))
  return pretrained.Pretrained(
    'classifier',
    config,
    params,
    inputs.roberta_tokenizer(models),
    {'id2label': {'0': 'neutral', '1': 'toxic'}},
    source='random weights',
  )


def decode(
  lap: turns.Lap, *, shape: limits.Shape, batch: int, prompt: int, new: int, top_k: int, models: str
) -> None:
  """Samples `new` tokens after every prompt, none of them EOS; the weights are on the device before."""
  model = language_model(shape, models)
  settings = config_lib.Sampling(
    max_new_tokens=new, min_new_tokens=new, top_k=top_k, batch_size=batch
  )
  run = sampling.sampler(model.config, settings, pipeline.compute_dtype('auto'))
  allowed = distribution.allowed_for(model.tokenizer, model.config, 1.0)
  frozen = parallel.replicate((model.params, allowed)) + (jax.random.key(0),)
  ids = inputs.random_ids(batch, prompt, len(model.tokenizer))
  prompts = parallel.shard(batches.prompt_batch(ids, np.arange(batch), model.config.eos_token_id))
  turns.repeat(lap, lambda: parallel.gather(run(frozen, prompts)))


def scorer_of(shape: limits.Shape, tokens: int, models: str) -> rewards.Reward:
  """r* of a RoBERTa on the last `tokens` tokens of each text: what random weights write has no length of its own."""
  model = classifier(shape, models)
  apply = scoring.over_tokens(
    rewards.class_logits_of,
    model,
    tokens,
    model.config.pad_token_id,
    rewards.BATCH_SIZE,
    pipeline.compute_dtype('auto'),
  )
  encode = lambda texts: text.encode(model.tokenizer, texts, max_tokens=tokens, specials=True)[0]
  return lambda texts: -apply(encode(texts))[:, 1]


def ppo(
  lap: turns.Lap,
  *,
  shape: limits.Shape,
  scorer: limits.Shape,
  batch: int,
  prompt: int,
  new: int,
  epochs: int,
  trained_blocks: int,
  top_k: int,
  models: str,
) -> None:
  """Iterations of PPO: rollout, score, update, each waited for; each epoch is one minibatch."""
  config = config_lib.Config(
    data=config_lib.Data(max_prompt_tokens=prompt),
    sampling=config_lib.Sampling(max_new_tokens=new, min_new_tokens=new, top_k=top_k),
    ppo=config_lib.PPO(
      steps=ENDLESS,
      rollouts_per_step=batch,
      minibatch_size=batch,
      epochs=epochs,
      trained_blocks=trained_blocks,
      checkpoint_every=ENDLESS,
      samples_every=ENDLESS,
    ),
  )
  model, score, parts = language_model(shape, models), scorer_of(scorer, prompt + new, models), {}

  def timed(part: str, work: Callable) -> Callable:
    def call(*arguments: Any) -> Any:
      jax.block_until_ready(
        [one for one in arguments if isinstance(one, tuple)]
      )  # parameters that are still updated
      start = lap.elapsed()
      done = work(*arguments)
      jax.block_until_ready(getattr(done, 'responses', None))
      parts[part] = lap.elapsed() - start
      return done

    return call

  def log(step: int, metrics: dict[str, float]) -> None:
    del step, metrics
    lap(parts | {'update': lap.elapsed() - sum(parts.values())})

  rows = [
    {'prompt': prompt, 'original': ''}
    for prompt in inputs.texts_of(model.tokenizer, 4 * batch, prompt)
  ]
  with (
    tempfile.TemporaryDirectory() as folder,
    mock.patch.object(
      rollout_lib, 'start_sampling', timed('rollout', rollout_lib.start_sampling)
    ),
  ):
    ppo_loop.train(
      model,
      rows,
      timed('score', score),
      config,
      pathlib.Path(folder),
      dtype=pipeline.compute_dtype('auto'),
      log=log,
    )


def train(
  lap: turns.Lap, *, shape: limits.Shape, batch: int, tokens: int, steps: int, models: str
) -> None:
  """Epochs of language modelling, of so many steps each; no other text is looked at."""
  model = language_model(shape, models)
  texts = inputs.texts_of(model.tokenizer, batch * steps, tokens - 2)  # sft puts EOS on either side
  config = config_lib.Supervised(
    epochs=ENDLESS, batch_size=batch, max_tokens=tokens, checkpoint_every=ENDLESS
  )
  with tempfile.TemporaryDirectory() as folder:
    supervised.train_language_model(
      model,
      texts,
      [],
      config,
      0,
      pathlib.Path(folder),
      dtype=pipeline.compute_dtype('auto'),
      log=lambda step, metrics: lap(),
    )


def irl(lap: turns.Lap, *, shape: limits.Shape, pairs: int, tokens: int, models: str) -> None:
  """Epochs of IRL, everything trained; each ends with R̂ of as many other pairs, and a checkpoint."""
  train_irl = _irl_of(language_model(shape, models), pairs, tokens)
  with tempfile.TemporaryDirectory() as folder:
    train_irl(config_lib.IRL(epochs=ENDLESS), folder, lambda step, metrics: lap())


def irl_frozen(
  lap: turns.Lap, *, shape: limits.Shape, pairs: int, tokens: int, epochs: int, models: str
) -> None:
  """Whole trainings of a head on a frozen trunk."""
  train_irl = _irl_of(language_model(shape, models), pairs, tokens)
  while True:
    with tempfile.TemporaryDirectory() as folder:
      train_irl(config_lib.IRL(epochs=epochs, trained_blocks=0), folder, lambda step, metrics: None)
    lap()


def _irl_of(model: pretrained.Pretrained, pairs: int, tokens: int) -> Callable:
  """(config, folder, log) -> IRL on random pairs, with as many others to look at."""
  ids = inputs.random_ids(4 * pairs, tokens, len(model.tokenizer))
  drawn = list(zip(ids[::2], ids[1::2]))

  def train_irl(settings: config_lib.IRL, folder: str, log: Callable) -> None:
    settings = dataclasses.replace(
      settings, max_tokens=tokens, batch_size=min(settings.batch_size, pairs)
    )
    irl_loop.train(
      model,
      drawn[:pairs],
      drawn[pairs:],
      settings,
      0,
      pathlib.Path(folder),
      dtype=pipeline.compute_dtype('auto'),
      log=log,
    )

  return train_irl


def score(lap: turns.Lap, *, shape: limits.Shape, texts: Sequence[str], models: str) -> None:
  """r* of texts."""
  reward = rewards.true_reward(classifier(shape, models), dtype=pipeline.compute_dtype('auto'))
  turns.repeat(lap, lambda: reward(texts))


def load(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Reads a Hugging Face folder: weights and tokenizer, checked."""
  with tempfile.TemporaryDirectory() as folder:
    pretrained.save(f'{folder}/model', language_model(shape, models), 'random weights')
    turns.repeat(lap, lambda: pretrained.load(f'{folder}/model'))


def save(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Writes a Hugging Face folder, and reads it back to compare."""
  model = language_model(shape, models)
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: pretrained.save(f'{folder}/model', model, 'random weights'))


def checkpoint_save(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Writes parameters and both moments of AdamW through Orbax, to the last byte."""
  state = _train_state(shape, models)
  while True:
    with tempfile.TemporaryDirectory() as folder, checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(1, state, {})
    lap()


def checkpoint_load(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Reads the same back onto the device."""
  state = _train_state(shape, models)
  with tempfile.TemporaryDirectory() as folder:
    with checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(1, state, {})
    while True:
      with checkpoint.Checkpoints(folder) as checkpoints:
        jax.block_until_ready(checkpoints.restore(state)[1])
      lap()


def _train_state(shape: limits.Shape, models: str) -> Any:
  tx, _ = optimizer.adamw(learning_rate=1e-5, updates=ENDLESS)
  return optimizer.placed_state(language_model(shape, models).params, tx)
