"""The comparison of several devices that --dry_run ends with."""

import dataclasses

from irl_jax import config as c
from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.stages import dry_run
from irl_jax.stages import memory

SHAPE = gpt_neox.GPTNeoXConfig(  # Pythia 6.9b
  vocab_size=50432,
  hidden_size=4096,
  num_hidden_layers=32,
  num_attention_heads=32,
  intermediate_size=16384,
)
CLASSIFIER = encoder.EncoderConfig(
  vocab_size=512, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
)
SHAPES = memory.Shapes(base=SHAPE, start=SHAPE, aligned=SHAPE, classifier=CLASSIFIER)
PPO = c.PPO(rollouts_per_step=48, minibatch_size=16)


def compared(config):
  """The rows of the table, {devices: [replicated, fsdp]} in GB, and the last line."""
  *lines, last = dry_run.several_devices(config, SHAPES, ['rlhf', 'irl'])
  rows = [line.split() for line in lines if ' device' in line and line.startswith('    ')]
  return {int(row[0]): [float(cell.replace(',', '')) for cell in row[2:]] for row in rows}, last


def test_parameters_that_do_not_fit_one_device_are_split_over_as_few_as_possible():
  rows, last = compared(c.Config(ppo=PPO, irl=c.IRL(max_tokens=64)))
  assert list(rows) == [1, 2, 4, 8, 16]  # 32 devices do not divide a minibatch of 16
  assert rows[1][0] == rows[1][1]
  for whole, split in list(rows.values())[1:]:
    assert split < whole and whole > 80
  needed = next(devices for devices, (_, split) in rows.items() if split <= 80)
  assert 1 < needed < 16
  assert last.strip() == (
    f'smallest number of devices of 80 GB: {needed}, with config.runtime.sharding=fsdp'
  )


def test_parameters_that_fit_are_replicated():
  irl = c.IRL(max_tokens=64, trained_blocks=2)
  ppo = dataclasses.replace(PPO, trained_blocks=2)
  rows, last = compared(c.Config(ppo=ppo, irl=irl))
  assert rows[1][0] < 80
  assert last.strip() == (
    'smallest number of devices of 80 GB: 1, with config.runtime.sharding=replicated'
  )


def test_what_no_number_of_devices_holds_is_said():
  rows, last = compared(c.Config(ppo=PPO, irl=c.IRL(max_tokens=2048, batch_size=4096)))
  assert min(rows[16]) > 80
  assert last.strip() == 'smallest number of devices of 80 GB: more than 16'
