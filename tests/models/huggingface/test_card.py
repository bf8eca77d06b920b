"""Model cards: front matter that parses, every metric, the stage, a loading recipe that runs."""

import re

import pytest
import yaml

from irl_jax.models import pretrained
from irl_jax.models.huggingface import card

CLASS = {'architecture': 'LlamaForSomething'}


def test_a_card_says_what_it_must():
  figures = {'heldout_texts': {'auroc': 0.87654321, 'n': 500, 'kendall': None}, 'a|b': 'x'}
  text = card.model_card(
    'irl',
    'EleutherAI/pythia-70m@main',
    'ParaDetox',
    figures,
    architecture='GPTNeoXForSequenceClassification',
    notes='Beware of length.',
  )
  front = yaml.safe_load(text.split('---')[1])
  assert (
    front['base_model'] == 'EleutherAI/pythia-70m'
    and front['pipeline_tag'] == 'text-classification'
  )
  for part in (
    'GPTNeoXForSequenceClassification',
    'Data: ParaDetox',
    '| heldout_texts.auroc | 0.8765 |',
    '| heldout_texts.n | 500 |',
    '| heldout_texts.kendall | not available |',
    'a\\|b',
    'Beware of length.',
    '## Licence',
    "irl_jax.load_reward('PATH')",
  ):
    assert part in text


def test_a_card_names_the_objective_that_a_reward_was_trained_with():
  text = card.model_card('irl', 'base', 'texts', objective='maximum_entropy', **CLASS)
  assert '- Objective: `maximum_entropy`' in text
  assert 'Objective' not in card.model_card('sft', 'base', 'texts', **CLASS)


def test_the_card_of_a_reward_refers_to_the_verdict_of_its_run():
  text = card.model_card('irl', 'base', 'texts', **CLASS)
  assert '`report.html` of its run says whether anything was recovered' in text


def test_a_card_says_how_much_larger_the_score_of_transformers_is():
  text = card.model_card('irl', 'base', 'texts', zero=-0.25, **CLASS)
  assert 'a score that is larger by -0.25' in text and 'reward_zero' in text
  assert 'reward_zero' not in card.model_card('irl', 'base', 'texts', **CLASS)


def test_a_folder_is_no_base_model_of_the_hub(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'runs/base').mkdir(parents=True)
  for base in ('runs/base', '/somewhere/base', ''):
    assert 'base_model' not in card.model_card('rlhf', base, 'texts', **CLASS)


@pytest.mark.parametrize(
  'stage, present, absent',
  [
    ('sft', ['Fine-tuned language model', 'No reward was used'], ['PPO', 'RLHF', 'recovered']),
    ('classifier', ['A text classifier (`LlamaForSomething`)'], ['PPO', 'reward model']),
    ('rlhf', ['with PPO against the true reward'], ['recovered']),
    ('irl', ['Recovered reward model', 'inverse reinforcement learning'], ['PPO', 'max-margin']),
    ('rerlhf', ['with PPO against a reward that was recovered'], ['against the true reward']),
  ],
)
def test_a_card_says_what_made_the_model(stage, present, absent):
  text = card.model_card(stage, 'base', 'texts', **CLASS)
  assert all(words in text for words in present) and not any(words in text for words in absent)


@pytest.mark.parametrize(
  'stage, fixture, result',
  [
    ('sft', 'language_model', 'output'),
    ('rlhf', 'language_model', 'output'),
    ('rerlhf', 'language_model', 'output'),
    ('irl', 'reward', 'rewards'),
    ('classifier', 'classifier', 'logits'),
  ],
)
def test_the_recipe_for_transformers_runs(tmp_path, request, stage, fixture, result):
  pytest.importorskip('torch')
  model = request.getfixturevalue(fixture)
  text = card.model_card(stage, '', 'nothing', **CLASS)
  pretrained.save(tmp_path / 'model', model, text)
  (recipe,) = re.findall(r'```python\n(from transformers.*?)```', text, re.DOTALL)
  names: dict = {}
  exec(recipe.replace('PATH', str(tmp_path / 'model')), names)
  assert result in names
