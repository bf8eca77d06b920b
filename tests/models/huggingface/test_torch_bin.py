"""The `.bin` reader: files of torch.save are read exactly, and no other request is carried out."""

import collections
import functools
import importlib
import operator
import pathlib
import pickle
import runpy
import struct
import subprocess
import tempfile
import zipfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from irl_jax.errors import InputError
from irl_jax.models.huggingface import torch_bin


class Ask:
  """Pickles as a call of function(*arguments)."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def zip_of(path, content, members=()):
  """Writes an archive of torch.save with this pickle."""
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x/data.pkl', content)
    archive.writestr('x/version', '3')
    for name, data in members:
      archive.writestr(name, data)
  return path


def literal(value):
  """Returns the opcodes that push a plain value."""
  return pickle.dumps(value, protocol=2)[2:-1]


def handmade(path, shape, strides, offset=0, values=4):
  """Returns an archive with one float32 tensor 'w' over a storage of `values` elements."""
  storage = (
    b'('
    + literal('storage')
    + b'ctorch\nFloatStorage\n'
    + b''.join(map(literal, ('0', 'cpu', values)))
    + b'tQ'
  )
  arguments = b''.join(map(literal, (offset, shape, strides, False, None)))
  tensor = b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + arguments + b'tR'
  data = np.arange(values, dtype=np.float32).tobytes()
  return zip_of(path, b'\x80\x02}' + literal('w') + tensor + b's.', [('x/data/0', data)])


@pytest.mark.parametrize('new_format', [True, False])
def test_reads_what_torch_writes(tmp_path, new_format):
  torch = pytest.importorskip('torch')
  base = torch.randn(6, 4)
  state = collections.OrderedDict(
    full=base,
    half=base.half(),
    bfloat=base.bfloat16(),
    double=base.double(),
    flags=base > 0,
    steps=torch.arange(5),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    part=base[2:4, 1:3],
    turned=base.T,
    tied=base,
    parameter=torch.nn.Parameter(torch.ones(2)),
  )
  torch.save(state, tmp_path / 'w.bin', _use_new_zipfile_serialization=new_format)
  read = dict(torch_bin.read(tmp_path / 'w.bin'))
  assert list(read) == list(state)
  for name, tensor in state.items():
    expected = tensor.detach()
    assert str(read[name].dtype) == str(expected.dtype).removeprefix('torch.')
    assert read[name].shape == tuple(expected.shape)
    np.testing.assert_array_equal(read[name].astype(np.float64), expected.double().numpy())


@pytest.mark.parametrize('new_format', [True, False])
def test_truncation_is_noticed_wherever_it_happens(tmp_path, new_format):
  torch = pytest.importorskip('torch')
  path = tmp_path / 'w.bin'
  torch.save({'w': torch.randn(64, 8)}, path, _use_new_zipfile_serialization=new_format)
  content = path.read_bytes()
  for length in (1, 10, 100, 400, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:length])
    with pytest.raises(InputError, match='w.bin: truncated'):
      dict(torch_bin.read(path))


def test_a_flipped_bit_is_noticed(tmp_path):
  torch = pytest.importorskip('torch')
  path = tmp_path / 'w.bin'
  torch.save({'w': torch.zeros(1000)}, path)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(InputError, match='CRC'):
    dict(torch_bin.read(path))


@pytest.mark.parametrize('make', [zip_of, pathlib.Path.write_bytes])
def test_a_hostile_pickle_runs_nothing(tmp_path, make):
  witness = tmp_path / 'witness'
  code = f'open({str(witness)!r}, "w")'
  calls = [
    Ask(subprocess.check_call, ['touch', str(witness)]),
    Ask(eval, code),
    Ask(exec, code),
    Ask(compile, code),
    Ask(open, str(witness), 'w'),
    Ask(getattr, 'text', 'upper'),
    Ask(importlib.import_module, 'antigravity'),
    Ask(pickle.loads, pickle.dumps(Ask(eval, code))),
    Ask(runpy.run_path, str(tmp_path / 'w.bin')),
    Ask(functools.partial, print),
    Ask(operator.attrgetter, '__globals__'),
    Ask(np.load, str(witness)),
  ]
  for call in calls:
    make(tmp_path / 'w.bin', pickle.dumps({'w': call}, protocol=2))
    with pytest.raises(InputError, match='refused .nothing was executed.: its pickle refers to'):
      dict(torch_bin.read(tmp_path / 'w.bin'))
  assert not witness.exists()


ARGUMENT = b"(S'touch WITNESS'\nt"
GADGETS = {  # every opcode that can call, or make an object of a class, or load from elsewhere
  'REDUCE': b'cos\nsystem\n' + ARGUMENT + b'R.',
  'INST': ARGUMENT[:-1] + b'ios\nsystem\n.',
  'OBJ': b'(cos\nsystem\n' + ARGUMENT[1:-1] + b'o.',
  'NEWOBJ': b'\x80\x02cos\nsystem\n' + ARGUMENT + b'\x81.',
  'NEWOBJ_EX': b'\x80\x04cos\nsystem\n' + ARGUMENT + b'}\x92.',
  'STACK_GLOBAL': b'\x80\x04\x8c\x02os\x8c\x06system\x93' + ARGUMENT + b'R.',
  'BUILD': b"\x80\x02ccollections\nOrderedDict\n)R}S'__class__'\ncos\nsystem\nsb.",
  'EXT1': b'\x80\x02\x82\x01.',
  'PERSID': b'PWITNESS\n.',
  'LONG_BINPUT': b'\x80\x02Nr\xff\xff\xff\x7f.',
  'PUT': b'Np99999999999\n.',  # a memo of 32 GB
  'BINUNICODE8': b'\x80\x04\x8d' + struct.pack('<Q', 2**60) + b'.',
  'nothing': b'',
  'no end': b'\x80\x02}',
  'deep': b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
}


@pytest.mark.parametrize('name', GADGETS)
@pytest.mark.parametrize('legacy', [False, True])
def test_no_opcode_runs_anything_or_fills_the_memory(tmp_path, monkeypatch, name, legacy):
  monkeypatch.chdir(tmp_path)
  content, path = GADGETS[name].replace(b'WITNESS', b'witness'), tmp_path / 'w.bin'
  path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C) + content) if legacy else zip_of(
    path, content
  )
  with pytest.raises(
    InputError, match='w.bin: (refused .nothing was executed.: .|truncated, damaged or not .*: .)'
  ):
    list(torch_bin.read(path))
  assert [entry.name for entry in tmp_path.iterdir()] == ['w.bin']


def test_allowed_names_cannot_be_turned_against_the_reader(tmp_path):
  # BUILD with slot state
  set_defaults = b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__Ns\x86b.'
  with pytest.raises(InputError):
    dict(torch_bin.read(zip_of(tmp_path / 'w.bin', set_defaults)))
  dotted = (
    b'\x80\x04'
    + b''.join(map(literal, ('torch._utils', '_rebuild_tensor_v2.__globals__')))
    + b'\x93.'
  )
  with pytest.raises(InputError, match='refused'):
    dict(torch_bin.read(zip_of(tmp_path / 'w.bin', dotted)))
  assert torch_bin._TensorUnpickler._rebuild_tensor.__defaults__ is None


def test_a_tensor_stays_within_its_storage(tmp_path):
  read = dict(torch_bin.read(handmade(tmp_path / 'w.bin', (2, 2), (1, 2))))
  np.testing.assert_array_equal(read['w'], [[0, 2], [1, 3]])
  for shape, strides, offset in [
    ((5,), (1,), 0),
    ((2,), (4,), 0),
    ((2, 2), (2, 1), 1),
    ((2,), (-1,), 1),
    ((10**9,), (0,), 0),
    ((2, 2), (1,), 0),
    ((1,), (1,), 4),
  ]:
    with pytest.raises(InputError):
      dict(torch_bin.read(handmade(tmp_path / 'w.bin', shape, strides, offset)))


@pytest.mark.parametrize('content', [[1, 2], {'state_dict': {}}, {1: 2}, 'text'])
def test_other_contents_are_refused(tmp_path, content):
  with pytest.raises(InputError, match='w.bin'):
    dict(torch_bin.read(zip_of(tmp_path / 'w.bin', pickle.dumps(content, protocol=2))))


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'w.bin'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x/data.pkl', b'0' * 10_000)
  with pytest.raises(InputError, match='compressed'):
    dict(torch_bin.read(path))
  zip_of(path, pickle.dumps({}, protocol=2), [('x/byteorder', 'big')])
  with pytest.raises(InputError, match='big-endian'):
    dict(torch_bin.read(path))
  path.write_bytes(b'\x00' * 100)
  with pytest.raises(InputError, match='truncated, damaged or not PyTorch weights'):
    dict(torch_bin.read(path))


@functools.cache
def valid_pickle() -> bytes:
  """Returns the pickle of a tensor 'w', as `handmade` writes it."""
  with (
    tempfile.TemporaryDirectory() as folder,
    zipfile.ZipFile(handmade(pathlib.Path(folder) / 'w.bin', (2, 2), (1, 2))) as archive,
  ):
    return archive.read('x/data.pkl')


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damaged_pickle_ends_in_another_error(tmp_path_factory, data):
  content = bytearray(valid_pickle())
  for _ in range(data.draw(st.integers(1, 3))):
    at = data.draw(st.integers(0, len(content)))
    content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
  path = zip_of(tmp_path_factory.getbasetemp() / 'w.bin', bytes(content), [('x/data/0', bytes(16))])
  try:
    assert all(array.size <= 4 for _, array in torch_bin.read(path))
  except InputError as error:
    assert 'w.bin: ' in str(error)


@settings(max_examples=100, deadline=None)
@given(
  st.binary(max_size=60),
  st.sampled_from(
    [b'', b'PK', b'PK\x03\x04', b'PK\x05\x06', b'\x80\x02', pickle.dumps(0x1950A86A20F9469CFC6C)]
  ),
)
def test_no_bytes_end_in_another_error(tmp_path_factory, content, beginning):
  path = tmp_path_factory.getbasetemp() / 'any.bin'
  path.write_bytes(beginning + content)
  with pytest.raises(InputError, match='any.bin: '):
    list(torch_bin.read(path))
