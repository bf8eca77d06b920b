"""The run that a study reads, and the flags that name it.

The studies import irl_jax inside their functions, so that --help and a wrong flag answer at once.
"""

import pathlib
from typing import Any

from absl import flags

from irl_jax.command_line import launch as command_line


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config, --workdir and --output."""
  flags.DEFINE_string(
    'config',
    None,
    'config file of the run; also pass the overrides that the run was started with',
    flag_values=flag_values,
  )
  flags.DEFINE_string('workdir', None, 'folder of the finished run', flag_values=flag_values)
  flags.DEFINE_string('output', None, 'the .json file to write', flag_values=flag_values)


def open_run(options: flags.FlagValues) -> Any:
  """Returns the `irl_jax.stages.run.Run` that the flags name; nothing is logged to it.

  Raises:
    ConfigError: a flag is missing.
  """
  command_line.require(options, 'config', 'workdir', 'output')
  from irl_jax import pipeline
  from irl_jax.runtime import compilation_cache
  from irl_jax.stages.run import Run

  compilation_cache.use()
  dtype = pipeline.compute_dtype(options.config.runtime.dtype)
  return Run(options.config, pathlib.Path(options.workdir), None, dtype)
