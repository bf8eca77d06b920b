"""Problems that users of other tools reported in public, each with an input of its kind.

Two are tested elsewhere, and print nothing: huggingface/trl#331 in
tests/data/test_user_rewards.py, and huggingface/trl#235 in tests/test_distribution.py.
"""

from collections.abc import Callable
import gzip
import json
import pathlib
from typing import Any

import commands
import documented
import numpy as np
import pytest
import safetensors.numpy

from irl_jax import errors
from irl_jax.data import user_rewards

DENSE = 'gpt_neox.layers.0.attention.dense.weight'
HALVES = 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'
LETTERS = ''.join(f'{{"text": "word {chr(97 + n % 26)} {n * n}"}}\n' for n in range(99))
ROWS: dict[str, tuple[str | bytes, str]] = {  # what is scored, and the name of its file
  'wbolster/jsonlines#53': ('{"text": "a\u2028b\x85c"}\n{"text": "d"}\n', 'rows.jsonl'),
  'wbolster/jsonlines#68': (b'\xef\xbb\xbf{"text": "a"}\n', 'rows.jsonl'),
  'huggingface/datasets#6460': (
    ''.join(f'{{"text": "a", "x": {x}}}\n' for x in ('[[0, "b"]]', '"b"', '3')),
    'rows.jsonl',
  ),
  'huggingface/datasets#4467': ('text,id\nnull,1\nNA,2\nnan,3\n,4\n', 'rows.csv'),
  'alan-turing-institute/CleverCSV#21': (f'text,id\n{"word " * 30_000},1\nb,2\n', 'rows.csv'),
  'tloen/alpaca-lora#239': ('[{"text": "a"},\n {"text": "b"}]\n', 'rows.jsonl'),
  'opentargets/issues#211': ('{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', 'rows.jsonl'),
  'hscspring/hcgf#15': ('{"text": "a\nb"}\n', 'rows.jsonl'),
  'huggingface/datasets#3060': (gzip.compress(LETTERS.encode(), mtime=0)[:400], 'rows.jsonl.gz'),
  'huggingface/accelerate#350': (''.join(LETTERS.splitlines(True)[:5]), 'rows.jsonl'),
}


def change(path: pathlib.Path, **fields: Any) -> None:
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def weights(model: pathlib.Path, **changed: np.ndarray | None) -> None:
  """Replaces weights of a model; None deletes one."""
  path = model / 'model.safetensors'
  tensors = safetensors.numpy.load_file(path) | {
    name.replace('__', '.'): array for name, array in changed.items()
  }
  kept = {name: array for name, array in tensors.items() if array is not None}
  safetensors.numpy.save_file(kept, path)


def newer_rope(model: pathlib.Path) -> None:
  raw = json.loads((model / 'config.json').read_text())
  older = 'rotary_pct', 'rotary_emb_base'
  raw = {name: value for name, value in raw.items() if name not in older}
  raw['rope_parameters'] = {'partial_rotary_factor': 0.5, 'rope_theta': 10000.0}
  (model / 'config.json').write_text(json.dumps(raw))


def int8(model: pathlib.Path) -> None:
  scales = np.ones(16, np.float16)
  weights(model, **{DENSE: np.ones((16, 16), np.int8), DENSE.replace('weight', 'SCB'): scales})


def shards(model: pathlib.Path) -> None:
  tensors = sorted(safetensors.numpy.load_file(model / 'model.safetensors').items())
  for name, half in zip(HALVES, (tensors[::2], tensors[1::2])):
    safetensors.numpy.save_file(dict(half), model / name)
  (model / 'model.safetensors').unlink()


def shard_missing(model: pathlib.Path) -> None:
  shards(model)
  index = {'weight_map': dict(zip('ab', HALVES))}
  (model / 'model.safetensors.index.json').write_text(json.dumps(index))
  (model / HALVES[1]).unlink()


