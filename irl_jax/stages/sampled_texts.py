"""Texts for an audit, sampled from the base model if you have none of your own.

They are cut, deduplicated and split like any other texts. The original of a row is the base model's
own continuation. Dims: N texts.
"""

from collections.abc import Callable
import dataclasses
import math

import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import sampling
from irl_jax.data import text
from irl_jax.data.prompts import cut_prompt
from irl_jax.models import pretrained
from irl_jax.runtime.records import CutText

SHORTEST = 4  # about the number of tokens of the shortest prompts


def sample_rows(
  model: pretrained.Decoder,
  data: config_lib.Data,
  limits: config_lib.Sampling,
  seed: int,
  dtype: DTypeLike = jnp.float32,
  progress: Callable = iter,
) -> tuple[list[CutText], dict[str, int]]:
  """Samples `data.sampled_prompts` texts and cuts a prompt from each.

  Every text has a maximum length of its own (`lengths`); the model may end it earlier.

  Args:
    model: the base model.
    data: its sampled_prompts, prompt_fraction and max_prompt_tokens are read.
    limits: temperature, top_k, top_p and batch_size of sampling.
    seed: text i depends only on the seed and on i.
    dtype: the compute type.
    progress: wraps the iterable of batches.

  Returns:
    Texts without labels, and counts, as `sources.load_rows` returns them. Texts of only white
    space are skipped, and counted as bad_rows.
  """
  tokens = lengths(data, model.config.max_position_embeddings - 1, seed)
  limits = dataclasses.replace(limits, max_new_tokens=int(tokens.max()), min_new_tokens=1)
  start = text.start(model.tokenizer)
  responses, _ = sampling.complete_ids(model, [start] * len(tokens), limits, seed, dtype, progress)
  ends = model.config.eos_token_ids
  # A text may end inside a character that takes several tokens, which then decodes to U+FFFD.
  texts = [
    text.decode(model.tokenizer, ids[:length], ends, begins=True).rstrip('\ufffd')
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
  """Draws the maximum number of tokens of each text [N], at most `most`.

  A language model rarely ends a text early, so with one limit all prompts would have one length.
  The limits are drawn log-uniformly instead, as the lengths of written texts spread over orders of
  magnitude. Prompts, which are a share `prompt_fraction` of the words, then have from about 4 to
  `max_prompt_tokens` tokens.
  """
  low, high = (
    min(math.ceil(tokens / data.prompt_fraction), most)
    for tokens in (min(SHORTEST, data.max_prompt_tokens), data.max_prompt_tokens)
  )
  drawn = np.random.default_rng(seed).uniform(np.log(low), np.log(high + 1), data.sampled_prompts)
  return np.clip(np.exp(drawn).astype(int), low, high)
