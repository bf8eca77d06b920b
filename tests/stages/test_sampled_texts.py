"""Texts sampled from a base model: their lengths, their seed, and how they are cut."""

import dataclasses

import jax
import numpy as np
import pytest

from irl_jax.config import Data
from irl_jax.config import Sampling
from irl_jax.data import prompts
from irl_jax.models import pretrained
from irl_jax.stages import sampled_texts

DATA = Data(source='prompts', sampled_prompts=200, prompt_fraction=0.5, max_prompt_tokens=8)
LIMITS = Sampling(max_new_tokens=3, batch_size=64)


def favouring(model: pretrained.Pretrained, logits: dict[str, float]) -> pretrained.Pretrained:
  """Returns the model with a constant added to some tokens' logits, at every position."""
  params = jax.tree.map(np.array, model.params)
  centre = params['final_layer_norm']['bias']
  for token, more in logits.items():
    number = model.tokenizer.convert_tokens_to_ids(token)
    params['embed_out']['embedding'][number] += more * centre / (centre @ centre)
  return dataclasses.replace(model, params=params)


@pytest.fixture(scope='module')
def spaced(policy):
  """A model of short words that seldom ends on its own."""
  return favouring(policy, {'Ġ': 1.0, '<|endoftext|>': -6.0})


def tokens_of(model, row):
  return len(model.tokenizer(row['prompt'] + row['original'])['input_ids'])


@pytest.mark.slow
def test_rows_are_cut_texts_of_every_length(spaced):
  rows, counts = sampled_texts.sample_rows(spaced, DATA, LIMITS, seed=0)
  assert counts == {
    'rows_read': 200,
    'bad_rows': 200 - len(rows),
    'rows': len(rows),
    'labelled': 0,
    'toxic': 0,
  }
  assert all(
    prompts.cut_prompt(row['prompt'] + row['original'], 0.5) == (row['prompt'], row['original'])
    and row['label'] is None
    for row in rows
  )
  lengths = [tokens_of(spaced, row) for row in rows]
  assert max(lengths) <= 16 and min(lengths) < 10 and len(set(lengths)) > 4
  assert sum(bool(row['original']) for row in rows) > len(rows) / 2
  assert len({row['prompt'] + row['original'] for row in rows}) > 0.9 * len(rows)


@pytest.mark.slow
def test_a_seed_decides_and_batches_do_not(spaced):
  sample = lambda seed, size: sampled_texts.sample_rows(
    spaced, DATA, dataclasses.replace(LIMITS, batch_size=size), seed
  )[0]
  assert sample(3, 64) == sample(3, 200)
  assert sample(3, 64) != sample(4, 64)


@pytest.mark.slow
def test_blank_texts_are_left_out_and_counted(policy):
  rows, counts = sampled_texts.sample_rows(favouring(policy, {'Ġ': 9.0}), DATA, LIMITS, seed=0)
  assert all((row['prompt'] + row['original']).strip() for row in rows)
  assert counts['bad_rows'] == 200 - len(rows) > 0


@pytest.mark.slow
def test_a_model_that_would_end_at_once_still_gives_a_text(policy):
  rows, _ = sampled_texts.sample_rows(
    favouring(policy, {'<|endoftext|>': 40.0, 'a': 20.0}), DATA, LIMITS, seed=0
  )
  assert len(rows) == 200 and {row['prompt'] for row in rows} == {'a'}


@pytest.mark.parametrize(
  'fraction, longest, most, low, high',
  [(0.25, 64, 2047, 16, 256), (0.5, 2, 2047, 4, 4), (0.25, 64, 100, 16, 100), (1.0, 64, 2, 2, 2)],
)
def test_lengths_fit_prompt_and_positions(fraction, longest, most, low, high):
  data = Data(prompt_fraction=fraction, max_prompt_tokens=longest, sampled_prompts=4000)
  lengths = sampled_texts.lengths(data, most, seed=1)
  assert (lengths.min(), lengths.max()) == (low, high)


def test_every_order_of_length_has_its_share():
  lengths = sampled_texts.lengths(
    Data(prompt_fraction=0.25, max_prompt_tokens=64, sampled_prompts=8000), 2047, seed=1
  )
  shares = [np.mean((lengths >= low) & (lengths < 2 * low)) for low in (16, 32, 64, 128)]
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
