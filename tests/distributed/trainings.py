"""One process of two for test_same_results.py.

`python trainings.py ADDRESS INDEX POLICY FOLDER WAY` has `runtime.sharding=WAY`. It trains a policy
by PPO for one update (FOLDER/first), and continues a run that another program began
(FOLDER/second). Both processes write their results.
"""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import optax

from irl_jax import config as c
from irl_jax.models import pretrained
from irl_jax.ppo import loop
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import optimizer

RATE = 0.1  # of plain gradient descent: what an update changes is the gradient
CONFIG = c.Config(
  seed=1,
  sampling=c.Sampling(max_new_tokens=6, min_new_tokens=3),
  ppo=c.PPO(
    steps=1,
    rollouts_per_step=8,
    minibatch_size=8,
    epochs=1,
    trained_blocks=1,
    samples_every=1,
    max_gradient_norm=1e6,
  ),
)
ROWS = [
  {'prompt': prompt, 'original': original}
  for prompt, original in [
    ('ab', ' ca'),
    ('hello', ''),
    ('what a', ' bad cat'),
    ('', 'a'),
    ('g h', ' aa'),
    ('foe', ' due'),
    ('a', 'bc'),
  ]
]


def train(policy: pretrained.Pretrained, folder: pathlib.Path, steps: int, way: str = 'replicated'):
  """Trains by plain gradient descent -> (policy, metrics by step, texts that were scored)."""
  optimizer.adamw = lambda **_: (optax.sgd(RATE), lambda update: RATE)
  log, read = {}, []

  def reward(texts):
    read.extend(texts)
    return np.array([text.count('a') - 0.1 * len(text) for text in texts], np.float32)

  config = dataclasses.replace(
    CONFIG, ppo=dataclasses.replace(CONFIG.ppo, steps=steps), runtime=c.Runtime(sharding=way)
  )
  trained = loop.train(policy, ROWS, reward, config, folder, log=log.__setitem__)
  return trained, log, read


def main(address: str, index: str, policy_folder: str, folder: str, way: str) -> None:
  jax.distributed.initialize(address, 2, int(index), initialization_timeout=120)
  assert parallel.device_count() == 2 * jax.local_device_count()
  sharding.SMALLEST = 0  # with fsdp every array is split that the devices divide
  with sharding.using(way):
    policy, folder = pretrained.load(policy_folder), pathlib.Path(folder)
  for name, steps in (('first', 1), ('second', 2)):
    trained, log, read = train(policy, folder / name, steps, way)
    (folder / f'{name}_{index}.json').write_text(json.dumps({'log': log, 'read': read}))
    np.savez(folder / f'{name}_{index}.npz', *jax.tree.leaves(trained.params))


if __name__ == '__main__':
  main(*sys.argv[1:])
