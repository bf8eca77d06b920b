"""The timed parts of irl_jax, through the entry points of users and stages. Random weights."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import jax
import numpy as np

from irl_jax import config as c
from irl_jax import distribution
from irl_jax import pipeline
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import scoring
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.irl import loop as irl_loop
from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.ppo import loop as ppo_loop
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import parallel
from irl_jax.training import checkpoint
from irl_jax.training import optimizer
from irl_jax.training import supervised
from side_by_side import costs
from side_by_side import inputs
from side_by_side import turns

ROOT = pathlib.Path(__file__).parents[2]
ENDLESS = 10**6  # more steps than will be timed
TOP_K = 30
LABELS = ('neutral', 'toxic')


def language_model(shape: costs.Shape) -> pretrained.Pretrained:
  """A Pythia of that shape; for 14m, `neox_14m` of the models' folder if it is there."""
  compilation_cache.use()
  given = inputs.place(inputs.MODELS, 'neox_14m')
  if shape == costs.PYTHIA['14m'] and given.is_dir():
    return pretrained.load(str(given))
  config = gpt_neox.GPTNeoXConfig(
    shape.vocabulary, shape.width, shape.blocks, shape.heads, shape.feed_forward
  )
  params = jax.device_get(gpt_neox.init(jax.random.key(0), config))
  return pretrained.Pretrained(
    'causal_lm', config, params, inputs.tokenizer('pythia_tokenizer'), source='random weights'
  )


def classifier(shape: costs.Shape) -> pretrained.Pretrained:
  """A RoBERTa of that shape."""
  compilation_cache.use()
  config = encoder.EncoderConfig(
    shape.vocabulary, shape.width, shape.blocks, shape.heads, shape.feed_forward, labels=LABELS
  )
  params = jax.device_get(encoder.init(jax.random.key(0), config))
  names = {'id2label': dict(zip('01', LABELS))}
  tokenizer = inputs.tokenizer('roberta_tokenizer')
  return pretrained.Pretrained('classifier', config, params, tokenizer, names, 'random weights')


def dtype() -> Any:
  """The type that a run computes in here."""
  return pipeline.compute_dtype('auto')


def decode(lap: turns.Lap, work: costs.Work) -> None:
  """Samples tokens after every prompt, none of them EOS; the weights are placed before."""
  model = language_model(work.shape)
  settings = c.Sampling(
    max_new_tokens=work.new, min_new_tokens=work.new, top_k=TOP_K, batch_size=work.batch
  )
  run = sampling.sampler(model.config, settings, dtype())
  allowed = distribution.allowed_for(model.tokenizer, model.config, 1.0)
  frozen = (*parallel.replicate((model.params, allowed)), jax.random.key(0))
  ids = inputs.random_ids(work.batch, work.prompt, len(model.tokenizer))
  batch = batches.prompt_batch(ids, np.arange(work.batch), model.config.eos_token_id)
  prompts = parallel.shard(batch)
  turns.repeat(lap, lambda: parallel.gather(run(frozen, prompts)))


def scorer_of(shape: costs.Shape, tokens: int) -> rewards.Reward:
  """r* of a RoBERTa on the last `tokens` tokens: random text has no length of its own."""
  model = classifier(shape)
  apply = scoring.over_tokens(
    rewards.class_logits_of, model, tokens, model.config.pad_token_id, rewards.BATCH_SIZE, dtype()
  )
  encode = lambda texts: text.encode(model.tokenizer, texts, max_tokens=tokens, specials=True)[0]
  return lambda texts: -apply(encode(texts))[:, 1]


