"""The timed parts of irl_jax, called as users and stages call them; weights are random."""

from collections.abc import Callable
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
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
from irl_jax.models import trunk
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.ppo import loop as ppo_loop
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import parallel
from irl_jax.training import checkpoint
from irl_jax.training import optimizer
from irl_jax.training import supervised
from side_by_side import costs
from side_by_side import inputs
from side_by_side import machine
from side_by_side import turns

ROOT = pathlib.Path(__file__).parents[2]
ENDLESS = 10**6  # more steps than will be timed
DTYPE = pipeline.compute_dtype('auto')
LABELS, SOURCE = ('neutral', 'toxic'), 'random weights'


def made(kind: str, module: Any, config: Any, **names: Any) -> pretrained.Pretrained:
  """Returns a model with random weights."""
  compilation_cache.use()
  params = jax.device_get(module.init(jax.random.key(0), config))
  name = 'pythia_tokenizer' if kind == 'causal_lm' else 'roberta_tokenizer'
  return pretrained.Pretrained(kind, config, params, inputs.tokenizer(name), names, SOURCE)


def language_model(shape: costs.Shape) -> pretrained.Pretrained:
  """Returns a Pythia or a Llama of that shape."""
  *sizes, feed_forward, groups = shape
  if not groups:
    return made('causal_lm', trunk, gpt_neox.GPTNeoXConfig(*sizes, feed_forward))
  head = shape.width // shape.heads
  config = LlamaConfig(*sizes, groups, head, feed_forward, tie_word_embeddings=True)
  return made('causal_lm', trunk, config)


def classifier(shape: costs.Shape) -> pretrained.Pretrained:
  """Returns a RoBERTa of that shape."""
  config = encoder.EncoderConfig(*shape[:-1], labels=LABELS)
  return made('classifier', encoder, config, id2label=dict(zip('01', LABELS)))


def device(sizes: str) -> dict[str, Any]:
  """Returns the device, and its rates in the type that irl_jax computes in."""

  def compiled(function: Callable) -> Callable:
    run = jax.jit(function)
    return lambda *arrays: lambda: run(*arrays).block_until_ready()

  gpu, name = jax.default_backend() != 'cpu', jax.devices()[0].device_kind
  sizes = sizes if sizes != 'auto' else 'gpu' if gpu else 'cpu'
  work = map(compiled, (jnp.matmul, lambda x, y: x + 3 * y, jnp.sum))
  return {
    **dict(sizes=sizes, gpu=gpu, device=name, devices=jax.local_device_count()),
    **dict(dtype=DTYPE.name, item=DTYPE.itemsize, peak=machine.PEAKS.get(name)),
    **machine.rates(sizes, [DTYPE], jnp.ones, *work),
  }


def decode(lap: turns.Lap, work: costs.Work) -> None:
  """Samples tokens after every prompt, none of them EOS; the weights are on the device already."""
  model = language_model(work.shape)
  settings = c.Sampling(work.new, work.new, top_k=costs.TOP_K, batch_size=work.batch)
  run = sampling.sampler(model.config, settings, DTYPE)
  allowed = distribution.allowed_for(model.tokenizer, model.config, 1.0)
  frozen = (*parallel.replicate((model.params, allowed)), jax.random.key(0))
  ids = inputs.random_ids(work.batch, work.prompt, len(model.tokenizer))
  batch = batches.prompt_batch(ids, np.arange(work.batch), model.config.eos_token_id)
  prompts = parallel.shard(batch)
  turns.repeat(lap, lambda: parallel.gather(run(frozen, prompts)))


def scorer_of(shape: costs.Shape, tokens: int) -> rewards.Reward:
  """Returns r* of a RoBERTa that reads `tokens` tokens: sampled random text has any length."""
  model = classifier(shape)
  apply = scoring.over_tokens(
    rewards.class_logits_of, model, tokens, model.config.pad_token_id, rewards.BATCH_SIZE, DTYPE
  )
  encode = lambda texts: text.encode(model.tokenizer, texts, max_tokens=tokens, specials=True)[0]
  return lambda texts: -apply(encode(texts))[:, 1]


