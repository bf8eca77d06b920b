"""Names and shapes of weights: all mistakes are listed at once, and known buffers are ignored."""

import dataclasses

import numpy as np
import pytest

from irl_jax.errors import InputError
from irl_jax.models import huggingface


def convert(model, weights):
  return huggingface.weights.to_params(model.kind, model.config, weights.items(), 'here')


@pytest.mark.parametrize('fixture', ['language_model', 'reward', 'classifier'])
def test_weights_come_back_the_same(request, fixture):
  model = request.getfixturevalue(fixture)
  weights = huggingface.weights.from_params(model.config, model.params)
  assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in weights.values())
  params = convert(model, weights)
  assert huggingface.weights.from_params(model.config, params).keys() == weights.keys()
  np.testing.assert_equal(params, model.params)


def test_a_kernel_is_transposed_and_belongs_to_its_layer(language_model):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  kernel = language_model.params['blocks']['mlp']['dense_h_to_4h']['kernel']  # [L, in, out]
  np.testing.assert_array_equal(weights['gpt_neox.layers.1.mlp.dense_h_to_4h.weight'], kernel[1].T)


def test_an_embedding_is_not_copied(language_model):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  params = convert(language_model, weights)
  for name, ours in (('gpt_neox.embed_in', 'embed_in'), ('embed_out', 'embed_out')):
    assert np.shares_memory(params[ours]['embedding'], weights[f'{name}.weight'])


def test_all_that_does_not_fit_is_listed(language_model):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
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
    weights = huggingface.weights.from_params(model.config, model.params) | dict.fromkeys(
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
  weights = huggingface.weights.from_params(model.config, model.params)
  assert 'embed_out.weight' not in weights
  embedding = weights['gpt_neox.embed_in.weight']
  np.testing.assert_equal(convert(model, weights | {'embed_out.weight': embedding}), model.params)
  with pytest.raises(InputError, match='embed_out.weight differs'):
    convert(model, weights | {'lm_head.weight': embedding + 1})


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'base_model.model.', 'actor.'])
def test_a_prefix_of_all_names_is_taken_off(language_model, prefix, caplog):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  wrapped = {prefix + name: array for name, array in weights.items()}
  wrapped[prefix + 'gpt_neox.rotary_emb.inv_freq'] = np.ones(4, np.float32)
  wrapped[prefix + 'lm_head.weight'] = wrapped.pop(prefix + 'embed_out.weight')
  np.testing.assert_equal(convert(language_model, wrapped), language_model.params)
  assert f"here: stripped the prefix '{prefix}' from all weight names" in caplog.text


def test_two_prefixes_are_refused(language_model):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  actor, critic = ({f'{role}.{name}': weights[name] for name in weights} for role in 'ac')
  for copies in (actor | critic, weights | critic):
    with pytest.raises(InputError, match='2 different prefixes, for example .* and c.gpt_neox'):
      convert(language_model, copies)


@pytest.mark.parametrize(
  'head',
  [
    'v_head.summary.weight',
    'v_head.0.weight',
    'frozen_head.lm_head',
    'ilql_heads.q_heads.0.0.weight',
    'regression_head.weight',
    'pretrained_model.score.weight',
  ],
)
def test_heads_of_rlhf_tools_are_passed_over(language_model, head, caplog):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  for wrapped in (weights, {f'base_model.{name}': weights[name] for name in weights}):
    params = convert(language_model, wrapped | {head: np.zeros((1, 32), np.float32)})
    np.testing.assert_equal(params, language_model.params)
    assert f'ignored 1 weight of extra heads (for example {head})' in (caplog.text)


def test_an_output_head_next_to_a_score_is_passed_over(reward, caplog):
  weights = huggingface.weights.from_params(reward.config, reward.params)
  params = convert(reward, weights | {'lm_head.weight': np.zeros((264, 32), np.float32)})
  np.testing.assert_equal(params, reward.params)
  assert 'ignored 1 weight of extra heads (for example lm_head.weight)' in caplog.text


@pytest.mark.parametrize('name', ['lm_head.bias', 'gpt_neox.layers.0.attention.v_head.weight'])
def test_what_the_model_would_compute_with_is_no_extra_head(language_model, name):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  with pytest.raises(InputError, match=f'{name} is unexpected'):
    convert(language_model, weights | {name: np.zeros(32, np.float32)})


def test_wrappers_within_names_are_left_out(language_model, caplog):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  wrap = lambda name: name.replace('.mlp.', '._checkpoint_wrapped_module.mlp._orig_mod.')
  wrapped = {f'_fsdp_wrapped_module.{wrap(name)}': weights[name] for name in weights}
  np.testing.assert_equal(convert(language_model, wrapped), language_model.params)
  assert "stripped the prefix '_fsdp_wrapped_module.' from all weight names" in caplog.text
  assert 'here: left _checkpoint_wrapped_module, _orig_mod out of weight names' in caplog.text
  name = 'gpt_neox.layers.0.mlp.dense_h_to_4h.bias'
  with pytest.raises(InputError, match=f'{name} is there twice'):
    convert(language_model, weights | {wrap(name): weights[name]})


@pytest.mark.parametrize(
  'name',
  [
    'base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_A.default.weight',
    'gpt_neox.layers.0.attention.query_key_value.base_layer.weight',
    'base_model.model.score.modules_to_save.default.weight',
  ],
)
def test_an_adapter_that_is_not_merged_is_refused(language_model, name):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  with pytest.raises(InputError, match='an adapter that is not merged .* merge the adapter first'):
    convert(language_model, weights | {name: np.zeros((4, 32), np.float32)})


def test_a_long_list_of_weights_is_shortened(language_model):
  weights = huggingface.weights.from_params(language_model.config, language_model.params)
  with pytest.raises(InputError, match=r'config.json \((\d+)\): .*; and \d+ more$') as caught:
    convert(language_model, {f'{name}s': array for name, array in weights.items()})
  assert len(str(caught.value)) < 600
