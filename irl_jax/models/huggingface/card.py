"""The model card (README.md) of an exported model: what it is, its origin, figures, licence, and how to load it."""

from collections.abc import Mapping
import os
import re
from typing import Any

_TITLES = {
  'causal_lm': 'Policy trained with RLHF',
  'reward': 'Recovered reward model',
  'classifier': 'Text classifier',
}
_WHAT = {
  'causal_lm': 'A GPT-NeoX language model (`GPTNeoXForCausalLM`), trained with PPO against a reward by irl_jax.',
  'reward': 'A reward model (`GPTNeoXForSequenceClassification`, one label), recovered by max-margin inverse '
  'reinforcement learning from completions of an aligned model and of the model that it came from. Its '
  'score is read at the last token of a text, with nothing added before or behind: higher is better, and '
  'below 0 it calls a text bad. It says what the aligned model seems to have been rewarded for; it is '
  'not that reward, which completions alone do not determine.',
  'classifier': 'A RoBERTa text classifier (`RobertaForSequenceClassification`), trained by irl_jax.',
}
_TASKS = {
  'causal_lm': 'text-generation',
  'reward': 'text-classification',
  'classifier': 'text-classification',
}
_LICENCE = (
  'No licence of its own. The weights derive from the base model, and the completions that they were trained '
  "on from it and from the data: the terms of both apply (EleutherAI's Pythia is Apache-2.0; "
  's-nlp/roberta_toxicity_classifier, a usual true reward, has restrictive terms and is not part of this '
  'folder). Read them before you publish this model.'
)
_LOAD = {
  'causal_lm': """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained('PATH')
model = AutoModelForCausalLM.from_pretrained('PATH')
output = model.generate(**tokenizer('A prompt', return_tensors='pt'), max_new_tokens=32)
print(tokenizer.decode(output[0]))""",
  'classifier': """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained('PATH')
model = AutoModelForSequenceClassification.from_pretrained('PATH')
logits = model(**tokenizer(['A text.'], padding=True, return_tensors='pt')).logits""",
}
_LOAD['reward'] = _LOAD['classifier'].replace('logits = ', 'rewards = ') + '[:, 0]'
_LOAD_HERE = {
  'causal_lm': "irl_jax.generate('PATH', ['A prompt'])",
  'reward': "irl_jax.load_reward('PATH')(['A text.'])",
  'classifier': "irl_jax.load_reward('PATH')(['A text.'])  # -logit[toxic]",
}


def model_card(
  kind: str,
  base: str,
  data: str,
  figures: Mapping[str, Any] | None = None,
  *,
  notes: str = '',
  licence: str = _LICENCE,
) -> str:
  """The text of a model card, Markdown with the front matter of the hub.

  Args:
    kind: 'causal_lm', 'reward' or 'classifier'.
    base: the model that it was trained from: a hub id, a folder, or words.
    data: what it was trained on, in words.
    figures: name -> value of what was measured on this very model; nested mappings become dotted names.
    notes: a paragraph on how it was made and what to beware of.
    licence: a paragraph on the terms of use.
  """
  front = [
    '---',
    'library_name: transformers',
    f'pipeline_tag: {_TASKS[kind]}',
    'tags:',
    '- irl_jax',
  ]
  if re.fullmatch(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\S+)?', base) and not os.path.exists(
    base
  ):
    front.append(f'base_model: {base.split("@")[0]}')  # the hub takes hub ids only
  sections = [
    f'# {_TITLES[kind]}\n\n{_WHAT[kind]}',
    f'- Base model: {base or "none, trained from scratch"}\n- Data: {data}',
    notes,
    _figures_section(figures or {}),
    f'## Licence\n\n{licence}',
    f'## How to load it\n\nWith the path of this folder for `PATH`:\n\n```python\n{_LOAD[kind]}\n```\n\nor',
    f'```python\nimport irl_jax\n\n{_LOAD_HERE[kind]}\n```',
  ]
  return '\n'.join([*front, '---', '']) + '\n' + '\n\n'.join(filter(None, sections)) + '\n'


def _figures_section(figures: Mapping[str, Any]) -> str:
  rows = [f'| {_cell(name)} | {_cell(value)} |' for name, value in _flatten(figures)]
  return '\n'.join(['## Figures', '', '| figure | value |', '|---|---|', *rows]) if rows else ''


def _flatten(figures: Mapping[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
  pairs = []
  for name, value in figures.items():
    pairs += (
      _flatten(value, f'{prefix}{name}.')
      if isinstance(value, Mapping)
      else [(prefix + str(name), value)]
    )
  return pairs


def _cell(value: Any) -> str:
  text = (
    f'{value:.4g}' if isinstance(value, float) else 'not available' if value is None else str(value)
  )
  return text.replace('|', '\\|').replace('\n', ' ')
