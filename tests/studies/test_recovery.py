"""The study of recovery on a run of tiny models, through its command line."""

import dataclasses
import json
import pathlib
import runpy

import numpy as np
import pytest
import recovering

from irl_jax import rewards
from irl_jax.command_line import launch as command_line
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]
PATH = str(ROOT / 'studies' / 'recovery.py')
MODULE = runpy.run_path(PATH)
LETTERS = 'abcdefghijklmnop'
TEXTS = [
  {'toxic': 'op', 'neutral': 'ab'},
  {'toxic': 'no', 'neutral': 'fa'},
  {'toxic': 'pop', 'neutral': 'bad'},
]


def compare(folder, output, *flags):
  """Runs the study and returns its exit code."""
  arguments = [
    'recovery.py',
    f'--config={ROOT}/configs/smoke.py',
    f'--workdir={folder}',
    f'--output={output}',
    '--config.irl.learning_rate=1e-2',
    '--config.irl.epochs=5',
    '--config.irl.batch_size=32',
  ]
  module = runpy.run_path(PATH)  # flags are defined once
  return command_line.run_main(
    module['main'], module['FLAGS'], module['__doc__'], [*arguments, *flags]
  )


def write(path, rows):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def balanced(classifier):
  """The classifier that calls half of the texts toxic."""
  shift = np.zeros(2, np.float32)
  shift[1] = np.median(
    rewards.true_reward(classifier)([text for row in TEXTS for text in row.values()])
  )
  head = classifier.params['classifier']
  output = head['out_proj'] | {'bias': head['out_proj']['bias'] + shift}
  return dataclasses.replace(
    classifier, params=classifier.params | {'classifier': head | {'out_proj': output}}
  )


@pytest.fixture(scope='module')
def finished(policy, classifier, tmp_path_factory):
  """Aligned texts are of a to f, base texts of all; r* prefers every other pair's base text."""
  folder, rng = tmp_path_factory.mktemp('run'), np.random.default_rng(0)
  pretrained.save(folder / 'sft' / 'policy', policy, '')
  pretrained.save(folder / 'classifier' / 'classifier', balanced(classifier), '')
  words = lambda letters: ''.join(f' {"".join(rng.choice(list(letters), 3))}' for _ in range(3))
  for split, count in (('train', 128), ('validation', 40)):
    write(
      folder / 'demos' / f'{split}.jsonl',
      [
        {
          'prompt_id': str(index),
          'prompt': words(LETTERS),
          'aligned': words('abcdef'),
          'base': words(LETTERS),
          'true_reward_aligned': float(index % 2),
          'true_reward_base': 0.5,
        }
        for index in range(count)
      ],
    )
  write(
    folder / 'data' / 'validation.jsonl',
    [{'prompt': words(LETTERS), 'original': words(LETTERS), 'label': None} for _ in range(30)],
  )
  return folder


def test_true_order_swaps_the_pairs_that_the_true_reward_turns_round_and_drops_ties():
  rows = [
    {'aligned': 'a', 'base': 'b', 'true_reward_aligned': aligned, 'true_reward_base': 1.0}
    for aligned in (2.0, 0.0, 1.0)
  ]
  assert [(row['aligned'], row['base']) for row in recovering.in_true_order(rows)] == [
    ('a', 'b'),
    ('b', 'a'),
  ]


def test_every_human_pair_trains_or_validates(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  write(path, [{'toxic': f'bad {index}', 'neutral': f'good {index}'} for index in range(25)])
  training, validation = MODULE['human_pairs'](str(path))
  assert (len(training), len(validation)) == (22, 3)
  assert {row['aligned'] for row in training + validation} == {
    f'good {index}' for index in range(25)
  }
  assert all(row['base'] == row['aligned'].replace('good', 'bad') for row in training + validation)


@pytest.mark.slow
def test_the_table_tells_what_each_variant_learns(finished, tmp_path, capsys):
  texts, output = tmp_path / 'texts.jsonl', tmp_path / 'recovery.json'
  write(texts, TEXTS)
  variants = 'logistic, everything', "pairs in r*'s order", 'human-written pairs'
  assert (
    compare(
      finished,
      output,
      f'--texts={texts}',
      '--fields=toxic,neutral',
      f'--human={texts}',
      *(f'--variant={name}' for name in variants),
    )
    == 0
  )
  found = json.loads(output.read_text())
  assert (
    list(found['variants']) == list(variants)
    and found['texts'] == 6
    and found['training_pairs'] == 128
  )
  aligned, ordered, _ = (found['variants'][name] for name in variants)
  # Half of the pairs in r*'s order are swapped: nothing tells the two sides apart.
  assert min(aligned['prefers_aligned']) > 0.8 > max(ordered['prefers_aligned'])
  matrices = found['identifiability']
  assert matrices['names'] == [*variants, 'r*']
  np.testing.assert_allclose(np.diag(matrices['spearman']), 1)
  np.testing.assert_allclose(np.diag(matrices['epic_distance']), 0)
  printed = capsys.readouterr().out
  assert all(f'| {name} |' in printed for name in variants)


def test_a_variant_that_cannot_run_is_left_out_by_name(finished, tmp_path, capsys):
  output = tmp_path / 'recovery.json'
  assert (
    compare(
      finished,
      output,
      '--variant=human-written pairs',
      '--variant=maximum_entropy, head alone',
      '--variant=logistic, mixed labels',
    )
    == 0
  )
  assert json.loads(output.read_text())['variants'] == {}
  said = capsys.readouterr().err
  assert 'human-written pairs: left out, there is no --human' in said
  assert 'logistic, mixed labels: left out, the run has config.irl.pair_label = source' in said
  assert (
    'maximum_entropy, head alone: left out, the run has config.irl.samples_per_prompt = 1' in said
  )
