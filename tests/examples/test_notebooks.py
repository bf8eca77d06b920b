"""The notebooks of examples/ run from top to bottom, and are stored without outputs."""

import os
import pathlib

import pytest

nbformat = pytest.importorskip('nbformat')

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'examples').glob('*.ipynb'))
assert NOTEBOOKS

each = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_a_notebook_is_kept_without_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.slow
@each
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
  nbclient = pytest.importorskip('nbclient')
  pytest.importorskip('ipykernel')
  paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
  monkeypatch.setenv('PYTHONPATH', paths)
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  monkeypatch.setenv('XLA_FLAGS', '')  # one device, as a reader has
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook, timeout=900, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()