def ppo(lap: turns.Lap, work: costs.Work) -> None:
  """Runs iterations of PPO, and waits for rollout, score and update; an epoch is one minibatch."""
  rare = dict(steps=ENDLESS, checkpoint_every=ENDLESS, samples_every=ENDLESS)
  sizes = dict(rollouts_per_step=work.batch, minibatch_size=work.batch, epochs=work.epochs)
  config = c.Config(
    data=c.Data(max_prompt_tokens=work.prompt),
    sampling=c.Sampling(work.new, work.new, top_k=costs.TOP_K),
    ppo=c.PPO(trained_blocks=work.trained_blocks, **sizes, **rare),
  )
  model, parts = language_model(work.shape), {}

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

  log = lambda *unused: lap(parts | {'update': lap.elapsed() - sum(parts.values())})
  prompts = inputs.texts_of(model.tokenizer, 4 * work.batch, work.prompt)
  rows = [{'prompt': prompt, 'original': ''} for prompt in prompts]
  score = timed('score', scorer_of(work.scorer, work.prompt + work.new))
  sample = timed('rollout', rollout_lib.start_sampling)
  patched = mock.patch.object(rollout_lib, 'start_sampling', sample)
  with tempfile.TemporaryDirectory() as folder, patched:
    ppo_loop.train(model, rows, score, config, folder, dtype=DTYPE, log=log)


def train(lap: turns.Lap, work: costs.Work) -> None:
  """Runs epochs of language modelling, of `work.epochs` steps each, without validation."""
  model, sizes = language_model(work.shape), dict(batch_size=work.batch, max_tokens=work.tokens)
  # sft adds EOS before and after a text.
  texts = inputs.texts_of(model.tokenizer, work.batch * work.epochs, work.tokens - 2)
  config = c.Supervised(epochs=ENDLESS, checkpoint_every=ENDLESS, **sizes)
  options = dict(dtype=DTYPE, log=lambda *unused: lap())
  with tempfile.TemporaryDirectory() as folder:
    supervised.train_language_model(model, texts, [], config, 0, folder, **options)


def irl(lap: turns.Lap, work: costs.Work) -> None:
  """Runs epochs of IRL with everything trained; each ends with a validation and a checkpoint."""
  train_irl(language_model(work.shape), work, lambda *unused: lap(), epochs=ENDLESS)


def irl_frozen(lap: turns.Lap, work: costs.Work) -> None:
  """Trains a head on a frozen trunk, from start to end."""
  model, settings = language_model(work.shape), dict(epochs=work.epochs, trained_blocks=0)
  turns.repeat(lap, lambda: train_irl(model, work, lambda *unused: None, **settings))


def train_irl(model: pretrained.Pretrained, work: costs.Work, log: Callable, **more: int) -> None:
  """Trains on random pairs, and validates on as many others."""
  ids = inputs.random_ids(4 * work.pairs, work.tokens, len(model.tokenizer))
  pairs = list(zip(ids[::2], ids[1::2]))
  size = min(costs.IRL_BATCH, work.pairs)
  config = c.IRL('asymmetric', max_tokens=work.tokens, batch_size=size, **more)
  both = pairs[: work.pairs], pairs[work.pairs :]
  with tempfile.TemporaryDirectory() as folder:
    irl_loop.train(model, *both, config, 0, folder, dtype=DTYPE, log=log)


def score(lap: turns.Lap, work: costs.Work) -> None:
  """Computes r* of texts."""
  reward = rewards.true_reward(classifier(work.scorer), dtype=DTYPE)
  turns.repeat(lap, lambda: reward(work.texts))


