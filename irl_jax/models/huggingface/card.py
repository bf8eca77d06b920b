"""Model cards (README.md) of exported models: description, origin, results, licence and use."""

from collections.abc import Mapping
import dataclasses
import os
import re
from typing import Any
from typing import Literal

# The stages that export a model, and the command `edit`
Stage = Literal['sft', 'classifier', 'rlhf', 'irl', 'rerlhf', 'edit']


@dataclasses.dataclass(frozen=True)
class _Use:
  """The use of a model: its task on the hub, and code that loads it from the folder PATH."""

  task: str
  transformers: str
  irl_jax: str


_GENERATE = _Use(
  task='text-generation',
  transformers="""from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained('PATH')
model = AutoModelForCausalLM.from_pretrained('PATH')
output = model.generate(**tokenizer('A prompt', return_tensors='pt'), max_new_tokens=32)
print(tokenizer.decode(output[0]))""",
  irl_jax="irl_jax.generate('PATH', ['A prompt'])",
)
_CLASSIFY = _Use(
  task='text-classification',
  transformers="""from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained('PATH')
model = AutoModelForSequenceClassification.from_pretrained('PATH')
logits = model(**tokenizer(['A text.'], padding=True, return_tensors='pt')).logits""",
  irl_jax="irl_jax.load_reward('PATH')(['A text.'])  # -logit[toxic]",
)
_SCORE = _Use(
  task='text-classification',
  transformers=_CLASSIFY.transformers.replace('logits = ', 'rewards = ') + '[:, 0]',
  irl_jax="irl_jax.load_reward('PATH')(['A text.'])",
)


@dataclasses.dataclass(frozen=True)
class _Product:
  """The model that a stage exports."""

  title: str
  description: str
  use: _Use


_POLICY = 'A language model (`ARCHITECTURE`), '
_PRODUCTS: dict[Stage, _Product] = {
  'sft': _Product(
    'Fine-tuned language model',
    _POLICY + 'trained by irl_jax on the texts named below with the language-modelling loss. No '
    'reward was used.',
    _GENERATE,
  ),
  'classifier': _Product(
    'Text classifier', 'A text classifier (`ARCHITECTURE`), trained by irl_jax.', _CLASSIFY
  ),
  'rlhf': _Product(
    'Policy trained with RLHF',
    _POLICY + 'trained by irl_jax with PPO against the true reward that is named below.',
    _GENERATE,
  ),
  'irl': _Product(
    'Recovered reward model',
    'A reward model (`ARCHITECTURE`, one label), recovered by inverse '
    'reinforcement learning from completions of an aligned model and of the model that it came '
    'from. Its score is read at the last token of a text, with nothing added before or after: '
    'higher is better, and below 0 it calls a text bad. It estimates what the aligned model was '
    'rewarded for. It is not that reward: completions do not determine it. `report.html` of its '
    'run says whether anything was recovered, and whether the sign can be used: read it first.',
    _SCORE,
  ),
  'edit': _Product(
    'Edited reward model',
    'A reward model (`ARCHITECTURE`, one label), recovered by inverse reinforcement learning and '
    'edited by irl_jax, so that it no longer pays for a feature. Its score is read at the last '
    'token of a text, with nothing added before or after: higher is better, and below 0 it calls a '
    'text bad. Read `report.html` of the run of the base model first.',
    _SCORE,
  ),
  'rerlhf': _Product(
    'Policy trained with RLHF on a recovered reward',
    _POLICY + 'trained by irl_jax with PPO against a reward that was recovered from an aligned '
    'model by inverse reinforcement learning. The true reward was not used in its training.',
    _GENERATE,
  ),
}
_OF_ZERO = (
  'transformers gives a score that is larger by ZERO: the norms of this architecture have no bias '
  'that the zero of the reward could be part of. irl_jax subtracts `reward_zero` of config.json. '
  'With transformers, subtract it yourself, if it matters which texts are below 0.'
)
_LICENCE = (
  'No licence of its own. The weights are derived from the base model and were trained on '
  "completions derived from the data, so the licences of both apply (EleutherAI's Pythia is "
  'Apache-2.0; s-nlp/roberta_toxicity_classifier, which is often used as the '
  'true reward, has restrictive terms and '
  'is not part of this folder). Read them before you publish this model.'
)


def model_card(
  stage: Stage,
  base: str,
  data: str,
  results: Mapping[str, Any] | None = None,
  *,
  architecture: str,
  zero: float = 0.0,
  notes: str = '',
  objective: str = '',
  true_reward: str = '',
  licence: str = _LICENCE,
) -> str:
  """Returns the text of a model card: Markdown with the front matter of the hub.

  Args:
    stage: the stage that made the model.
    base: the model that it was trained from: a hub id, a folder, or a description.
    data: a description of the training data.
    results: metrics of this model, by name; nested mappings become dotted names.
    architecture: the name of transformers' class.
    zero: `reward_zero` of config.json: how much larger transformers' score of a reward is.
    notes: a paragraph on how it was made and on its limits.
    true_reward: what the policy was trained on, or measured by; '' leaves it out.
    objective: `config.irl.objective` that a recovered reward was trained with; '' leaves it out.
    licence: a paragraph on the terms of use.
  """
  product = _PRODUCTS[stage]
  front = [
    '---',
    'library_name: transformers',
    f'pipeline_tag: {product.use.task}',
    'tags:',
    '- irl_jax',
  ]
  if _is_hub_id(base):
    front.append(f'base_model: {base.split("@")[0]}')
  sections = [
    f'# {product.title}\n\n' + product.description.replace('ARCHITECTURE', architecture),
    _OF_ZERO.replace('ZERO', f'{zero:.6g}') if zero else '',
    f'- Base model: {base or "none, trained from scratch"}\n- Data: {data}'
    + (f'\n- True reward: {true_reward}' if true_reward else '')
    + (f'\n- Objective: `{objective}` (config.irl.objective)' if objective else ''),
    notes,
    _results_section(results or {}),
    f'## Licence\n\n{licence}',
    '## How to load it\n\nWith the path of this folder for `PATH`:\n\n'
    f'```python\n{product.use.transformers}\n```\n\nor',
    f'```python\nimport irl_jax\n\n{product.use.irl_jax}\n```',
  ]
  return '\n'.join([*front, '---', '']) + '\n' + '\n\n'.join(filter(None, sections)) + '\n'


def _is_hub_id(base: str) -> bool:
  """Returns whether base is `owner/name` or `owner/name@revision`, and not a local folder."""
  hub_id = re.fullmatch(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\S+)?', base)
  return bool(hub_id) and not os.path.exists(base)


def _results_section(results: Mapping[str, Any]) -> str:
  rows = [f'| {_cell(name)} | {_cell(value)} |' for name, value in _flatten(results)]
  return '\n'.join(['## Results', '', '| metric | value |', '|---|---|', *rows]) if rows else ''


def _flatten(results: Mapping[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
  pairs: list[tuple[str, Any]] = []
  for name, value in results.items():
    if isinstance(value, Mapping):
      pairs += _flatten(value, f'{prefix}{name}.')
    else:
      pairs.append((prefix + str(name), value))
  return pairs


def _cell(value: Any) -> str:
  """Returns the text of a table's cell; a metric that could not be computed is `not available`."""
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  text = 'not available' if value is None else text
  return text.replace('|', '\\|').replace('\n', ' ')
