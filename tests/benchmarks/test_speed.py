"""The benchmark of speed: FLOPs against torch's counter, contestants, turns, table and trace."""

import contextlib
import dataclasses
import gzip
import importlib
import inspect
import itertools
import json
import math
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from irl_jax import errors

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

from side_by_side import costs  # noqa: E402
from side_by_side import inputs  # noqa: E402
from side_by_side import page  # noqa: E402
from side_by_side import turns  # noqa: E402
from side_by_side import work as work_lib  # noqa: E402

SHAPE, SCORER = costs.DECODERS['tiny'], costs.ROBERTA['tiny']
BATCH, PROMPT, NEW = 4, 5, 6
WORK = costs.Work(SHAPE, SCORER, BATCH, PROMPT, NEW)
MADE = {group.name: group for group in work_lib.all_groups('tiny', True)}
MACHINE = {'matmul': 1e9, 'memory': 1e9, 'jax': {'peak': 1e12, 'item': 4}}


@pytest.fixture
def peers():
  """The torch contestants, whose FLOPs can be counted: attention as two products."""
  pytest.importorskip('torch')
  return importlib.import_module('side_by_side.peers')


def counted(model, work):
  """Returns torch's count of FLOPs, without the angles of the rotary positions (a table)."""
  from torch.utils import flop_counter

  model.set_attn_implementation('eager')
  with flop_counter.FlopCounterMode(display=False) as counter:
    work()
  angles = sum(
    sum(found.values())
    for name, found in counter.get_flop_counts().items()
    if name.endswith('rotary_emb')
  )
  return counter.get_total_flops() - angles


@pytest.mark.slow
@pytest.mark.parametrize('name', ['tiny', 'tiny_llama'])
def test_flops_of_decode_are_those_that_torch_counts(peers, name):
  shape = costs.DECODERS[name]
  model = peers.language_model(shape).eval()
  prompts = peers.ids_of(BATCH, PROMPT, shape)
  found = counted(model, lambda: peers.generate(model, prompts, NEW))
  assert costs.decode(dataclasses.replace(WORK, shape=shape)).flops == found


@pytest.mark.parametrize('name', ['tiny', 'tiny_llama'])
def test_flops_of_a_training_step_are_those_that_torch_counts(peers, name):
  shape = costs.DECODERS[name]
  model, ids = peers.language_model(shape), peers.ids_of(BATCH, PROMPT, shape)

  def work():
    peers.log_probs(model, ids, PROMPT - 1)[0].sum().backward()

  one_step = dataclasses.replace(WORK, shape=shape, tokens=PROMPT, epochs=1)
  assert costs.train(one_step).flops == counted(model, work)
  matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)
  assert shape.weights == matrices


@pytest.mark.parametrize('trained', [-1, 1, 2])
def test_flops_of_a_ppo_update_are_those_that_torch_counts(peers, trained):
  model, ids = peers.ActorCritic(SHAPE), peers.ids_of(BATCH, PROMPT + NEW, SHAPE)
  trunk = model.policy.gpt_neox
  if trained != -1:
    for module in (trunk.embed_in, *trunk.layers[: SHAPE.blocks - trained]):
      module.requires_grad_(False)

  def flops_of(epochs):
    work = dataclasses.replace(WORK, epochs=epochs, trained_blocks=trained)
    return costs.ppo(work)['update'].flops

  below = 0 if trained == -1 else costs.blocks(SHAPE, SHAPE.blocks - trained, BATCH, PROMPT + NEW)
  found = counted(model.policy, lambda: sum(map(lambda x: x.sum(), model(ids, NEW))).backward())
  assert flops_of(3) - flops_of(2) == found - below


def test_flops_of_a_classifier_are_those_that_torch_counts(peers):
  model, lengths = peers.classifier(SCORER), [3, 7]
  found = counted(model, lambda: [model(peers.ids_of(1, length, SCORER)) for length in lengths])
  assert costs.score(dataclasses.replace(WORK, lengths=tuple(lengths))).flops == found


def test_bytes_of_decode_are_the_weights_once_a_pass_and_the_cache_so_far():
  weights = SHAPE.blocks * (4 * 16 * 16 + 2 * 16 * 32) + 264 * 16
  cached = [BATCH * SHAPE.blocks * 2 * 16 * visible for visible in range(PROMPT + 1, PROMPT + NEW)]
  assert costs.decode(dataclasses.replace(WORK, item=2)).bytes == 2 * (NEW * weights + sum(cached))


EVERY = [one for group in MADE.values() for one in group.contestants]
STARTERS = ('ours.start', 'ours.whole_run')  # start processes themselves
PLAYERS = {
  (one.function, one.work[0].shape.key_value_heads, one.work[1:]): one
  for one in EVERY
  if one.function not in STARTERS
}.values()


