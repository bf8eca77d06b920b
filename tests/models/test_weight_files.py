"""Every format that weights come in gives the same parameters; whatever is not weights is named for what it is."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save_file

from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models import weight_files

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
def test_every_dtype_on_disk(folder, language_model, dtype):
  weights = {name: array.astype(dtype) for name, array in load_file(folder / 'model.safetensors').items()}
  save_file(weights, folder / 'model.safetensors')
  rounded = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), language_model.params)
  assert equal_params(folder, rounded)


def test_shards(folder, language_model):
  shard(folder)
  assert equal_params(folder, language_model.params)


@pytest.mark.parametrize('new_format', [True, False])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_bins_of_torch(folder, language_model, new_format, dtype):
  torch = pytest.importorskip('torch')
  weights = {name: torch.tensor(array).to(getattr(torch, dtype))
             for name, array in load_file(folder / 'model.safetensors').items()}
  (folder / 'model.safetensors').unlink()
  torch.save(weights, folder / 'pytorch_model.bin', _use_new_zipfile_serialization=new_format)
  rounding = np.float32 if dtype == 'float32' else ml_dtypes.bfloat16
  assert equal_params(folder, jax.tree.map(lambda x: x.astype(rounding).astype(np.float32), language_model.params))


def test_sharded_bins_and_shards_of_transformers(tmp_path, folder, language_model):
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
    torch.save({key: torch.tensor(array) for key, array in load_file(folder / name).items()}, folder / name)
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


@pytest.mark.parametrize('content, message', [
    ('', 'is empty'), (LFS_POINTER, 'is a Git LFS pointer'), ('<!DOCTYPE html>\n<html>', 'is an HTML page'),
    ('\n<html><head>', 'is an HTML page'), ('{"error": "Not Found"}', 'truncated, damaged or no'),
    ('x' * 50, 'truncated')])
@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_what_failed_downloads_leave(folder, name, content, message):
  (folder / 'model.safetensors').unlink()
  (folder / name).write_text(content)
  with pytest.raises(InputError, match=rf'{name}: {message}'):
    pretrained.load(str(folder))


@pytest.mark.parametrize('kept', [7, 100, 0.5, -1])
def test_truncated_safetensors(folder, kept):
  content = (folder / 'model.safetensors').read_bytes()
  kept = int(len(content) * kept) if isinstance(kept, float) else kept
  (folder / 'model.safetensors').write_bytes(content[:kept])
  with pytest.raises(InputError, match='model.safetensors: truncated'):
    pretrained.load(str(folder))


@pytest.mark.parametrize('name', ['../model-00002-of-00002.safetensors', '/etc/x.safetensors', 'sub/x.safetensors',
                                  '..\\x.safetensors', '..', '', 'config.json', 7])
def test_an_index_cannot_point_outside(folder, name):
  index = shard(folder)
  shutil.copyfile(folder / 'model-00002-of-00002.safetensors', folder.parent / 'model-00002-of-00002.safetensors')
  index['weight_map']['embed_out.weight'] = name
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(InputError, match='must be a .safetensors file of the same folder'):
    pretrained.load(str(folder))


def test_bad_indices_and_missing_shards(folder):
  index = shard(folder)
  (folder / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(InputError, match='has no model-00002-of-00002.safetensors, which model.safetensors.index.json'):
    pretrained.load(str(folder))
  for content in ('{}', '[]', '{', json.dumps(index | {'weight_map': []})):
    (folder / 'model.safetensors.index.json').write_text(content)
    with pytest.raises(InputError, match='model.safetensors.index.json'):
      pretrained.load(str(folder))
  (folder / 'model.safetensors.index.json').unlink()
  with pytest.raises(InputError, match='has no weights; expected one of model.safetensors'):
    pretrained.load(str(folder))


def test_a_name_in_two_shards_is_refused(folder):
  shard(folder)
  save_file(load_file(folder / 'model-00001-of-00002.safetensors'), folder / 'model-00002-of-00002.safetensors')
  with pytest.raises(InputError, match='is also in another file'):
    list(weight_files.stream(folder))
