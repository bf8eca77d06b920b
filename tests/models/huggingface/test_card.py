"""Model cards: front matter that parses, every figure, and a loading recipe that runs."""

import re

import pytest
import yaml

from irl_jax.models import pretrained
from irl_jax.models.huggingface import card


def test_a_card_says_what_it_must():
  figures = {'heldout_texts': {'auroc': 0.87654321, 'n': 500, 'kendall': None}, 'a|b': 'x'}
  text = card.model_card(
    'reward', 'EleutherAI/pythia-70m@main', 'ParaDetox', figures, notes='Beware of length.'
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


def test_a_folder_is_no_base_model_of_the_hub(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'runs/base').mkdir(parents=True)
  for base in ('runs/base', '/somewhere/base', ''):
    assert 'base_model' not in card.model_card('causal_lm', base, 'texts')


@pytest.mark.parametrize('fixture', ['language_model', 'reward', 'classifier'])
def test_the_recipe_for_transformers_runs(tmp_path, request, fixture):
  pytest.importorskip('torch')
  model = request.getfixturevalue(fixture)
  text = card.model_card(model.kind, '', 'nothing')
  pretrained.save(tmp_path / 'model', model, text)
  recipe = re.search(r'```python\n(from transformers.*?)```', text, re.S)[1].replace(
    'PATH', str(tmp_path / 'model')
  )
  names = {}
  exec(recipe, names)
  assert {'language_model': 'output', 'reward': 'rewards', 'classifier': 'logits'}[fixture] in names