@pytest.mark.parametrize('module', ['ours', 'peers'])
def test_the_work_of_every_row_fits_its_function(module):
  if module == 'peers':
    pytest.importorskip('torch')
  rows = [one for one in EVERY if one.function.startswith(f'{module}.')]
  assert rows
  implementation = importlib.import_module(f'side_by_side.{module}')
  for row in rows:
    function = getattr(implementation, row.function.removeprefix(f'{module}.'))
    inspect.signature(function).bind(None, *row.work)
    assert row.scale > 0


@pytest.mark.parametrize(('bfloat16', 'count'), [(1e9, 2), (3e9, 3)])
def test_bfloat16_is_timed_only_where_its_matmuls_are_faster(bfloat16, count):
  machine = {'torch': {'products': {'8 x 8 x 8 float32': 2e9, '8 x 8 x 8 bfloat16': bfloat16}}}
  assert len(work_lib.worth_timing(MADE['train_tiny'], machine).contestants) == count
  assert work_lib.worth_timing(MADE['train_tiny'], {}) == MADE['train_tiny']


def test_every_row_of_ours_with_a_formula_has_limits():
  result = {'seconds': 1.0, 'parts': {'rollout': 0.5}}
  found = {one.function: work_lib.limits(one, result, MACHINE) for one in EVERY}
  limited = {function for function, limits in found.items() if limits}
  assert limited == {
    f'ours.{name}' for name in ('decode', 'train', 'ppo', 'irl', 'irl_frozen', 'score')
  }
  assert all(found[function]['limit']['matmul'] > 0 for function in limited)
  assert set(found['ours.ppo']['limits_of_parts']) == {'rollout'}


@pytest.mark.slow
@pytest.mark.parametrize('contestant', PLAYERS, ids=lambda one: f'{one.function}-{one.work[1:]}')
def test_every_contestant_takes_turns(contestant):
  if contestant.function.startswith('peers.'):
    pytest.importorskip('torch')
  taken = []

  def next_turn(turn):
    taken.append(turn)
    if len(taken) == 2:
      raise turns.Finished

  with pytest.raises(turns.Finished):
    turns.call(contestant.function, turns.Lap(next_turn), *contestant.work)
  assert all(0 < turn['seconds'] < 600 for turn in taken)
  if contestant.function == 'ours.ppo':
    assert set(taken[1]['parts']) == set(costs.ppo(contestant.work[0]))
  assert all(0 <= value <= taken[1]['seconds'] for value in taken[1]['parts'].values())


@pytest.mark.slow
def test_the_command_fills_the_table(tmp_path):
  command = [
    sys.executable,
    str(ROOT / 'benchmarks' / 'speed.py'),
    f'--output={tmp_path / "speed.json"}',
  ]
  subprocess.run(
    [
      *command,
      '--sizes=tiny',
      '--only=decode_tiny',
      '--repeats=3',
      f'--markdown={tmp_path / "page.md"}',
    ],
    check=True,
    timeout=600,
  )
  results = json.loads((tmp_path / 'speed.json').read_text())
  machine, (group,) = results['machine'], results['groups']
  assert machine['matmul'] > 0 and machine['memory'] > 0
  ours = group['contestants'][0]
  for row in group['contestants'] if machine['peers'] else [ours]:
    assert 0 < row['low'] <= row['seconds'] <= row['high'] and row['n'] == 3
    assert math.isclose(row['rate'] * row['seconds'], BATCH * NEW)
    assert row['idle'] >= 0  # how much, waits of milliseconds do not say
  limit = ours['limit']
  assert limit['flops'] == costs.decode(WORK).flops
  assert math.isclose(limit['matmul'], limit['flops'] / machine['matmul'] / ours['seconds'])
  assert math.isclose(limit['memory'], limit['bytes'] / machine['memory'] / ours['seconds'])
  written = (tmp_path / 'page.md').read_text()
  assert written == page.markdown(results) and page.columns(ours, ours, group['unit'])[1] in written


def test_a_contestant_that_fails_is_named(capfd):
  with pytest.raises(errors.IrlJaxError, match='wrong'):
    turns.take([turns.Contestant('wrong', 'costs.decode', ())], 2, 1.0)
  assert 'AttributeError' in capfd.readouterr().err


@pytest.mark.parametrize(
  'repeats, seconds, rounds', [(3, 60.0, 3), (9, 0.0, turns.FEWEST), (1, 0.0, 1)]
)
def test_turns_alternate_until_all_or_the_time_is_used_up(monkeypatch, repeats, seconds, rounds):
  order = []

  @contextlib.contextmanager
  def running(contestant):
    """Runs work that takes 1, 2, 3, ... seconds."""
    seconds = itertools.count(1)

    def turn():
      order.append(contestant.name)
      return {'seconds': next(seconds), 'parts': {'whole': 1.0}, 'idle': 0.25, 'peak_gib': 1.0}

    yield turn
    order.append('end')

  monkeypatch.setattr(turns, 'running', running)
  first, second = turns.take(
    [turns.Contestant('a', 'f.f', (), scale=10), turns.Contestant('b', 'f.f', ())], repeats, seconds
  )
  assert order == ['a', 'b'] * rounds + ['end'] * 2
  assert (
    first['n'] == rounds and first['seconds'] == 10 * second['seconds'] == 10 * (rounds + 1) / 2
  )
  assert first['parts'] == {'whole': 10.0} and first['idle'] == 0.25
  assert second['low'] <= second['seconds'] <= second['high']


