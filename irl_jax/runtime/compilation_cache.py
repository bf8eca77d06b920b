"""JAX's persistent compilation cache, in the user's cache folder, for faster starts."""

import os
import pathlib
import warnings


def folder() -> pathlib.Path:
  """Returns the folder irl_jax/xla of XDG_CACHE_HOME, or of ~/.cache if that is not set.

  A relative XDG_CACHE_HOME is ignored, as its specification requires.
  """
  home = os.environ.get('XDG_CACHE_HOME', '')
  caches = pathlib.Path(home if os.path.isabs(home) else os.path.expanduser('~/.cache'))
  return caches / 'irl_jax' / 'xla'


def use() -> None:
  """Turns the cache on, in `folder()` unless JAX is configured for another folder.

  If the folder is full or cannot be written to, programs are compiled again, without a warning.
  """
  import jax  # imported here: `irl-jax env` reads `folder()` even if JAX cannot start

  if jax.config.values['jax_compilation_cache_dir'] is None:
    jax.config.update('jax_compilation_cache_dir', str(folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    # A stage compiles dozens of small functions too.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  warnings.filterwarnings(
    'ignore', message='Error (reading|writing) persistent compilation cache entry'
  )
