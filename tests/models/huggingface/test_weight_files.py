"""Every format of weights gives the same parameters; files without weights are named."""

import json
import shutil
import struct

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save_file

from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import weight_files

HTML = '<!DOCTYPE html>\n<html><body>503 Service Unavailable</body></html>'
LFS_POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 14645280\n'


@pytest.fixture
def folder(tmp_path, language_model):
  """A saved language model."""
  pretrained.save(tmp_path / 'model', language_model, '')
  return tmp_path / 'model'


def equal_params(folder, expected):
  jax.tree.map(np.testing.assert_array_equal, pretrained.load(str(folder)).params, expected)
  return True


def shard(folder, names=('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')):
  """Splits model.safetensors in two, with an index that calls them `names`."""
  weights = sorted(load_file(folder / 'model.safetensors').items())
  halves = weights[::2], weights[1::2]
  for name, half in zip(names, halves):
    save_file(dict(half), folder / name)
  weight_map = {key: name for name, half in zip(names, halves) for key, _ in half}
  index = {'metadata': {'total_size': 0}, 'weight_map': weight_map}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  (folder / 'model.safetensors').unlink()
  return index


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16, np.float32])
def test_every_dtype_on_disk_is_read_and_kept(folder, language_model, dtype):
  weights = {
    name: array.astype(dtype) for name, array in load_file(folder / 'model.safetensors').items()
  }
  save_file(weights, folder / 'model.safetensors')
  rounded = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), language_model.params)
  assert equal_params(folder, rounded)
  # In memory weights take what they take on disk.
  leaves = jax.tree.leaves(pretrained.load(str(folder)).params)
  assert {leaf.dtype for leaf in leaves} == {np.dtype(dtype)}


def test_layers_of_different_types_are_stacked_as_float32(folder, language_model):
  weights = load_file(folder / 'model.safetensors')
  half = {name: array.astype(np.float16) for name, array in weights.items()}
  one = 'gpt_neox.layers.{}.mlp.dense_4h_to_h.weight'
  for layer in (0, 1):
    save_file(half | {one.format(layer): weights[one.format(layer)]}, folder / 'model.safetensors')
    params = pretrained.load(str(folder)).params
    types = jax.tree.map(lambda leaf: leaf.dtype.name, params)
    assert types['blocks']['mlp']['dense_4h_to_h'].pop('kernel') == 'float32'
    assert {*jax.tree.leaves(types)} == {'float16'}
    kernel = params['blocks']['mlp']['dense_4h_to_h']['kernel']
    np.testing.assert_array_equal(kernel[layer].T, weights[one.format(layer)])
    np.testing.assert_array_equal(kernel[1 - layer].T, half[one.format(1 - layer)])


def test_shards_are_read(folder, language_model):
  shard(folder)
  assert equal_params(folder, language_model.params)


@pytest.mark.parametrize('new_format', [True, False])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_bins_of_torch_are_read(folder, language_model, new_format, dtype):
  torch = pytest.importorskip('torch')
  weights = {
    name: torch.tensor(array).to(getattr(torch, dtype))
    for name, array in load_file(folder / 'model.safetensors').items()
  }
  (folder / 'model.safetensors').unlink()
  torch.save(weights, folder / 'pytorch_model.bin', _use_new_zipfile_serialization=new_format)
  rounding = np.float32 if dtype == 'float32' else ml_dtypes.bfloat16
  assert equal_params(
    folder, jax.tree.map(lambda x: x.astype(rounding).astype(np.float32), language_model.params)
  )


def test_sharded_bins_and_shards_of_transformers_are_read(tmp_path, folder, language_model):
  torch = pytest.importorskip('torch')
  import transformers

  network = transformers.AutoModelForCausalLM.from_pretrained(folder)
  for name in ('config.json', 'tokenizer.json', 'tokenizer_config.json'):
    (tmp_path / 'shards').mkdir(exist_ok=True)
    shutil.copyfile(folder / name, tmp_path / 'shards' / name)
  network.save_pretrained(tmp_path / 'shards', max_shard_size='20KB')
  assert len(list((tmp_path / 'shards').glob('model-*.safetensors'))) > 2
  assert equal_params(tmp_path / 'shards', language_model.params)

  index = shard(folder, ('pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'))
  for name in set(index['weight_map'].values()):
    torch.save(
      {key: torch.tensor(array) for key, array in load_file(folder / name).items()}, folder / name
    )
  (folder / 'model.safetensors.index.json').rename(folder / 'pytorch_model.bin.index.json')
  assert equal_params(folder, language_model.params)