def ppo(lap: turns.Lap, work: costs.Work) -> None:
  """Iterations of PPO: rollout, score, update, each waited for; each epoch is one minibatch."""
  config = c.Config(
    data=c.Data(max_prompt_tokens=work.prompt),
    sampling=c.Sampling(max_new_tokens=work.new, min_new_tokens=work.new, top_k=TOP_K),
    ppo=c.PPO(
      steps=ENDLESS,
      rollouts_per_step=work.batch,
      minibatch_size=work.batch,
      epochs=work.epochs,
      trained_blocks=work.trained_blocks,
      checkpoint_every=ENDLESS,
      samples_every=ENDLESS,
    ),
  )
  model, parts = language_model(work.shape), {}
  score = scorer_of(work.scorer, work.prompt + work.new)

  def timed(part: str, function: Callable) -> Callable:
    def call(*arguments: Any) -> Any:
      # Parameters may still be computing.
      jax.block_until_ready([one for one in arguments if isinstance(one, tuple)])
      start = lap.elapsed()
      done = function(*arguments)
      jax.block_until_ready(getattr(done, 'responses', None))
      parts[part] = lap.elapsed() - start
      return done

    return call

  def log(step: int, metrics: dict[str, float]) -> None:
    del step, metrics
    lap(parts | {'update': lap.elapsed() - sum(parts.values())})

  prompts = inputs.texts_of(model.tokenizer, 4 * work.batch, work.prompt)
  rows = [{'prompt': prompt, 'original': ''} for prompt in prompts]
  sampled = mock.patch.object(
    rollout_lib, 'start_sampling', timed('rollout', rollout_lib.start_sampling)
  )
  with tempfile.TemporaryDirectory() as folder, sampled:
    scored = timed('score', score)
    ppo_loop.train(model, rows, scored, config, pathlib.Path(folder), dtype=dtype(), log=log)


def train(lap: turns.Lap, work: costs.Work) -> None:
  """Epochs of language modelling, of `epochs` steps each; there is no validation."""
  model, steps = language_model(work.shape), work.epochs
  # sft puts EOS on either side.
  texts = inputs.texts_of(model.tokenizer, work.batch * steps, work.tokens - 2)
  config = c.Supervised(
    epochs=ENDLESS, batch_size=work.batch, max_tokens=work.tokens, checkpoint_every=ENDLESS
  )
  log = lambda step, metrics: lap()
  with tempfile.TemporaryDirectory() as folder:
    supervised.train_language_model(
      model, texts, [], config, 0, pathlib.Path(folder), dtype=dtype(), log=log
    )


def irl(lap: turns.Lap, work: costs.Work) -> None:
  """Epochs of IRL, everything trained; each ends with a validation and a checkpoint."""
  train_irl = _irl_of(work)
  with tempfile.TemporaryDirectory() as folder:
    train_irl(c.IRL(objective='asymmetric', epochs=ENDLESS), folder, lambda step, metrics: lap())


def irl_frozen(lap: turns.Lap, work: costs.Work) -> None:
  """Whole trainings of a head on a frozen trunk."""
  train_irl = _irl_of(work)
  settings = c.IRL(objective='asymmetric', epochs=work.epochs, trained_blocks=0)
  while True:
    with tempfile.TemporaryDirectory() as folder:
      train_irl(settings, folder, lambda step, metrics: None)
    lap()


def _irl_of(work: costs.Work) -> Callable:
  """(config, folder, log) -> IRL on random pairs, with as many others for validation."""
  model = language_model(work.shape)
  ids = inputs.random_ids(4 * work.pairs, work.tokens, len(model.tokenizer))
  drawn = list(zip(ids[::2], ids[1::2]))

  def train_irl(settings: c.IRL, folder: str, log: Callable) -> None:
    size = min(settings.batch_size, work.pairs)
    settings = dataclasses.replace(settings, max_tokens=work.tokens, batch_size=size)
    pairs, others = drawn[: work.pairs], drawn[work.pairs :]
    where = pathlib.Path(folder)
    irl_loop.train(model, pairs, others, settings, 0, where, dtype=dtype(), log=log)

  return train_irl


def score(lap: turns.Lap, work: costs.Work) -> None:
  """r* of texts."""
  reward = rewards.true_reward(classifier(work.scorer), dtype=dtype())
  turns.repeat(lap, lambda: reward(work.texts))


def load(lap: turns.Lap, work: costs.Work) -> None:
  """Reads a Hugging Face folder: weights and tokenizer, checked."""
  with tempfile.TemporaryDirectory() as folder:
    pretrained.save(f'{folder}/model', language_model(work.shape), 'random weights')
    turns.repeat(lap, lambda: pretrained.load(f'{folder}/model'))


def save(lap: turns.Lap, work: costs.Work) -> None:
  """Writes a Hugging Face folder, and reads it back to compare."""
  model = language_model(work.shape)
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: pretrained.save(f'{folder}/model', model, 'random weights'))


def checkpoint_save(lap: turns.Lap, work: costs.Work) -> None:
  """Writes parameters and both moments of AdamW through Orbax, to the last byte."""
  state = _train_state(work.shape)
  while True:
    with tempfile.TemporaryDirectory() as folder, checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(1, state, {})
    lap()


