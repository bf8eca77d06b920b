"""LoRA adapters: merged as PEFT merges them, their bases found, and what is not exact refused."""

import json
import shutil

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import adapter as adapter_lib

RANK, ALPHA = 4, 6
DENSE = 'gpt_neox.layers.1.attention.dense'
SETTINGS = {
  'peft_type': 'LORA',
  'task_type': 'CAUSAL_LM',
  'base_model_name_or_path': 'base',
  'r': RANK,
  'lora_alpha': ALPHA,
  'target_modules': ['dense'],
  'lora_dropout': 0.1,
  'qalora_group_size': 16,
}


def factors(module=DENSE, rank=RANK, size=(32, 32), seed=1):
  """Returns lora_A [r, in] and lora_B [out, r] of one module, under PEFT's names."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
  return {
    f'base_model.model.{module}.lora_A.weight': draw(rank, size[1]),
    f'base_model.model.{module}.lora_B.weight': draw(size[0], rank),
  }


def write_adapter(folder, tensors=None, **settings):
  """Writes an adapter without PEFT."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'adapter_config.json').write_text(json.dumps(SETTINGS | settings))
  save_file(factors() if tensors is None else tensors, folder / 'adapter_model.safetensors')
  return str(folder)


@pytest.fixture
def base(tmp_path, language_model):
  """The folder of the language model, next to which adapters are written."""
  pretrained.save(tmp_path / 'base', language_model, '')
  return tmp_path / 'base'


@pytest.fixture
def write(tmp_path, base):
  """A function from tensors and changed settings to the folder of an adapter of `base`."""
  return lambda tensors=None, **settings: write_adapter(tmp_path / 'adapter', tensors, **settings)


def dense(params):
  """Returns the weight [out, in] that `factors` adapts."""
  return np.asarray(params['blocks']['attention']['dense']['kernel'][1]).T


PARITY = {
  'one factor': {},
  'another rank and alpha': {'r': 3, 'lora_alpha': 16},
  'rslora': {'use_rslora': True},
  'all linear modules': {'target_modules': 'all-linear'},
  'a regular expression': {'target_modules': r'.*layers\.0.*(query_key_value|dense)'},
  'patterns': {
    'target_modules': 'all-linear',
    'rank_pattern': {r'layers\.0\.attention\.dense': 2, 'dense_h_to_4h': 5},
    'alpha_pattern': {'query_key_value': 3, r'^gpt_neox\.layers\.1\.mlp\.dense_4h_to_h': 11},
    'use_rslora': True,
  },
  # PEFT ignores it for torch.nn.Linear.
  'fan_in_fan_out': {'fan_in_fan_out': True},
  'saved modules': {'modules_to_save': ['final_layer_norm', 'lm_head', 'embed_in']},
  'adapted embeddings': {'target_modules': ['embed_in', 'lm_head', 'dense']},
}


@pytest.mark.parametrize('case', PARITY)
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path, base, case):
  torch = pytest.importorskip('torch')
  peft = pytest.importorskip('peft')
  import transformers

  torch.manual_seed(0)
  network = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
  settings = {'target_modules': ['dense'], 'task_type': 'CAUSAL_LM', 'r': RANK} | PARITY[case]
  adapted = peft.get_peft_model(network, peft.LoraConfig(**settings))
  for parameter in adapted.parameters():
    if parameter.requires_grad:
      parameter.data += 0.1 * torch.randn_like(parameter)
  adapted.save_pretrained(tmp_path / 'adapter')
  adapted.merge_and_unload().save_pretrained(tmp_path / 'merged')
  for file in base.glob('tokenizer*'):
    shutil.copy(file, tmp_path / 'merged')
  model = pretrained.load(str(tmp_path / 'adapter'))
  expected = pretrained.load(str(tmp_path / 'merged'))
  chex.assert_trees_all_close(model.params, expected.params, atol=1e-5)
  changed = jax.tree.map(
    lambda x, y: not np.array_equal(x, y), model.params, pretrained.load(str(base)).params
  )
  assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize('rslora', [False, True])
def test_the_sum_is_that_of_the_paper(write, language_model, rslora):
  tensors = factors()
  merged = pretrained.load(write(tensors, use_rslora=rslora)).params
  a, b = (array.astype(np.float64) for array in tensors.values())
  scale = ALPHA / (np.sqrt(RANK) if rslora else RANK)
  expected = dense(language_model.params).astype(np.float64) + scale * b @ a
  np.testing.assert_allclose(dense(merged), expected, atol=1e-6)
  # Everything else is the base's, bit for bit.
  merged['blocks']['attention']['dense']['kernel'] = language_model.params['blocks']['attention'][
    'dense'
  ]['kernel']
  chex.assert_trees_all_equal(merged, language_model.params)