def test_a_state_dict_of_transformers_5(folder, language_model):
  torch = pytest.importorskip('torch')
  import transformers

  state = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
  assert 'lm_head.weight' in state
  (folder / 'model.safetensors').unlink()
  torch.save(state, folder / 'pytorch_model.bin')
  assert equal_params(folder, language_model.params)


@pytest.mark.parametrize(
  'content, message',
  [
    ('', 'is empty'),
    (LFS_POINTER, 'is a Git LFS pointer'),
    ('<!DOCTYPE html>\n<html>', 'is an HTML page'),
    ('\n<html><head>', 'is an HTML page'),
    ('{"error": "Not Found"}', 'truncated, damaged or no'),
    ('x' * 50, 'truncated'),
  ],
)
@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_what_failed_downloads_leave_is_named(folder, name, content, message):
  (folder / 'model.safetensors').unlink()
  (folder / name).write_text(content)
  with pytest.raises(InputError, match=rf'{name}: {message}'):
    pretrained.load(str(folder))


@pytest.mark.parametrize(
  'content, message',
  [
    ('', 'is empty'),
    (LFS_POINTER, 'is a Git LFS pointer'),
    (HTML, 'is an HTML page'),
    ('{"weight_map": {', 'is not JSON'),
    ('{"weight_map"' + ':[' * 10_000, 'is not JSON'),
    ('[]', 'must be a JSON object'),
    ('{}', 'has no weight_map'),
  ],
)
@pytest.mark.parametrize('name', ['model.safetensors.index.json', 'pytorch_model.bin.index.json'])
def test_what_failed_downloads_leave_of_an_index_is_named(folder, name, content, message):
  (folder / 'model.safetensors').unlink()
  (folder / name).write_text(content)
  with pytest.raises(InputError, match=rf'{name}: {message}'):
    pretrained.load(str(folder))


@pytest.mark.parametrize(
  'content, message',
  [
    ('', 'is empty'),
    (LFS_POINTER, 'is a Git LFS pointer'),
    (HTML, 'is an HTML page'),
    ('x' * 50, 'truncated'),
  ],
)
def test_what_failed_downloads_leave_of_a_shard_is_named(folder, content, message):
  shard(folder)
  (folder / 'model-00002-of-00002.safetensors').write_text(content)
  with pytest.raises(InputError, match=f'model-00002-of-00002.safetensors: {message}'):
    pretrained.load(str(folder))


@pytest.mark.parametrize('kept', [7, 100, 0.5, -1])
def test_truncated_safetensors_are_refused(folder, kept):
  content = (folder / 'model.safetensors').read_bytes()
  kept = int(len(content) * kept) if isinstance(kept, float) else kept
  (folder / 'model.safetensors').write_bytes(content[:kept])
  with pytest.raises(InputError, match='model.safetensors: truncated'):
    pretrained.load(str(folder))


@pytest.mark.parametrize(
  'name',
  [
    '../model-00002-of-00002.safetensors',
    '/etc/x.safetensors',
    'sub/x.safetensors',
    '..\\x.safetensors',
    '..',
    '',
    'config.json',
    7,
  ],
)
def test_an_index_cannot_point_outside(folder, name):
  index = shard(folder)
  shutil.copyfile(
    folder / 'model-00002-of-00002.safetensors', folder.parent / 'model-00002-of-00002.safetensors'
  )
  index['weight_map']['embed_out.weight'] = name
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(InputError, match='must be a .safetensors file of the same folder'):
    pretrained.load(str(folder))