def cutting_tokenizer(model: pathlib.Path) -> None:
  change(
    model / 'tokenizer.json',
    truncation={'direction': 'Right', 'max_length': 1, 'strategy': 'LongestFirst', 'stride': 0},
    padding={
      'strategy': {'Fixed': 20},
      'direction': 'Right',
      'pad_to_multiple_of': None,
      'pad_id': 1,
      'pad_type_id': 0,
      'pad_token': '<|padding|>',
    },
  )


def other_merges(model: pathlib.Path) -> None:
  words = json.loads((model / 'tokenizer.json').read_text())
  merges = words['model']['merges']
  words['model']['merges'] = [
    one.split(' ') if isinstance(one, str) else ' '.join(one) for one in merges
  ]
  (model / 'tokenizer.json').write_text(json.dumps(words))


MODELS: dict[str, Callable[[pathlib.Path], None]] = {
  'huggingface/transformers#44985': newer_rope,
  'huggingface/transformers#38870': lambda model: weights(model, embed_out__weight=None),
  'axolotl-ai-cloud/axolotl#1191': lambda model: weights(
    model, **{DENSE: np.full((16, 16), np.nan, np.float32)}
  ),
  'huggingface/transformers-bloom-inference#80': int8,
  'bitsandbytes-foundation/bitsandbytes#535': lambda model: change(
    model / 'config.json', quantization_config={'load_in_8bit': True}
  ),
  'unslothai/unsloth#2355': shards,
  'sgl-project/sglang#32279': shard_missing,
  'elixir-nx/tokenizers#46': cutting_tokenizer,
  'allenai/open-instruct#738': other_merges,
}
SAME_SCORES = 'elixir-nx/tokenizers#46', 'allenai/open-instruct#738'


def written(folder: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in (folder / 'out.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('report', ROWS)
def test_rows_give_what_is_documented(report, folder, ends_as_documented):
  content, name = ROWS[report]
  ends_as_documented(report, 'score', commands.score(folder, content, name))


@pytest.mark.parametrize('report', MODELS)
def test_models_give_what_is_documented(report, folder, run, ends_as_documented):
  MODELS[report](folder / 'model')
  ends_as_documented(report, 'score', commands.score(folder))
  if report in SAME_SCORES:
    changed = written(folder)
    (folder / 'out.jsonl').unlink()
    commands.make_models(folder)
    assert run('score', *commands.score(folder)).code == 0
    assert written(folder) == changed


@pytest.mark.slow
def test_left_padding_changes_no_completion(folder, run, ends_as_documented):
  flags = ('--max_new_tokens=4', '--temperature=0')
  prompts = ['a', 'a text of some words and others', 'and']
  rows = [json.dumps({'prompt': prompt}) + '\n' for prompt in prompts]
  arguments = commands.score(folder, ''.join(rows), flags=flags)
  ends_as_documented('huggingface/transformers#22161', 'generate', arguments)
  together = written(folder)
  (folder / 'out.jsonl').unlink()
  assert run('generate', *commands.score(folder, rows[0], flags=flags)).code == 0
  assert written(folder) == together[:1]


@pytest.mark.parametrize(
  'report, texts',
  [
    ('natolambert/rlhf-book#503', [f'{word} {"word " * 90}' for word in ('good', 'bad')]),
    ('allenai/reward-bench#137', ['a', 'some words and others']),
  ],
)
def test_classifiers_give_what_is_documented(report, texts, folder, ends_as_documented):
  rows = ''.join(json.dumps({'text': text}) + '\n' for text in texts)
  ends_as_documented(report, 'score', commands.score(folder, rows, model=folder / 'classifier'))


def test_rewards_of_each_token_are_refused(tmp_path):
  def scores(texts):
    return [[0.0] * 5 for _ in texts]

  with pytest.raises(errors.InputError) as caught:
    user_rewards.checked(scores, 'reward')(['a', 'b'])
  code = caught.value.exit_code
  documented.check('CarperAI/trlx#602', str(caught.value), code, tmp_path)
