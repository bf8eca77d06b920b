"""config.json of every version and size: read correctly, or refused if we cannot run the model."""

import dataclasses
import json
import math

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import pytest

from irl_jax.errors import InputError
from irl_jax.models import huggingface

NEOX = {
  'architectures': ['GPTNeoXForCausalLM'],
  'model_type': 'gpt_neox',
  'vocab_size': 264,
  'hidden_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'intermediate_size': 48,
  'max_position_embeddings': 64,
  'layer_norm_eps': 1e-5,
  'rotary_pct': 0.5,
  'rotary_emb_base': 5000,
}
ROBERTA = {name: NEOX[name] for name in NEOX if 'rotary' not in name} | {
  'architectures': ['RobertaForSequenceClassification'],
  'model_type': 'roberta',
  'type_vocab_size': 1,
}


def parse(raw, **changes):
  return huggingface.config.parse(raw | changes, 'here')


def test_all_pythia_sizes_have_their_number_of_parameters(shared):
  models = json.loads((shared / 'models/pythia_configs.json').read_text())['models']
  assert len(models) == 10
  for raw in models.values():
    kind, config = huggingface.config.parse(raw, 'here')
    tree = huggingface.weights.shapes(kind, config)
    assert (
      sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
      == raw['_derived']['params_total']
    )
    assert config.rotary_ndims == raw['_derived']['rotary_ndims']


def test_the_papers_classifier_is_read(shared):
  raw = json.loads((shared / 'models/roberta_toxicity_classifier_config.json').read_text())
  kind, config = huggingface.config.parse(raw, 'here')
  assert kind == 'classifier' and config.labels == ('neutral', 'toxic') and config.max_tokens == 512
  assert huggingface.labels.toxic_label(config.labels) == 1


def test_encoders_without_a_field_for_it_have_the_defaults_of_their_family():
  bert = {**ROBERTA, 'architectures': ['BertForSequenceClassification'], 'model_type': 'bert'}
  _, config = parse(bert, pad_token_id=None)
  assert (config.family, config.pad_token_id, config.first_position) == ('bert', 0, 0)
  with pytest.raises(InputError, match='type_vocab_size = 0: must be > 0'):
    parse(bert, type_vocab_size=0)
  distilbert = {'vocab_size': 9, 'dim': 8, 'n_layers': 1, 'n_heads': 2, 'hidden_dim': 8} | {
    'architectures': ['DistilBertForSequenceClassification'],
    'model_type': 'distilbert',
    'max_position_embeddings': 16,
  }
  _, config = parse(distilbert)
  assert (config.hidden_size, config.type_vocab_size, config.layer_norm_eps) == (8, 0, 1e-12)
  with pytest.raises(InputError, match="hidden_act = 'relu' is not supported"):
    parse(distilbert, activation='relu')


def test_both_rotary_spellings_are_read():
  _, old = parse(NEOX)
  new = {
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 5000, 'partial_rotary_factor': 0.5}
  }
  only_new = {name: value for name, value in NEOX.items() if 'rotary' not in name}
  assert (old.rotary_pct, old.rotary_emb_base) == (0.5, 5000.0)
  assert parse(only_new, **new)[1] == old
  assert parse(NEOX, **new)[1] == old
  assert parse(only_new)[1].rotary_pct == 0.25
  assert parse(NEOX, rope_parameters={'rope_theta': 7.0})[1] == dataclasses.replace(
    old, rotary_emb_base=7.0
  )


@pytest.mark.parametrize('kind', ['causal_lm', 'reward', 'classifier'])
def test_what_we_write_is_what_we_read(kind):
  raw = ROBERTA | {'id2label': {'1': 'b', '0': 'a'}} if kind == 'classifier' else NEOX
  config = parse(raw)[1]
  written = json.loads(json.dumps(huggingface.config.to_json(kind, config, 3)))
  assert huggingface.config.parse(written, 'here') == (kind, config)
  assert written['pad_token_id'] == (
    1 if kind == 'classifier' else 3
  )  # RoBERTa's fixes its positions


@pytest.mark.parametrize(
  'name', ['FSDPGPTNeoXForCausalLM', 'GPTNeoXForCausalLMWithValueHead', 'GPTNeoXForCausalLM']
)
def test_names_of_wrapped_classes_are_read(name):
  assert parse(NEOX, architectures=[name]) == parse(NEOX)