def test_weights_of_torch_and_names_with_the_adapters_name(tmp_path, base):
  torch = pytest.importorskip('torch')
  expected = pretrained.load(write_adapter(tmp_path / 'one')).params
  write_adapter(tmp_path / 'two')
  (tmp_path / 'two' / 'adapter_model.safetensors').unlink()
  named = {
    name.replace('.weight', '.default.weight'): torch.tensor(x) for name, x in factors().items()
  }
  torch.save(named, tmp_path / 'two' / 'adapter_model.bin')
  chex.assert_trees_all_equal(pretrained.load(str(tmp_path / 'two')).params, expected)


@pytest.mark.parametrize(
  'named, place',
  [
    ('base', 'adapter'),  # next to the adapter
    ('../base', 'adapter'),
    ('../../base', 'runs/adapter'),  # relative to the adapter's own folder
    ('/home/someone/models/base', 'adapter'),  # of the machine that it was trained on
    ('./models/base', 'adapter'),
  ],
)
def test_the_base_is_found_from_the_adapter(tmp_path, base, named, place):
  spec = write_adapter(tmp_path / place, base_model_name_or_path=named)
  assert (tmp_path / place / pretrained.base_of(spec)).resolve() == base.resolve()
  assert pretrained.load(spec).source == spec
  assert pretrained.base_of(str(base)) == ''


def test_the_user_names_another_base(tmp_path, write, base, language_model):
  doubled = jax.tree.map(lambda leaf: 2 * leaf, language_model.params)
  other = type(language_model)(
    'causal_lm', language_model.config, doubled, language_model.tokenizer
  )
  pretrained.save(tmp_path / 'a+b', other, '')  # a folder's own + is no separator
  spec = write(base_model_name_or_path=None)
  with pytest.raises(
    InputError, match=r'adapter_config.json names no base; name it yourself: .*\+BASE'
  ):
    pretrained.load(spec)
  merged = pretrained.load(f'{spec}+{tmp_path / "a+b"}').params
  np.testing.assert_array_equal(merged['embed_in']['embedding'], doubled['embed_in']['embedding'])
  assert pretrained.load(str(tmp_path / 'a+b')).source.endswith('a+b')
  with pytest.raises(ConfigError, match=r'is not an adapter .*remove \+'):
    pretrained.load(f'{base}+{base}')


def test_the_fingerprint_is_of_both(write, base):
  spec = write()
  before = pretrained.fingerprint(spec)
  assert pretrained.fingerprint(spec) == before
  (base / 'README.md').write_text('changed')
  after = pretrained.fingerprint(spec)
  assert after[0] == before[0] and after[1] != before[1]


def test_an_adapters_own_tokenizer_is_used_if_it_has_one(write, base):
  spec = write()
  assert pretrained.load(spec).tokenizer.pad_token == '<|padding|>'
  for file in base.glob('tokenizer*'):
    text = file.read_text().replace('<|padding|>', '<|filling|>')
    (base.parent / 'adapter' / file.name).write_text(text)
  assert pretrained.load(spec).tokenizer.pad_token == '<|filling|>'


def saved_embeddings(rows=266):
  rng = np.random.default_rng(0)
  return {
    f'base_model.model.{name}.weight': rng.normal(0, 0.3, (rows, 32)).astype(np.float32)
    for name in ('gpt_neox.embed_in', 'lm_head')
  }


def test_embeddings_with_more_rows_are_read_if_the_adapter_saved_them(write):
  tensors = factors() | saved_embeddings()
  spec = write(tensors, modules_to_save=['embed_in', 'lm_head'])
  model = pretrained.load(spec)
  assert model.config.vocab_size == pretrained.describe(spec).config.vocab_size == 266
  np.testing.assert_array_equal(
    model.params['embed_out']['embedding'], tensors['base_model.model.lm_head.weight']
  )


def test_tied_embeddings_stay_tied_or_the_adapter_is_refused(tmp_path, write, base, language_model):
  tied = json.loads((base / 'config.json').read_text()) | {'tie_word_embeddings': True}
  weights = dict(pretrained.huggingface.weight_files.stream(base))
  del weights['embed_out.weight']
  save_file(weights, base / 'model.safetensors')
  (base / 'config.json').write_text(json.dumps(tied))
  assert 'embed_out' not in pretrained.load(write()).params
  both = saved_embeddings(264)
  both['base_model.model.lm_head.weight'] = both['base_model.model.gpt_neox.embed_in.weight']
  saved = pretrained.load(write(both)).params
  np.testing.assert_array_equal(saved['embed_in']['embedding'], next(iter(both.values())))
  for tensors in (
    factors('lm_head', size=(264, 32)),
    dict(list(both.items())[:1]),
    {name.replace('_A', '_embedding_A'): x for name, x in factors('gpt_neox.embed_in').items()},
  ):
    with pytest.raises(InputError, match='has tie_word_embeddings, and merged into both'):
      pretrained.load(write(tensors))