def test_bad_indices_and_missing_shards_are_refused(folder):
  index = shard(folder)
  (folder / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(
    InputError,
    match='has no model-00002-of-00002.safetensors, which .*index.json names; copy it too',
  ):
    pretrained.load(str(folder))
  for content in ('{}', '[]', '{', json.dumps(index | {'weight_map': []})):
    (folder / 'model.safetensors.index.json').write_text(content)
    with pytest.raises(InputError, match='model.safetensors.index.json'):
      pretrained.load(str(folder))
  (folder / 'model.safetensors.index.json').unlink()
  with pytest.raises(
    InputError, match='parts without their index: copy model.safetensors.index.json too'
  ):
    pretrained.load(str(folder))
  (folder / 'model-00001-of-00002.safetensors').unlink()
  with pytest.raises(InputError, match='has no weights; expected one of model.safetensors'):
    pretrained.load(str(folder))


@pytest.mark.parametrize(
  'left, message',
  [
    ('pytorch_model-00001-of-00002.bin', 'copy pytorch_model.bin.index.json too'),
    ('pytorch_model_fsdp_0/.metadata', 'accelerate merge-weights'),
    ('__0_0.distcp', 'accelerate merge-weights'),
    ('zero_to_fp32.py', 'zero_to_fp32.py'),
    ('global_step8/mp_rank_00_model_states.pt', 'zero_to_fp32.py'),
    ('checkpoint-500/model.safetensors', 'pass one of its folders'),
    ('model.gguf', 'pass the model in safetensors'),
    ('tf_model.h5', 'from_tf=True'),
    ('flax_model.msgpack', 'from_flax=True'),
  ],
)
def test_what_other_tools_leave_in_place_of_weights_is_named(folder, left, message):
  (folder / 'model.safetensors').unlink()
  (folder / left).parent.mkdir(exist_ok=True)
  (folder / left).touch()
  with pytest.raises(InputError, match=f'has no weights of its own, but .*{message}'):
    pretrained.load(str(folder))


def test_a_model_without_tokenizer_says_what_to_copy(folder):
  for name in ('tokenizer.json', 'tokenizer_config.json'):
    (folder / name).unlink()
  with pytest.raises(InputError, match='has no tokenizer; copy the files of the model that it was'):
    pretrained.load(str(folder))


def test_the_class_name_of_a_wrapped_model_is_read(folder, language_model):
  config = json.loads((folder / 'config.json').read_text())
  config['architectures'] = ['FSDPGPTNeoXForCausalLM']
  (folder / 'config.json').write_text(json.dumps(config))
  assert equal_params(folder, language_model.params)


def test_a_name_in_two_shards_is_refused(folder):
  shard(folder)
  save_file(
    load_file(folder / 'model-00001-of-00002.safetensors'),
    folder / 'model-00002-of-00002.safetensors',
  )
  with pytest.raises(InputError, match='is also in another file'):
    list(weight_files.stream(folder))


@pytest.mark.parametrize('dtype', ['F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'C64', 'NO_SUCH'])
def test_numbers_of_a_kind_that_is_not_read(tmp_path, dtype):
  size = 8 if dtype == 'C64' else 1
  tensor(tmp_path, {'w': {'dtype': dtype, 'shape': [1], 'data_offsets': [0, size]}}, bytes(size))
  if dtype == 'C64':  # it can be read, but is not a model's weight
    assert dict(weight_files.stream(tmp_path))['w'].dtype == np.complex64
  else:
    with pytest.raises(InputError, match='model.safetensors: '):
      list(weight_files.stream(tmp_path))


def tensor(folder, header, data, shift=0):
  """Writes a model.safetensors by hand."""
  raw = json.dumps(header).encode('utf-8', 'surrogatepass')
  (folder / 'model.safetensors').write_bytes(
    struct.pack('<Q', max(len(raw) + shift, 0)) + raw + data
  )


JSON = (
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
)
NUMBERS = st.lists(st.integers(-1, 40) | st.integers(), max_size=3)
ENTRY = st.fixed_dictionaries(
  {
    'dtype': st.sampled_from(['F64', 'F32', 'F16', 'BF16', 'I64', 'U8', 'BOOL', 'F8_E4M3', 'X'])
    | JSON,
    'shape': NUMBERS | JSON,
    'data_offsets': NUMBERS | JSON,
  }
)


@settings(max_examples=200, deadline=None)
@given(
  st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=3),
  st.binary(max_size=40),
  st.integers(-3, 3),
)
def test_no_header_of_safetensors_ends_in_another_error(tmp_path_factory, header, data, shift):
  folder = tmp_path_factory.getbasetemp()
  tensor(folder, header, data, shift)
  try:
    assert all(isinstance(array, np.ndarray) for _, array in weight_files.stream(folder))
  except InputError as error:
    assert '\n' not in str(error)


PATHS = st.text(st.sampled_from('./\\a~\0') | st.characters(), max_size=8).map(
  lambda name: name + '.safetensors'
)


@settings(max_examples=100, deadline=None)
@given(
  st.dictionaries(st.text(max_size=4), PATHS | JSON | st.just('../model.safetensors'), max_size=3)
)
def test_no_index_reads_outside_its_folder_or_ends_in_another_error(tmp_path_factory, weight_map):
  folder = tmp_path_factory.getbasetemp() / 'index'
  folder.mkdir(exist_ok=True)
  (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': weight_map}))
  try:
    assert all(path.parent == folder for path in weight_files.find_files(folder))
  except InputError as error:
    assert 'model.safetensors.index.json' in str(error) or '.safetensors' in str(error)