@pytest.mark.parametrize(
  'raw, changes, message',
  [
    (NEOX, {'auto_map': {'AutoModel': 'evil.py'}}, 'auto_map.*nothing was executed'),
    (
      NEOX,
      {'architectures': ['GPTNeoXForTokenClassification']},
      'is not supported; must be one of',
    ),
    (NEOX, {'architectures': ['MyGPTNeoXForCausalLM']}, 'is not supported'),
    (NEOX, {'architectures': ['GPTNeoXForCausalLM', 'GPTNeoXForCausalLM']}, 'is not supported'),
    (NEOX, {'architectures': []}, r'architecture \[\] of model_type'),
    (NEOX, {'model_type': 'roberta'}, 'is not supported'),
    (NEOX, {'hidden_act': 'relu'}, "hidden_act = 'relu' is not supported; must be gelu"),
    (NEOX, {'rope_parameters': {'rope_type': 'linear', 'factor': 2.0}}, "rope_type = 'linear'"),
    (NEOX, {'rope_scaling': {'type': 'dynamic', 'factor': 2.0}}, "rope_type = 'dynamic'"),
    (NEOX, {'quantization_config': {'bits': 4}}, 'quantized weights are not read; pass'),
    (NEOX, {'hidden_size': None}, 'has no hidden_size'),
    (NEOX, {'hidden_size': '32'}, "hidden_size = '32': must be of type int"),
    (NEOX, {'eos_token_id': ['0']}, r"eos_token_id = \['0'\]: must be a token id, or a list of"),
    (NEOX, {'num_hidden_layers': 0}, 'num_hidden_layers = 0: must be > 0'),
    (NEOX, {'vocab_size': -1}, 'out of range'),
    (NEOX, {'layer_norm_eps': float('nan')}, 'out of range'),
    (NEOX, {'num_attention_heads': 5}, 'must divide'),
    (ROBERTA, {'position_embedding_type': 'relative_key'}, 'position_embedding_type'),
    (ROBERTA, {'is_decoder': True}, 'is_decoder'),
    (ROBERTA, {'id2label': {'1': 'a', '2': 'b'}}, 'must name labels 0, 1, ...'),
    (ROBERTA, {'id2label': ['a', 'b']}, 'id2label = .*: must name labels 0, 1, ...'),
    (
      ROBERTA,
      {'num_labels': 10**9},
      'num_labels = 1000000000: must be a whole number from 1 to 10000',
    ),
    (ROBERTA, {'num_labels': [2]}, r'num_labels = \[2\]'),
    (ROBERTA, {'max_position_embeddings': 4}, 'max_position_embeddings = 4: no text fits'),
    (ROBERTA, {'type_vocab_size': 0}, 'type_vocab_size = 0: must be > 0'),
    (NEOX, {'architectures': {'0': 'GPTNeoXForCausalLM'}}, 'is not supported; must be one of'),
    (NEOX, {'architectures': [['GPTNeoXForCausalLM']]}, 'is not supported; must be one of'),
    (NEOX, {'rope_parameters': 'default'}, "= 'default': must be an object"),
    (NEOX, {'rotary_pct': 1.5}, 'rotary_pct = 1.5: must be <= 1'),
    (NEOX, {'rotary_pct': 0.4}, 'rotary_pct = 0.4: .*head size .8. must be an even number'),
    (NEOX, {'rotary_emb_base': 0}, 'rotary_emb_base = 0: must be > 0'),
    (NEOX, {'max_position_embeddings': 0}, 'max_position_embeddings = 0: must be > 0'),
    (NEOX, {'eos_token_id': 264}, 'eos_token_id = 264: must be < vocab_size = 264'),
  ],
)
def test_what_is_not_supported_is_refused(raw, changes, message):
  with pytest.raises(InputError, match=f'here: .*{message}'):
    parse(raw, **changes)


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=5,
)
ROPE = st.dictionaries(
  st.sampled_from(['rope_type', 'type', 'rope_theta', 'partial_rotary_factor']), JSON
)
FIELDS = st.sampled_from(
  [
    *NEOX,
    *ROBERTA,
    *huggingface.config.DEFAULTS,
    *huggingface.config.ONLY,
    'auto_map',
    'id2label',
    'num_labels',
    'rope_scaling',
    'rope_parameters',
  ]
)


@settings(max_examples=300, deadline=None)
@given(
  st.sampled_from([NEOX, ROBERTA]),
  st.dictionaries(FIELDS, JSON | st.integers(0, 70) | ROPE, max_size=3),
)
def test_any_config_is_a_model_or_an_error_of_ours(raw, changes):
  try:
    kind, config = parse(raw, **changes)
  except InputError as error:
    assert str(error).startswith('here: ')
  else:
    assert kind in huggingface.config.KINDS and config.vocab_size > config.eos_token_id >= 0