def test_a_share_is_the_seconds_of_a_limit_over_the_seconds_taken():
  shares = work_lib.bounds(costs.Cost(1e8, 2e8), 0.5, MACHINE)
  assert (shares['matmul'], shares['memory']) == (0.2, 0.4)
  assert shares['mfu'] == pytest.approx(2e-4)


def lengths_of(name):
  tokenizer = inputs.tokenizer(name)
  texts = inputs.texts_of(tokenizer, 3, 32)
  return {len(ids) for ids in tokenizer(texts, add_special_tokens=False)['input_ids']}


@pytest.mark.parametrize('name', ['pythia_tokenizer', 'roberta_tokenizer'])
def test_texts_are_read_as_so_many_tokens_by_a_made_up_tokenizer(name):
  assert lengths_of(name) == {32}


def test_texts_are_read_as_so_many_tokens_by_pythias_tokenizer(shared, monkeypatch):
  monkeypatch.setenv(inputs.FOLDER, str(shared))
  assert lengths_of('pythia_tokenizer') == {32}


def test_a_sample_of_the_comments_is_as_long_as_all_of_them(shared, monkeypatch):
  monkeypatch.setenv(inputs.FOLDER, str(shared))
  comments = inputs.comments(200)
  sample = inputs.sample_of(comments, 20)
  mean = lambda texts: sum(map(len, texts)) / len(texts)
  assert len(set(comments)) == 200 and len(set(sample)) == 20 and set(sample) < set(comments)
  assert abs(mean(sample) / mean(comments) - 1) < 0.02


SLEEPER = """
import sys
sys.path[:0] = {paths}
from side_by_side import turns

if __name__ == '__main__':
  turns.take([turns.Contestant('sleeper', 'sleeper.sleep', ())], 10**6, 600.0)
"""


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
  package = tmp_path / 'side_by_side'
  package.mkdir()
  for name in ('__init__.py', 'turns.py'):
    (package / name).write_text((ROOT / 'benchmarks' / 'side_by_side' / name).read_text())
  file = tmp_path / 'pid'
  (package / 'sleeper.py').write_text(
    'import os, pathlib, time\n'
    'def sleep(lap):\n'
    '  while True:\n'
    '    time.sleep(0.1)\n'
    '    lap()\n'
    f'    pathlib.Path({str(file)!r}).write_text(f"{{os.getpid()}} ")\n'
  )
  script = tmp_path / 'measure.py'
  script.write_text(SLEEPER.format(paths=[str(tmp_path), str(ROOT)]))
  process = subprocess.Popen([sys.executable, str(script)])
  wait_for(lambda: file.exists() and file.read_text().endswith(' '))
  process.send_signal(signal.SIGKILL)
  process.wait()
  wait_for(lambda: not alive(int(file.read_text())))


def alive(pid):
  """Returns True if a process still runs; a zombie does not."""
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  except (FileNotFoundError, ProcessLookupError):
    return False


def wait_for(condition, seconds=60):
  for _ in range(10 * seconds):
    if condition():
      return
    time.sleep(0.1)
  raise AssertionError('it did not happen')


@pytest.mark.slow
def test_a_small_model_is_traced(tmp_path):
  command = [sys.executable, str(ROOT / 'benchmarks' / 'speed.py'), '--sizes=tiny']
  command += ['--only=decode_tiny,train_tiny', f'--profile={tmp_path}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr
  for name in ('decode_tiny', 'train_tiny'):
    (trace,) = (tmp_path / name).rglob('*.trace.json.gz')
    events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
    assert sum('hlo_op' in event.get('args', {}) for event in events) > 5


def test_the_page_in_the_repository_has_a_row_of_every_contestant():
  sections = (ROOT / 'BENCHMARKS.md').read_text(encoding='utf-8').split('\n## ')
  rows_of = {
    section.partition('\n')[0]: re.findall(r'^\| ([^|]+) \|', section, re.MULTILINE)
    for section in sections[1:]
  }
  for group in work_lib.all_groups('cpu', True):
    # The title of `score` states the mean length of the comments. The page was written before the
    # Llama was added.
    if group.name not in ('score', 'decode_smollm2', 'train_smollm2'):
      names = [contestant.name for contestant in group.contestants]
      assert [name for name in rows_of[group.title] if name.strip()] == names
