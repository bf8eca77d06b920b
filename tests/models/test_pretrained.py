"""Loading and saving whole models: written by torch, read by torch, and two real checkpoints."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from irl_jax.errors import CheckpointError
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import encoder
from irl_jax.models import pretrained
from irl_jax.models import trunk

TEXTS = ['Hello world', 'a', 'You are quite right; thank you for the source!']
SWITCHES = [
  {},
  {'use_parallel_residual': False},
  {'tie_word_embeddings': True},
  {'attention_bias': False},
  {'rope_parameters': {'rope_type': 'default', 'rope_theta': 500.0, 'partial_rotary_factor': 1.0}},
]


hidden_states = jax.jit(trunk.hidden_states, static_argnames='config')
classify = jax.jit(encoder.classify, static_argnames='config')


def assert_equal_trees(tree, expected):
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, tree, expected)


def encode(model):
  """Returns right-padded ids [B, S] and valid [B, S] of TEXTS."""
  encoded = model.tokenizer(TEXTS, padding=True, padding_side='right', return_tensors='np')
  return encoded['input_ids'].astype(np.int32), encoded['attention_mask'].astype(bool)


def outputs(model):
  """Returns [B, S, V] of a language model, [B, C] of a classifier, [B, 1] of a reward."""
  ids, valid = encode(model)
  if model.kind == 'classifier':
    return np.asarray(classify(model.params, ids, valid, config=model.config))
  hidden = hidden_states(model.params, ids, valid, config=model.config)
  if model.kind == 'causal_lm':
    return np.asarray(trunk.logits(model.params, hidden, model.config)) * valid[..., None]
  return np.asarray(hidden[np.arange(len(ids)), valid.sum(1) - 1] @ model.params['score']['kernel'])


def torch_outputs(folder, model):
  """Returns what transformers computes for `outputs`."""
  torch = pytest.importorskip('torch')
  import transformers

  auto = (
    transformers.AutoModelForCausalLM
    if model.kind == 'causal_lm'
    else (transformers.AutoModelForSequenceClassification)
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  encoded = tokenizer(TEXTS, padding=True, padding_side='right', return_tensors='pt')
  network, report = auto.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
  assert not any(report.values()), report
  with torch.no_grad():
    logits = network.eval()(
      **{k: encoded[k] for k in ('input_ids', 'attention_mask')}
    ).logits.numpy()
  return (
    logits * encoded['attention_mask'].numpy()[..., None] if model.kind == 'causal_lm' else logits
  )


@pytest.mark.parametrize('switch', SWITCHES, ids=lambda switch: '-'.join(switch) or 'default')
def test_language_models_of_torch_score_the_same(tmp_path, language_model, switch):
  torch = pytest.importorskip('torch')
  from transformers import GPTNeoXConfig
  from transformers import GPTNeoXForCausalLM

  torch.manual_seed(0)
  network = GPTNeoXForCausalLM(
    GPTNeoXConfig(
      vocab_size=264,
      hidden_size=32,
      num_hidden_layers=2,
      num_attention_heads=4,
      intermediate_size=48,
      max_position_embeddings=64,
      eos_token_id=0,
      **switch,
    )
  ).eval()
  for parameter in network.parameters():
    parameter.data += 0.3 * torch.randn_like(parameter)
  network.save_pretrained(tmp_path)
  language_model.tokenizer.save_pretrained(tmp_path)
  model = pretrained.load(str(tmp_path))
  assert model.kind == 'causal_lm' and model.source == str(tmp_path)
  np.testing.assert_allclose(outputs(model), torch_outputs(tmp_path, model), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['neox_14m', 'roberta_toxicity_mini'])
def test_the_shared_checkpoints_score_as_in_torch(shared, name):
  model = pretrained.load(str(shared / 'models' / name))
  assert model.tokenizer.pad_token_id == 1
  assert model.tokenizer('Hello world')['input_ids'] == (
    [12092, 1533] if model.kind == 'causal_lm' else [0, 31414, 232, 2]
  )
  np.testing.assert_allclose(
    outputs(model), torch_outputs(shared / 'models' / name, model), atol=1e-4, rtol=0
  )


def test_a_folder_as_s_nlp_ships_it_scores_as_in_torch(tmp_path, shared):
  torch = pytest.importorskip('torch')
  from transformers import RobertaConfig
  from transformers import RobertaForSequenceClassification

  raw = json.loads((shared / 'models/roberta_toxicity_classifier_config.json').read_text())
  raw |= {
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
  }
  (tmp_path / 'config.json').write_text(json.dumps(raw))
  for name in ('vocab.json', 'merges.txt'):
    shutil.copyfile(shared / 'models/roberta_tokenizer' / name, tmp_path / name)
  network = RobertaForSequenceClassification(RobertaConfig(**raw)).eval()
  buffers = {
    'roberta.embeddings.position_ids': torch.arange(514)[None],
    'roberta.pooler.dense.bias': torch.zeros(16),
  }
  torch.save(network.state_dict() | buffers, tmp_path / 'pytorch_model.bin')
  model = pretrained.load(str(tmp_path))
  ids, valid = encode(model)
  with torch.no_grad():
    logits = network(torch.tensor(ids).long(), attention_mask=torch.tensor(valid).long()).logits
  np.testing.assert_allclose(outputs(model), logits, atol=1e-4, rtol=0)
  assert pretrained.toxic_label(model) == 1


@pytest.mark.parametrize('fixture', ['language_model', 'reward', 'classifier'])
def test_exports_come_back_and_score_the_same_in_torch(tmp_path, request, fixture):
  model = request.getfixturevalue(fixture)
  pretrained.save(tmp_path / 'new' / 'model', model, 'the card')
  read = pretrained.load(str(tmp_path / 'new' / 'model'), kinds=(model.kind,))
  assert (read.kind, read.config) == (model.kind, model.config)
  assert_equal_trees(read.params, model.params)
  np.testing.assert_allclose(
    torch_outputs(tmp_path / 'new' / 'model', model), outputs(model), atol=1e-4, rtol=0
  )
  assert (tmp_path / 'new/model/README.md').read_text() == 'the card'
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['model']


@pytest.mark.parametrize(
  'changes',
  [
    {'tie_word_embeddings': True},
    {'attention_bias': False, 'rotary_pct': 0.5},
    {'use_parallel_residual': False, 'rotary_emb_base': 777.0},
  ],
)
def test_exported_switches_score_the_same_in_torch(
  tmp_path, language_model, random_params, changes
):
  config = dataclasses.replace(language_model.config, **changes)
  model = dataclasses.replace(
    language_model, config=config, params=random_params('causal_lm', config)
  )
  pretrained.save(tmp_path / 'model', model, '')
  np.testing.assert_allclose(
    torch_outputs(tmp_path / 'model', model), outputs(model), atol=1e-4, rtol=0
  )


@pytest.mark.slow
def test_a_policy_of_pythia_keeps_its_tokenizer_and_padding(tmp_path, shared):
  model = pretrained.load(str(shared / 'models/neox_14m'))
  pretrained.save(tmp_path / 'policy', model, '')
  read = pretrained.load(str(tmp_path / 'policy'))
  assert_equal_trees(read.params, model.params)
  assert read.hf_config['pad_token_id'] == 1
  assert read.tokenizer(TEXTS)['input_ids'] == model.tokenizer(TEXTS)['input_ids']


def test_config_of_an_export_has_both_rotary_spellings(tmp_path, reward):
  pretrained.save(tmp_path / 'model', reward, '')
  raw = pretrained.read_config(str(tmp_path / 'model'))
  assert raw['architectures'] == ['GPTNeoXForSequenceClassification']
  assert (raw['rotary_pct'], raw['rotary_emb_base'], raw['pad_token_id']) == (0.25, 10000.0, 1)
  assert raw['rope_parameters'] == {
    'rope_type': 'default',
    'rope_theta': 10000.0,
    'partial_rotary_factor': 0.25,
  }
  assert (raw['id2label'], raw['num_labels'], raw['problem_type']) == (
    {'0': 'reward'},
    1,
    'regression',
  )


def test_names_in_an_export_are_those_of_the_hub(tmp_path, language_model):
  from safetensors import safe_open

  pretrained.save(tmp_path / 'model', language_model, '')
  with safe_open(tmp_path / 'model/model.safetensors', 'np') as file:
    assert file.metadata() == {'format': 'pt'}
    assert {
      'embed_out.weight',
      'gpt_neox.embed_in.weight',
      'gpt_neox.final_layer_norm.weight',
      'gpt_neox.layers.1.attention.query_key_value.weight',
    } <= set(file.keys())


def test_save_replaces_a_folder_only_when_the_new_one_is_whole(
  tmp_path, language_model, monkeypatch
):
  folder = tmp_path / 'model'
  pretrained.save(folder, language_model, 'first')
  (tmp_path / 'model.partial').mkdir()
  pretrained.save(folder, language_model, 'second')
  assert (folder / 'README.md').read_text() == 'second'

  def full_disk(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(pretrained.safetensors.numpy, 'save_file', full_disk)
  with pytest.raises(CheckpointError, match='No space left'):
    pretrained.save(folder, language_model, 'third')
  assert (folder / 'README.md').read_text() == 'second'
  assert_equal_trees(pretrained.load(str(folder)).params, language_model.params)


def test_save_notices_what_does_not_read_back(tmp_path, language_model, monkeypatch):
  write = pretrained.safetensors.numpy.save_file

  def corrupt(weights, *arguments, **options):
    write(weights | {'embed_out.weight': weights['embed_out.weight'] + 1e-6}, *arguments, **options)

  monkeypatch.setattr(pretrained.safetensors.numpy, 'save_file', corrupt)
  with pytest.raises(CheckpointError, match='read back as it was written: embed_out.weight'):
    pretrained.save(tmp_path / 'model', language_model, '')
  assert not (tmp_path / 'model').exists()


def test_jax_arrays_and_transposed_ones_are_written_right(tmp_path, language_model):
  odd = jax.tree.map(lambda leaf: np.asfortranarray(leaf), language_model.params)
  odd['embed_in'] = jax.device_put(odd['embed_in'])
  pretrained.save(tmp_path / 'model', dataclasses.replace(language_model, params=odd), '')
  assert_equal_trees(pretrained.load(str(tmp_path / 'model')).params, language_model.params)


def test_who_may_read_the_configuration_may_read_the_weights(tmp_path, language_model):
  pretrained.save(tmp_path / 'model', language_model, 'card')
  modes = {path.stat().st_mode for path in (tmp_path / 'model').iterdir()}
  assert len(modes) == 1


@pytest.mark.slow
def test_torch_is_not_needed(tmp_path, classifier):
  pretrained.save(tmp_path / 'model', classifier, '')
  model, copy = str(tmp_path / 'model'), str(tmp_path / 'copy')
  code = 'import sys; sys.modules["torch"] = None; from irl_jax.models import pretrained; '
  code += f'pretrained.save({copy!r}, pretrained.load({model!r}), "")'
  subprocess.run([sys.executable, '-c', code], check=True)
  assert_equal_trees(pretrained.load(copy).params, classifier.params)


def test_another_kind_of_model_is_refused(tmp_path, classifier):
  pretrained.save(tmp_path / 'model', classifier, '')
  with pytest.raises(InputError, match='is a classifier .* must be causal_lm or reward'):
    pretrained.load(str(tmp_path / 'model'), kinds=('causal_lm', 'reward'))


def test_a_wrong_folder_is_named(tmp_path):
  with pytest.raises(InputError, match='has no config.json'):
    pretrained.load(str(tmp_path))
  with pytest.raises(ConfigError, match='is neither a folder nor a hub id'):
    pretrained.load(str(tmp_path / 'missing'))
  (tmp_path / 'config.json').write_text(
    json.dumps({'architectures': ['MambaForCausalLM'], 'model_type': 'mamba'})
  )
  with pytest.raises(
    InputError, match='MambaForCausalLM.*not supported; must be one of GPTNeoXForCausalLM'
  ):
    pretrained.load(str(tmp_path))


@pytest.mark.parametrize('fixture', ['language_model', 'classifier'])
def test_a_tokenizer_is_loaded_where_there_are_no_weights(tmp_path, request, fixture):
  model = request.getfixturevalue(fixture)
  pretrained.save(tmp_path / 'model', model, '')
  (tmp_path / 'model/model.safetensors').unlink()
  tokenizer = pretrained.load_tokenizer(str(tmp_path / 'model'))
  assert tokenizer(TEXTS)['input_ids'] == model.tokenizer(TEXTS)['input_ids']
  assert pretrained.describe(str(tmp_path / 'model')).config == model.config
  with pytest.raises(InputError, match='has no weights'):
    pretrained.load(str(tmp_path / 'model'))


def test_a_kind_of_model_is_loaded_by_its_name(tmp_path, language_model, classifier):
  pretrained.save(tmp_path / 'language_model', language_model, '')
  pretrained.save(tmp_path / 'classifier', classifier, '')
  places = [str(tmp_path / name) for name in ('language_model', 'classifier')]
  loaders = [pretrained.load_language_model, pretrained.load_classifier]
  for load, place, other in zip(loaders, places, reversed(places)):
    assert load(place).source == place
    with pytest.raises(InputError, match='must be'):
      load(other)
  with pytest.raises(InputError, match='is a classifier .*must be causal_lm'):
    pretrained.load_tokenizer(places[1], kinds=('causal_lm',))
