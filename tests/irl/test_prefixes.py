"""Prefixes of the texts of a pair: which exist, which are compared, which is the whole text."""

import numpy as np

from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prefixes


def test_what_all_texts_of_a_prompt_begin_with_is_not_compared():
  texts = [
    ([5, 6, 7, 8], [5, 6, 7, 9, 9]),
    ([5, 6, 2], [5, 6, 7, 8]),
    ([4, 3, 3], [4, 3]),
    ([4, 3, 3], [4, 3, 3]),
  ]
  batch = pairs_lib.pair_batch(texts, np.ones(4), 0, 6)
  alone = prefixes.compared(batch, 1).astype(int)
  assert alone.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6]
  in_pairs = prefixes.compared(batch, 2).astype(int)
  assert in_pairs.tolist() == [[0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6]


def test_a_pair_without_weight_has_no_base_prefixes():
  batch = pairs_lib.pair_batch([([5], [6, 7]), ([5], [8])], np.array([1, 0]), 0, 3)
  of_aligned, of_base = prefixes.present(batch)
  assert of_aligned.tolist() == [[True, False, False], [False] * 3]
  assert of_base.tolist() == [[True, True, False], [False] * 3]


def test_the_last_prefix_is_the_whole_text():
  batch = pairs_lib.pair_batch([([5, 6, 7], [8]), ([9], [2, 3])], np.ones(2), 0, 3)
  scores = np.arange(6, dtype=np.float32).reshape(2, 3)
  aligned, base = prefixes.at_ends([scores, -scores], batch)
  assert aligned.tolist() == [2, 3] and base.tolist() == [0, -4]
