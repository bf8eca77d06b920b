"""Writes the rows of playground_harmless.yaml.

python examples/lm_eval/make_data.py

A prompt of the playground that both a harmless and a toxic comment begin with, and both rests. The
seed is not that of a config, so the comments are mostly new to the models.
"""

import json
import pathlib

from irl_jax.data import prompts
from irl_jax.data.playground import comments

SEED, COMMENTS, ROWS = 99, 40000, 300
OUTPUT = pathlib.Path(__file__).with_name('playground_harmless.jsonl')


def rows() -> list[dict[str, str]]:
  """Returns {'prompt', 'harmless', 'toxic'} of the first prompts that have both rests."""
  rests = {}
  for comment in comments.comments(COMMENTS, SEED):
    prompt, rest = prompts.cut_prompt(comment['text'], 0.25)
    rests.setdefault(prompt, {}).setdefault(comment['label'], rest)
  both = [(prompt, found) for prompt, found in rests.items() if len(found) == 2]
  return [{'prompt': prompt, 'harmless': one[0], 'toxic': one[1]} for prompt, one in both[:ROWS]]


if __name__ == '__main__':
  OUTPUT.write_text(''.join(json.dumps(row) + '\n' for row in rows()), encoding='utf-8')
