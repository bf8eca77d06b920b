"""Names and shapes of weights: all mistakes are listed at once, and known buffers are ignored."""

import dataclasses

import numpy as np
import pytest

from irl_jax.errors import InputError
from irl_jax.models import huggingface


def convert(model, weights):
  return huggingface.weights.to_params(model.kind, model.config, weights.items(), 'here')


@pytest.mark.parametrize('fixture', ['language_model', 'reward', 'classifier'])
def test_round_trip(request, fixture):
  model = request.getfixturevalue(fixture)
  weights = huggingface.weights.from_params(model.kind, model.params)
  assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in weights.values())
  params = convert(model, weights)
  assert huggingface.weights.from_params(model.kind, params).keys() == weights.keys()
  np.testing.assert_equal(params, model.params)


def test_orientation_and_layer_of_a_kernel(language_model):
  weights = huggingface.weights.from_params('causal_lm', language_model.params)
  kernel = language_model.params['blocks']['mlp']['dense_h_to_4h']['kernel']  # [L, in, out]
  np.testing.assert_array_equal(weights['gpt_neox.layers.1.mlp.dense_h_to_4h.weight'], kernel[1].T)


def test_all_that_does_not_fit_is_listed(language_model):
  weights = huggingface.weights.from_params('causal_lm', language_model.params)
  norm = 'gpt_neox.layers.0.input_layernorm'
  del weights['embed_out.weight'], weights[f'{norm}.bias']
  weights['gpt_neox.layers.2.mlp.dense_h_to_4h.bias'] = np.zeros(48, np.float32)
  weights['gpt_neox.embed_in.weight'] = weights['gpt_neox.embed_in.weight'][:-1]
  weights[f'{norm}.weight'] = weights[f'{norm}.weight'].astype(np.int8)
  weights['gpt_neox.final_layer_norm.bias'][3] = np.nan
  with pytest.raises(InputError) as caught:
    convert(language_model, weights)
  message = str(caught.value)
  assert (
    message.startswith('here: the weights do not fit config.json (6): ') and '\n' not in message
  )
  for problem in (
    'embed_out.weight is missing',
    f'{norm}.bias is missing',
    f'{norm}.weight is int8, must be float16',
    'gpt_neox.layers.2.mlp.dense_h_to_4h.bias is unexpected',
    'gpt_neox.embed_in.weight is [263, 32], must be [264, 32]',
    'gpt_neox.final_layer_norm.bias is not finite',
  ):
    assert problem in message


def test_known_buffers_are_passed_over(language_model, classifier):
  buffer = np.ones((1, 1, 4, 4), bool)
  for model, names in (
    (
      language_model,
      [
        'gpt_neox.layers.1.attention.bias',
        'gpt_neox.layers.0.attention.masked_bias',
        'gpt_neox.layers.0.attention.rotary_emb.inv_freq',
        'gpt_neox.rotary_emb.inv_freq',
      ],
    ),
    (
      classifier,
      [
        'roberta.embeddings.position_ids',
        'roberta.pooler.dense.weight',
        'roberta.pooler.dense.bias',
      ],
    ),
  ):
    weights = huggingface.weights.from_params(model.kind, model.params) | dict.fromkeys(
      names, buffer
    )
    np.testing.assert_equal(convert(model, weights), model.params)
  with pytest.raises(InputError, match='lm_head.bias is unexpected'):
    convert(classifier, weights | {'lm_head.bias': buffer})


def test_a_tied_head_may_be_written_out_if_it_is_the_same(language_model, random_params):
  config = dataclasses.replace(language_model.config, tie_word_embeddings=True)
  model = dataclasses.replace(
    language_model, config=config, params=random_params('causal_lm', config)
  )
  weights = huggingface.weights.from_params('causal_lm', model.params)
  assert 'embed_out.weight' not in weights
  embedding = weights['gpt_neox.embed_in.weight']
  np.testing.assert_equal(convert(model, weights | {'embed_out.weight': embedding}), model.params)
  with pytest.raises(InputError, match='embed_out.weight differs'):
    convert(model, weights | {'lm_head.weight': embedding + 1})