def checkpoint_load(lap: turns.Lap, work: costs.Work) -> None:
  """Reads the same back onto the device."""
  state = _train_state(work.shape)
  with tempfile.TemporaryDirectory() as folder:
    with checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(1, state, {})
    while True:
      with checkpoint.Checkpoints(folder) as checkpoints:
        jax.block_until_ready(checkpoints.restore(state)[1])
      lap()


def _train_state(shape: costs.Shape) -> Any:
  tx, _ = optimizer.adamw(learning_rate=1e-5, updates=ENDLESS)
  return optimizer.placed_state(language_model(shape).params, tx)


def first_start(lap: turns.Lap, work: costs.Work) -> None:
  """Times launch/train.py until its first step, each time with an empty compilation cache."""
  _starts(lap, work, warm=False)


def second_start(lap: turns.Lap, work: costs.Work) -> None:
  """Times launch/train.py until its first step, with the cache of the start before."""
  _starts(lap, work, warm=True)


def _starts(lap: turns.Lap, work: costs.Work, warm: bool) -> None:
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    arguments = start_inputs(folder, work)
    while True:
      with tempfile.TemporaryDirectory() as empty:
        cache = folder / 'cache' if warm else pathlib.Path(empty)
        lap(seconds=seconds_to_first_step(arguments, cache))


def start_inputs(folder: pathlib.Path, work: costs.Work) -> list[str]:
  """Writes a policy, a classifier and texts; returns the flags of PPO on them."""
  policy = language_model(work.shape)
  pretrained.save(folder / 'policy', policy, 'random weights')
  pretrained.save(folder / 'classifier', classifier(work.scorer), 'random weights')
  texts = inputs.texts_of(policy.tokenizer, 20 * work.batch, 128)
  rows = [json.dumps({'text': text}) + '\n' for text in texts]
  (folder / 'texts.jsonl').write_text(''.join(rows), encoding='utf-8')
  return [
    '--config=configs/70m.py',
    '--stages=data,rlhf',
    f'--config.models.base={folder / "policy"}',
    '--config.models.sft=',
    f'--config.models.classifier={folder / "classifier"}',
    f'--config.data.source={folder / "texts.jsonl"}',
    '--config.data.max_prompt_tokens=32',
    f'--config.ppo.rollouts_per_step={work.batch}',
    f'--config.ppo.minibatch_size={work.batch}',
    '--config.ppo.epochs=4',
    '--config.ppo.trained_blocks=-1',
    '--config.ppo.subtract_original=False',
    f'--config.sampling.max_new_tokens={work.new}',
    f'--config.sampling.min_new_tokens={work.new}',
  ]


def launch(
  workdir: pathlib.Path, arguments: Sequence[str], cache: pathlib.Path, stderr: Any
) -> Any:
  """Starts launch/train.py as a user would, with its compilation cache in a given folder."""
  paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
  environment = os.environ | {
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'HF_HUB_OFFLINE': '1',
    'PYTHONPATH': paths,
  }
  command = [sys.executable, 'launch/train.py', f'--workdir={workdir}', *arguments]
  return subprocess.Popen(
    command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr
  )


def seconds_to_first_step(arguments: Sequence[str], cache: pathlib.Path) -> float:
  """Seconds until the first step of RLHF stands in the log; the run is then ended.

  Raises:
    RuntimeError: the run ended before.
  """
  with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
    log, start = pathlib.Path(folder) / 'run' / 'log.jsonl', time.perf_counter()
    process = launch(log.parent, arguments, cache, output)
    try:
      while not (log.is_file() and '"stage": "rlhf"' in log.read_text(encoding='utf-8')):
        if process.poll() is not None:
          output.seek(0)
          raise RuntimeError(output.read().decode().strip().splitlines()[-1])
        time.sleep(0.01)
      return time.perf_counter() - start
    finally:
      process.kill()
      process.wait()


def whole_run(lap: turns.Lap, config: str) -> None:
  """Times runs of a config with a filled cache: the first one fills it."""
  with tempfile.TemporaryDirectory() as cache:
    while True:
      with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / 'run'
        process = launch(run, [f'--config={config}'], pathlib.Path(cache), subprocess.DEVNULL)
        if process.wait():
          raise RuntimeError(f'{config}: exit code {process.returncode}')
      lap()
