"""Settings and fixtures of all tests: four CPU devices, strict broadcasting, no network.

Tests, and the commands that they start, compile without optimisation; the notebooks compile as they
do for a user. All processes of a test run share one compilation cache, which is removed at its end.
"""

import collections
import gc
import os
import pathlib
import tempfile

import pytest
import quick_compilation

if 'TEST_ON_DEVICE' not in os.environ:  # benchmarks/device.sh tests what is there
  os.environ['XLA_FLAGS'] = quick_compilation.on_devices(4)
  os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['HF_HUB_OFFLINE'] = '1'
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # the processes of pytest-xdist inherit it
  CACHE = tempfile.TemporaryDirectory(prefix='irl_jax_tests_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = CACHE.name
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

MOST_MAPS = 25_000  # memory maps with which a process may begin another file
LONGEST = (
  'distributed/test_faults.py',
  'faults/test_kills.py',
  'test_pipeline.py',
  'benchmarks/test_speed.py',
)


def pytest_configure(config):
  """Sets up JAX and the fixtures in the processes that run tests.

  With pytest-xdist, one process only starts these. It imports nothing that takes seconds. It is
  also made to keep the order of `pytest_collection_modifyitems`.
  """
  config.option.loadscopereorder = False
  if config.getoption('dist', 'no') == 'no':
    import jax
    import tiny_models

    jax.config.update('jax_numpy_rank_promotion', 'raise')
    config.pluginmanager.register(tiny_models)


def pytest_collection_modifyitems(items):
  """Runs the longest files first; at the end, one process would wait for the other.

  After those whose names are known come the files with the most slow tests.
  """
  order = {pathlib.Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
  slow = collections.Counter(item.path for item in items if item.get_closest_marker('slow'))
  items.sort(key=lambda item: (order.get(item.path, len(order)), -slow[item.path]))


def pytest_collection_finish():
  """Makes garbage collection rare, and has it skip what is imported.

  JAX's tracing makes many objects that live on, which the collector would visit again and again.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """Frees what the tests of some files have compiled.

  Compiled programs take memory maps, of which Linux allows a process 65,530. `test_supervised.py`
  alone takes 8,000, and a process that had run most files once ended in a segmentation fault.
  """
  import jax

  yield
  if pathlib.Path('/proc/self/maps').read_bytes().count(b'\n') > MOST_MAPS:
    jax.clear_caches()


@pytest.fixture(autouse=True)
def forget_notices():
  """Lets every test see the warnings that a process gives once."""
  from irl_jax.runtime import notices

  notices.warn_once.cache_clear()


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of real texts, tokenizers and checkpoints, next to the repository."""
  folder = pathlib.Path(__file__).parents[2] / 'shared'
  if not folder.is_dir():
    pytest.skip(f'{folder} does not exist: it has the real texts and checkpoints')
  return folder


@pytest.fixture
def tanh_gelu(monkeypatch):
  """Replaces the exact GELU, for checks of collectives.

  In JAX 0.12 the gradient of erf fails JAX's own check_vma=True.
  """
  import jax

  gelu = jax.nn.gelu
  monkeypatch.setattr(jax.nn, 'gelu', lambda x, approximate: gelu(x, approximate=True))
