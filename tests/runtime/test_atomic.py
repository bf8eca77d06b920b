"""Files and folders that appear whole or not at all."""

import os
import stat

import pytest

from irl_jax.runtime import atomic


def test_a_file_appears_when_it_is_whole(tmp_path):
  path = tmp_path / 'x.txt'
  with atomic.file(path) as file:
    file.write('naïve')
    assert not path.exists()
  assert path.read_bytes() == 'naïve'.encode()
  with atomic.file(path, 'wb') as file:
    file.write(b'\xff')
    assert path.read_bytes() == 'naïve'.encode()
  assert path.read_bytes() == b'\xff' and os.listdir(tmp_path) == ['x.txt']


def test_others_may_read_what_they_could_read_before(tmp_path):
  (tmp_path / 'plain').touch()
  with atomic.file(tmp_path / 'atomic'):
    pass
  modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('plain', 'atomic')]
  assert modes[0] == modes[1]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'x.txt'
  path.write_text('old')
  with pytest.raises(KeyboardInterrupt), atomic.file(path) as file:
    file.write('new')
    raise KeyboardInterrupt
  assert path.read_text() == 'old' and os.listdir(tmp_path) == ['x.txt']


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path):
  path = tmp_path / 'a' / 'model'
  (tmp_path / 'a' / 'model.partial' / 'left').mkdir(parents=True)
  for content in ('old', 'new'):
    with atomic.folder(path) as partial:
      (partial / content).touch()
    assert os.listdir(path) == [content] and os.listdir(path.parent) == ['model']
  with pytest.raises(OSError), atomic.folder(path):
    raise OSError
  assert os.listdir(path) == ['new']
