"""Texts for an audit by somebody who has none: sampled from the base model, which is given EOS alone.

They are then cut, freed of duplicates and split like any other texts; a row's original is the base model's own
continuation. Dims: N texts.
"""

from collections.abc import Callable
import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import sampling
from irl_jax.data import text
from irl_jax.data.prompts import cut_prompt
from irl_jax.models import pretrained
from irl_jax.records import CutText

SHORTEST = 4  # tokens of the shortest prompts, about


def sample_rows(
  model: pretrained.Pretrained,
  data: config_lib.Data,
  limits: config_lib.Sampling,
  seed: int,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> tuple[list[CutText], dict[str, int]]:
  """Samples `data.sampled_prompts` texts and cuts a prompt from each.

  Every text is stopped at a length of its own (`lengths`), unless the model has ended it before.

  Args:
    model: the base model.
    data: how many texts, `prompt_fraction` and `max_prompt_tokens`.
    limits: temperature, top_k and top_p that texts are drawn with, and how many at once.
    seed: text i depends on the seed and on i alone.
    dtype: of computation.
    progress: wraps the iterable of batches.

  Returns:
    As `sources.load_rows`: [{'prompt', 'original', 'label': None}], and counts; bad_rows: texts of white space alone,
    which are left out.
  """
  tokens = lengths(data, model.config.max_position_embeddings - 1, seed)
  limits = dataclasses.replace(limits, max_new_tokens=int(tokens.max()), min_new_tokens=1)
  start = [model.config.eos_token_id]
  responses, _ = sampling.complete_ids(model, [start] * len(tokens), limits, seed, dtype, progress)
  # The end may lie within a character of several tokens.
  texts = [
    text.decode(model.tokenizer, ids[:length]).rstrip('\ufffd')
    for ids, length in zip(responses, tokens)
  ]
  cuts = [cut_prompt(sampled, data.prompt_fraction) for sampled in texts if sampled.strip()]
  rows = [CutText(prompt=prompt, original=original, label=None) for prompt, original in cuts]
  return rows, {
    'rows_read': len(texts),
    'bad_rows': len(texts) - len(rows),
    'rows': len(rows),
    'labelled': 0,
    'toxic': 0,
  }


def lengths(data: config_lib.Data, most: int, seed: int) -> np.ndarray:
  """How many tokens each text has at most [N].

  Left alone, a language model goes on for as long as it may, so that all prompts would be of one length. Lengths are
  drawn log-uniformly instead, as those of written texts are spread over orders of magnitude: the prompts, a share
  `prompt_fraction` of the words, then have from some 4 to `max_prompt_tokens` tokens.
  """
  low, high = (
    min(math.ceil(tokens / data.prompt_fraction), most)
    for tokens in (min(SHORTEST, data.max_prompt_tokens), data.max_prompt_tokens)
  )
  drawn = np.random.default_rng(seed).uniform(np.log(low), np.log(high + 1), data.sampled_prompts)
  return np.clip(np.exp(drawn).astype(int), low, high)
