"""A run's models and rows: their places, and the messages if they are missing."""

import jax.numpy as jnp
import pytest

from irl_jax import errors
from irl_jax.config import Config
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run


@pytest.fixture
def start(tmp_path):
  """A function from models to a Run in an empty folder."""
  with metrics_log.MetricsLog(tmp_path) as log:
    yield lambda **models: Run(
      Config(stages=('demos',), models=Models(**models)), tmp_path, log, jnp.float32
    )


PLACES = pytest.mark.parametrize(
  'role, written',
  [
    ('base', 'sft/policy'),
    ('start', 'sft/policy'),
    ('aligned', 'rlhf/policy'),
    ('classifier', 'classifier/classifier'),
  ],
)


@PLACES
def test_a_model_is_the_named_one_before_the_one_that_a_stage_made(start, tmp_path, role, written):
  field = {'start': 'sft'}.get(role, role)
  with pytest.raises(
    errors.ConfigError, match=f'config.models.{field} is empty .* run the stage that makes it'
  ):
    getattr(start(), role)
  assert getattr(start(**{field: 'named'}), role) == 'named'
  (tmp_path / written).mkdir(parents=True)
  assert getattr(start(), role) == str(tmp_path / written)
  assert getattr(start(**{field: 'named'}), role) == 'named'


def test_rlhf_starts_from_the_base_where_nothing_else_is_given(start, tmp_path):
  assert start(base='pythia').start == 'pythia'
  assert start(base='pythia', sft='tuned').start == 'tuned'
  (tmp_path / 'sft' / 'policy').mkdir(parents=True)
  assert start(base='pythia').start == str(tmp_path / 'sft' / 'policy')


def test_rows_are_those_of_the_stage(start, tmp_path):
  run, rows = start(), [{'prompt': 'a', 'original': ' b'}]
  with pytest.raises(
    errors.ConfigError, match='heldout.jsonl does not exist: run the stage demos first'
  ):
    run.demonstrations('heldout')
  rows_lib.write_jsonl(tmp_path / 'demos' / 'heldout.jsonl', rows)
  assert run.demonstrations('heldout') == rows
  with pytest.raises(errors.ConfigError, match='run the stage data first'):
    run.rows('heldout')


def test_prompt_and_text_are_joined_with_nothing_between():
  assert full_texts([{'prompt': 'a', 'original': ' b', 'base': ''}]) == ['a b']
  assert full_texts([{'prompt': 'a', 'original': ' b', 'base': ''}], 'base') == ['a']


def test_a_model_is_saved_with_its_card(start, tmp_path, policy):
  start().save('rlhf', 'policy', policy, 'EleutherAI/pythia-70m')
  assert pretrained.load(str(tmp_path / 'rlhf' / 'policy')).kind == 'causal_lm'
  assert 'EleutherAI/pythia-70m' in (tmp_path / 'rlhf' / 'policy' / 'README.md').read_text()


def test_a_fine_tuned_model_is_not_called_a_policy_of_ppo(start, tmp_path, policy):
  start().save('sft', 'policy', policy, 'EleutherAI/pythia-70m')
  text = (tmp_path / 'sft' / 'policy' / 'README.md').read_text()
  assert '# Fine-tuned language model' in text and 'PPO' not in text
