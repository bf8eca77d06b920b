"""JAX's persistent compilation cache, in the user's cache folder: what was compiled once is read at the next start."""

import os
import pathlib
import warnings


def folder() -> pathlib.Path:
  """irl_jax/xla in XDG_CACHE_HOME; in ~/.cache where that is not set, or not absolute and so to be ignored."""
  home = os.environ.get('XDG_CACHE_HOME', '')
  return (
    pathlib.Path(home if os.path.isabs(home) else os.path.expanduser('~/.cache'))
    / 'irl_jax'
    / 'xla'
  )


def use() -> None:
  """Keeps whatever is compiled, in `folder()` unless JAX was told of another place.

  A folder that is full or cannot be written to costs the time to compile, and nothing is said of it.
  """
  import jax  # imported here: `irl-jax env` reads `folder()` where JAX cannot start

  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir', str(folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', 0
    )  # a stage has dozens of small functions too
  warnings.filterwarnings(
    'ignore', message='Error (reading|writing) persistent compilation cache entry'
  )
