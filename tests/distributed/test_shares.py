"""Split parameters (`runtime.sharding=fsdp`) give the updates of replicated ones."""

import json
import math
import time

import pytest
import quick_compilation

from irl_jax.models import pretrained
from irl_jax.training import checkpoint

pytestmark = pytest.mark.slow  # every test starts processes

UPDATES = ('sft', 'classifier', 'ppo', 'irl')
STEPS = 24  # of a run that is killed three times, each time after a step or more


@pytest.fixture(scope='module')
def results(policy, classifier, start, tmp_path_factory):
  """The results of shares.py on eight devices."""
  folder = tmp_path_factory.mktemp('shares')
  for name, model in (('policy', policy), ('classifier', classifier)):
    pretrained.save(folder / name, model, '')
  process = start(
    'tests/distributed/shares.py', str(folder), XLA_FLAGS=quick_compilation.on_devices(8)
  )
  assert process.wait() == 0, process.printed
  return json.loads((folder / 'shares.json').read_text())


@pytest.mark.parametrize('name', UPDATES)
def test_an_update_of_split_parameters_is_that_of_whole_ones(results, name):
  found = results[name]
  assert found['change'] > 1e-2  # by the gradient
  assert found['parameters'] < 1e-5 and found['metrics'] < 1e-4


def test_split_parameters_sample_and_score_as_whole_ones_do(results):
  found = results['rollout']
  assert found['tokens'] == 0 and found['decoded'] < 1e-5
  assert found['advantage'] > 0.1 and found['rollout'] < 1e-4


@pytest.mark.parametrize('name', UPDATES)
def test_matrices_are_gathered_layer_by_layer_and_their_gradients_are_summed_into_shares(
  results, policy, name
):
  collectives = results[name]['collectives']
  width, inner = policy.config.hidden_size, policy.config.intermediate_size
  sizes = lambda kinds: {
    math.prod(map(int, filter(None, shape.split(','))))
    for kind, shapes in collectives
    if kind in kinds
    for shape in shapes
  }
  gathered, shares = sizes(('all-gather',)), sizes(('reduce-scatter',))
  # The matrices of the feed-forward network, one layer at a time: never those of two layers.
  assert width * inner in gathered and width * inner // 8 in shares
  assert not {layers * width * inner for layers in (2, 3)} & (gathered | shares)
  assert not {layers * width * inner for layers in (1, 2, 3)} & sizes(('all-reduce',))


@pytest.mark.parametrize('processes', [1, 2])
def test_each_process_reads_what_its_devices_hold(policy, start, free_port, tmp_path, processes):
  pretrained.save(tmp_path / 'policy', policy, '')
  flags = quick_compilation.on_devices(8 // processes)
  address = f'127.0.0.1:{free_port()}'
  started = [
    start(
      'tests/distributed/loading.py',
      str(tmp_path),
      *([address, str(index)] if processes > 1 else []),
      XLA_FLAGS=flags,
    )
    for index in range(processes)
  ]
  for index, process in enumerate(started):
    assert process.wait() == 0, process.printed
    found = json.loads((tmp_path / f'loading_{index}.json').read_text())
    assert found['different'] == 0
    # Two processes also compare a few numbers of each part, a tenth of so small a model.
    assert found['bytes'] <= found['model'] * (1 if processes == 1 else 0.65)
    assert 0 < found['most'] < found['model'] / 50
    assert found['held'] >= found['model'] / processes


def saved(checkpoints) -> int:
  """Returns the newest step whose checkpoint is complete, or 0."""
  folders = [path for path in checkpoints.glob('*') if path.name.isdigit()]
  return max((int(path.name) for path in folders if checkpoint.damage(path) == ''), default=0)


def test_a_run_that_was_killed_continues_on_fewer_devices_and_with_whole_parameters(
  start, tmp_path
):
  """Split over eight devices, then over four, then whole on four, and split again."""
  flags = (
    '--config=configs/smoke.py',
    f'--workdir={tmp_path}',
    '--stages=data,sft,classifier,rlhf',
    f'--config.ppo.steps={STEPS}',
    '--config.ppo.checkpoint_every=1',
  )
  checkpoints, reached = tmp_path / 'rlhf' / 'checkpoints', [0]
  for devices, way in ((8, 'fsdp'), (4, 'fsdp'), (4, 'replicated'), (4, 'fsdp')):
    script = 'launch/train.py' if way == 'replicated' else 'tests/distributed/train_with_shares.py'
    process = start(
      script,
      *flags,
      f'--config.runtime.sharding={way}',
      XLA_FLAGS=quick_compilation.on_devices(devices),
    )
    if len(reached) == 4:
      break
    deadline = time.monotonic() + 600
    while saved(checkpoints) == reached[-1]:
      assert process.popen.poll() is None and time.monotonic() < deadline, process.printed
      time.sleep(0.05)
    process.popen.kill()
    process.popen.wait()
    if reached[-1]:
      assert f'{checkpoints}: continues from step {reached[-1]}\n' in process.printed
    reached.append(saved(checkpoints))

  assert process.wait() == 0, process.printed
  assert f'{checkpoints}: continues from step {reached[-1]}\n' in process.printed
  rows = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
  steps = [row['step'] for row in rows if row['stage'] == 'rlhf']
  assert steps == list(range(STEPS)) and 0 < reached[1] < reached[2] < reached[3] < STEPS
  assert (tmp_path / 'rlhf' / 'policy' / 'model.safetensors').exists()