@pytest.mark.parametrize(
  'changes, named',
  [
    ({'peft_type': 'IA3'}, "peft_type = 'IA3' is not supported; must be 'LORA'"),
    ({'peft_type': None}, 'peft_type = None'),
    ({'bias': 'lora_only'}, "bias = 'lora_only' is not supported; must be 'none'"),
    ({'init_lora_weights': 'pissa'}, "init_lora_weights = 'pissa'"),
    ({'init_lora_weights': 'pissa_niter_4'}, "init_lora_weights = 'pissa_niter_4'"),
    ({'use_dora': True}, 'use_dora = True is not supported; must be absent'),
    ({'lora_bias': True}, 'lora_bias = True'),
    ({'use_qalora': True}, 'use_qalora = True'),
    ({'layer_replication': [[0, 2]]}, r'layer_replication = \[\[0, 2\]\]'),
    ({'trainable_token_indices': [3]}, r'trainable_token_indices = \[3\]'),
    ({'target_parameters': ['mlp.experts']}, 'target_parameters'),
    ({'alora_invocation_tokens': [1]}, 'alora_invocation_tokens'),
    ({'megatron_config': {'a': 1}}, 'megatron_config'),
    ({'a_new_kind': 'on'}, "a_new_kind = 'on'"),
    ({'r': 0}, 'r = 0 is not supported; must be a whole number > 0'),
    ({'lora_alpha': None}, 'lora_alpha = None is not supported; must be a number'),
    ({'rank_pattern': {'a': 0}}, 'rank_pattern'),
    ({'alpha_pattern': {'(': 1}}, 'alpha_pattern .* regular expressions'),
    ({'modules_to_save': 'all'}, "modules_to_save = 'all'"),
    ({'task_type': 'SEQ_CLS'}, "task_type = 'SEQ_CLS', but its base .* is a causal_lm"),
    ({'base_model_name_or_path': '/no/such/model'}, "its base '/no/such/model' is not here"),
    ({'base_model_name_or_path': 'adapter'}, 'its base: hub model adapter'),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_settings_that_mean_something_else_are_refused(write, monkeypatch, changes, named):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  with pytest.raises(InputError, match=named) as caught:
    pretrained.load(write(**changes))
  assert '\n' not in str(caught.value)


NOT_IN_BASE = 'gpt_neox.layers.7.attention.dense'


@pytest.mark.parametrize(
  'tensors, named',
  [
    (
      factors()
      | {f'base_model.model.{DENSE}.lora_magnitude_vector.weight': np.ones(32, np.float32)},
      f'contains tensors that cannot be merged .*{DENSE}.lora_magnitude_vector',
    ),
    ({f'{DENSE}.lora_B.bias': np.ones(32, np.float32)}, 'cannot be merged .*lora_B.bias'),
    ({name: x.astype(np.int8) for name, x in factors().items()}, 'cannot be merged .*lora_A'),
    (dict(list(factors().items())[:1]), f'lacks one of lora_A and lora_B .{DENSE}.weight'),
    (factors(NOT_IN_BASE), f'adapts weights that its base .* does not have .{NOT_IN_BASE}.weight'),
    (factors(rank=3), 'lora_A .3, 32. and lora_B .32, 3. of rank 4 do not fit'),
    (factors(size=(96, 32)), r'lora_B \[96, 4\] .*do not fit .*\[32, 32\]'),
    (saved_embeddings(), r'lm_head.weight is \[266, 32\], .*only if modules_to_save names them'),
    ({'score.weight': np.ones((1, 32), np.float32)}, 'does not have .score.weight'),
    ({name: x * np.inf for name, x in factors().items()}, f'{DENSE}.weight is not finite'),
    (
      {'token_adapter.trainable_tokens_delta': np.ones((1, 32), np.float32)},
      'does not have .token_adapter.trainable_tokens_delta',
    ),
  ],
)
@pytest.mark.filterwarnings('ignore:invalid value')
def test_every_tensor_is_merged_or_refused_by_name(write, tensors, named):
  with pytest.raises(InputError, match=named):
    pretrained.load(write(tensors))


def test_what_is_missing_is_named(tmp_path, write, base):
  spec = write()
  shutil.copytree(spec, tmp_path / 'inner')
  shutil.rmtree(base)
  shutil.copytree(tmp_path / 'inner', base)
  with pytest.raises(InputError, match='its base .* is an adapter too; merge that one first'):
    pretrained.load(spec)
  (tmp_path / 'adapter' / 'adapter_model.safetensors').unlink()
  with pytest.raises(InputError, match='has adapter_config.json, but no adapter_model.safetensors'):
    adapter_lib.find(f'{spec}+{base}').changes()


def test_an_adapter_of_a_reward_brings_its_score(tmp_path, reward):
  pretrained.save(tmp_path / 'base', reward, '')
  score = {'base_model.model.score.weight': np.full((1, 32), 0.5, np.float32)}
  spec = write_adapter(tmp_path / 'adapter', factors() | score, task_type='SEQ_CLS')
  model = pretrained.load(spec, ('reward',))
  np.testing.assert_array_equal(model.params['score']['kernel'], np.full((32, 1), 0.5))
