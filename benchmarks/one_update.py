"""One rollout, one PPO update and one IRL update of a Pythia of any size, on random weights: seconds and peak memory.

  python benchmarks/one_update.py --config=configs/410m.py --rollouts=16 --prompt_tokens=64

Shape and hyper-parameters are the config's; rollouts and prompt length are given, for they decide the memory. Every
step is timed twice: with compilation, and without.
"""

import contextlib
import dataclasses
import resource
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from irl_jax import distribution
from irl_jax import pipeline
from irl_jax import structs
from irl_jax.command_line import launch as command_line
from irl_jax.config import Config
from irl_jax.irl import pairs as irl_pairs
from irl_jax.irl import update as irl_update
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.ppo import functions as ppo_functions
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.ppo import update as ppo_update
from irl_jax.runtime import parallel
from irl_jax.training import optimizer

FLAGS = flags.FlagValues()
flags.DEFINE_string('config', None, 'config file, such as configs/410m.py', flag_values=FLAGS)
flags.DEFINE_integer('rollouts', 16, 'prompts of the rollout', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
  'prompt_tokens', 64, 'tokens of every prompt', lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer('pairs', 4, 'pairs of the IRL update', lower_bound=1, flag_values=FLAGS)

# Pythia's shapes: width, blocks, heads, feed-forward.
SHAPES = {
  '14m': (128, 6, 4, 512),
  '70m': (512, 6, 8, 2048),
  '160m': (768, 12, 12, 3072),
  '410m': (1024, 24, 16, 4096),
  '1b': (2048, 16, 8, 8192),
}
TWICE = ('with compilation', 'again')


@contextlib.contextmanager
def measured(what: str):
  """Prints seconds, and the process's peak memory so far."""
  start = time.monotonic()
  yield
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'{what:<44} {time.monotonic() - start:8.2f} s   peak {peak:6.2f} GiB', flush=True)


def main(options: flags.FlagValues) -> None:
  """Measures the three."""
  command_line.require(options, 'config')
  config, dtype = options.config, pipeline.compute_dtype(options.config.runtime.dtype)
  width, blocks, attention_heads, feed_forward = SHAPES[config.name]
  shape = gpt_neox.GPTNeoXConfig(50304, width, blocks, attention_heads, feed_forward)
  # Every response keeps its full length, so that the figures are those of the longest rollout.
  limits = dataclasses.replace(config.sampling, min_new_tokens=config.sampling.max_new_tokens)
  config = dataclasses.replace(config, sampling=limits)
  print(
    f'{config.name}: prompts of {options.prompt_tokens}, {limits.max_new_tokens} new tokens, '
    f'{jax.default_backend()}, {np.dtype(dtype).name}, {parallel.device_count()} device(s)'
  )
  measure_ppo(config, shape, dtype, options.rollouts, options.prompt_tokens)
  measure_irl(config, shape, dtype, options.pairs, options.prompt_tokens + limits.max_new_tokens)


def measure_ppo(
  config: Config, shape: gpt_neox.GPTNeoXConfig, dtype, rollouts: int, prompt_tokens: int
) -> None:
  """Times one rollout and one update of random weights, each twice."""
  functions, tx = ppo_functions.compile_functions(shape, config, dtype)
  state, frozen = ppo_state(config, shape, tx)
  ids = np.random.default_rng(0).integers(2, 50000, (rollouts, prompt_tokens)).astype(np.int32)
  prompts = structs.PromptBatch(ids, np.ones(ids.shape, bool), np.arange(rollouts, dtype=np.uint32))
  for again in TWICE:
    with measured(f'rollout of {rollouts}: sampling, {again}'):
      inputs = (state.params, frozen.params, frozen.allowed, jax.random.key(0))
      responses = parallel.gather(functions.sample(inputs, parallel.shard(prompts)))
    experience = rollout_lib.experience_of(prompts, responses, np.zeros(rollouts, np.float32))
    with measured(f'rollout: log-probs, values, KL, {again}'):
      rollout, _ = parallel.gather(
        functions.make_rollout((state.params, frozen, np.float32(0.1)), parallel.shard(experience))
      )
  size = min(config.ppo.minibatch_size, rollouts)
  for again in TWICE:
    with measured(f'PPO update of {size}, {config.ppo.trained_blocks} blocks trained, {again}'):
      minibatch = parallel.shard(jax.tree.map(lambda x: x[:size], rollout))
      state, metrics = functions.update(state, frozen, minibatch)
      jax.block_until_ready((state, metrics))


def ppo_state(config: Config, shape: gpt_neox.GPTNeoXConfig, tx) -> tuple[structs.TrainState, Any]:
  """What PPO trains and what is frozen, on the devices; nothing of it stays on the host."""
  params = gpt_neox.init(jax.random.key(0), shape)
  params['value_head'] = heads.init_value_head(jax.random.key(0), shape.hidden_size)
  trained, frozen = cut_lib.split(params, config.ppo.trained_blocks)
  reference = {name: value for name, value in trained.items() if name != 'value_head'}
  allowed = distribution.Allowed(np.arange(shape.vocab_size) >= 50277, np.int32(0), np.float32(1))
  return (
    parallel.replicate(optimizer.new_state(trained, tx)),
    parallel.replicate(ppo_update.Frozen(frozen, reference, allowed)),
  )


def measure_irl(
  config: Config, shape: gpt_neox.GPTNeoXConfig, dtype, pairs: int, tokens: int
) -> None:
  """Times one update of random weights, twice."""
  updates = 10
  tx, _ = optimizer.adamw(learning_rate=config.irl.learning_rate, updates=updates)
  state, frozen = irl_state(config, shape, tx)
  texts = np.random.default_rng(0).integers(2, 50000, (2, pairs, tokens)).tolist()
  batch = parallel.shard(irl_pairs.pair_batch(list(zip(*texts)), np.ones(pairs), 0, tokens))
  update = parallel.map_update(
    irl_update.update, irl=config.irl, tx=tx, updates=updates, config=shape, dtype=dtype
  )
  for again in TWICE:
    with measured(
      f'IRL update of {pairs} pairs, {config.irl.trained_blocks} blocks trained, {again}'
    ):
      state, metrics = update(state, frozen, batch)
      jax.block_until_ready((state, metrics))


def irl_state(config: Config, shape: gpt_neox.GPTNeoXConfig, tx) -> tuple[structs.TrainState, Any]:
  """What IRL trains and what is frozen, on the devices."""
  params = {
    name: value
    for name, value in gpt_neox.init(jax.random.key(0), shape).items()
    if name != 'embed_out'
  }
  head = heads.init_reward_head(jax.random.key(0), shape.hidden_size)
  trained, frozen = cut_lib.split(params | {'reward_head': head}, config.irl.trained_blocks)
  return parallel.replicate(optimizer.new_state(trained, tx)), parallel.replicate(frozen)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