def model_files(lap: turns.Lap, work: costs.Work, reading: bool) -> None:
  """Reads a Hugging Face folder, checked; or writes one, and reads it back to compare."""
  model = language_model(work.shape)
  turns.files(lap, lambda path: pretrained.save(path, model, SOURCE), pretrained.load, reading)


def checkpoints(lap: turns.Lap, work: costs.Work, reading: bool) -> None:
  """Reads parameters and both moments of AdamW onto the device, or writes them to the last byte."""
  tx, _ = optimizer.adamw(learning_rate=1e-5, updates=ENDLESS)
  state = optimizer.placed_state(language_model(work.shape).params, tx)

  def save(path: str) -> None:
    with checkpoint.Checkpoints(path) as saved:
      saved.save(1, state, {})

  def load(path: str) -> None:
    with checkpoint.Checkpoints(path) as saved:
      jax.block_until_ready(saved.restore(state)[1])

  turns.files(lap, save, load, reading)


def start(lap: turns.Lap, work: costs.Work, warm: bool) -> None:
  """Times launch/train.py until its first PPO step; `warm` keeps its compilation cache."""
  with tempfile.TemporaryDirectory() as folder:
    flags = start_flags(pathlib.Path(folder), work)
    while True:
      with tempfile.TemporaryDirectory() as empty:
        lap(seconds=seconds_to_first_step(flags, f'{folder}/cache' if warm else empty))


def start_flags(folder: pathlib.Path, work: costs.Work) -> list[str]:
  """Writes a policy, a classifier and texts; returns the flags of PPO on them."""
  policy = language_model(work.shape)
  pretrained.save(folder / 'policy', policy, SOURCE)
  pretrained.save(folder / 'classifier', classifier(work.scorer), SOURCE)
  texts = inputs.texts_of(policy.tokenizer, 20 * work.batch, 128)
  (folder / 'texts.txt').write_text('\n'.join(texts), encoding='utf-8')
  fields = (
    *(f'models.base={folder}/policy', 'models.sft=', f'models.classifier={folder}/classifier'),
    *(f'data.source={folder}/texts.txt', 'data.max_prompt_tokens=32'),
    *(f'ppo.{size}={work.batch}' for size in ('rollouts_per_step', 'minibatch_size')),
    *('ppo.epochs=4', 'ppo.trained_blocks=-1', 'ppo.subtract_original=False'),
    *(f'sampling.{most}_new_tokens={work.new}' for most in ('max', 'min')),
  )
  return ['--config=configs/70m.py', '--stages=data,rlhf', *(f'--config.{one}' for one in fields)]


def launch(run: pathlib.Path, flags: list[str], cache: str) -> subprocess.Popen:
  """Starts launch/train.py as a user would, with its compilation cache in a given folder."""
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])),
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'HF_HUB_OFFLINE': '1',
  }
  command = [sys.executable, 'launch/train.py', f'--workdir={run}', '--verbosity=-2', *flags]
  return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)


def seconds_to_first_step(flags: list[str], cache: str) -> float:
  """Returns the seconds until the first step of RLHF is in the log, and ends the run."""
  with tempfile.TemporaryDirectory() as folder:
    log, begun = pathlib.Path(folder, 'run', 'log.jsonl'), time.perf_counter()
    process = launch(log.parent, flags, cache)
    try:
      while not (log.is_file() and '"stage": "rlhf"' in log.read_text(encoding='utf-8')):
        if process.poll() is not None:
          raise RuntimeError(f'launch/train.py ended with exit code {process.returncode}')
        time.sleep(0.01)
      return time.perf_counter() - begun
    finally:
      process.kill()
      process.wait()


def whole_run(lap: turns.Lap, config: str) -> None:
  """Times runs of a config; the first one fills the compilation cache."""
  with tempfile.TemporaryDirectory() as cache:
    while True:
      with tempfile.TemporaryDirectory() as folder:
        if code := launch(pathlib.Path(folder, 'run'), [f'--config={config}'], cache).wait():
          raise RuntimeError(f'{config}: exit code {code}')
      lap()
