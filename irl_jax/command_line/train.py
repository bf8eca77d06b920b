"""Runs the stages of a config: data, true reward, RLHF, demonstrations, IRL, evaluation, report.

  irl-jax train --config=tiny
  irl-jax train --config=410m --workdir=runs/410m --config.ppo.learning_rate=1e-6
  irl-jax train --config=audit --config.models.base=BASE --config.models.aligned=ALIGNED

Everything is written to --workdir. A finished stage is skipped and an unfinished one resumes: after
an interruption, run the same command again. A Python config is executed, so use only configs that
you trust. To repeat a run, give its folder or its config.json as --config.

Several processes: give each the same command and a --workdir that all share. SLURM, Open MPI,
Kubernetes and Cloud TPU tell each process its number. On other systems, add --distributed=manual
--coordinator_address=HOST:PORT --num_processes=N --process_id=I.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

from absl import flags

from irl_jax.config import Config
from irl_jax.errors import ConfigError
from irl_jax.runtime import distributed
from irl_jax.runtime import host_memory


def define_flags() -> flags.FlagValues:
  """Returns the command's flags, unparsed; `launch.parse` adds one for every config field."""
  flag_values = flags.FlagValues()
  flags.DEFINE_string(
    'config',
    None,
    'a config file (.py, .json, .yaml), the name of one in the package, such as tiny, or the '
    'folder of a run to repeat',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'workdir',
    None,
    "the folder of the run (default: runs/<the config's name>)",
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'stages', None, 'run only these stages of the config, such as rlhf,irl', flag_values=flag_values
  )
  flags.DEFINE_enum(
    'bad_rows',
    None,
    ['error', 'skip'],
    'what to do with an unreadable row of the data',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'dry_run',
    False,
    'show the config, the models and the memory they need, and run nothing',
    flag_values=flag_values,
  )
  distributed.define_flags(flag_values)
  return flag_values


def default_workdir(config: Config) -> str:
  """Returns runs/<name>.

  Raises:
    ConfigError: the name would lead to another folder.
  """
  name = config.name
  if (
    name in ('', '.', '..') or pathlib.PureWindowsPath(name).name != name or not name.isprintable()
  ):
    raise ConfigError(
      f'config.name = {name!r}: must be a folder name without separators; to use '
      'another folder, pass --workdir'
    )
  return f'runs/{name}'


def chosen_stages(names: Sequence[str] | None, config: Config) -> tuple[str, ...]:
  """Returns the stages named by --stages, in the config's order; all of them without it.

  Raises:
    ConfigError: a name is not one of the config's stages.
  """
  if names is None:
    return config.stages
  for name in names or ['']:
    if name not in config.stages:
      raise ConfigError(
        f"--stages: unknown stage {name!r}; must be one of the config's stages: "
        f'{", ".join(config.stages)}'
      )
  return tuple(stage for stage in config.stages if stage in names)


def main(options: flags.FlagValues) -> None:
  """Runs the pipeline and prints its results."""
  config = options.config
  if options.bad_rows:
    config = dataclasses.replace(
      config, data=dataclasses.replace(config.data, bad_rows=options.bad_rows)
    )
  workdir = options.workdir or default_workdir(config)
  stages = chosen_stages(options.stages, config)
  if options.dry_run:
    from irl_jax.stages import dry_run

    print(dry_run.describe(config, workdir, stages))
    return
  with distributed.joined(options):
    with host_memory.importing('irl_jax.pipeline'):
      from irl_jax import pipeline
      from irl_jax.command_line import results
      from irl_jax.runtime import processes
      from irl_jax.runtime import terminal_tables

    summary = pipeline.run(config, workdir, stages)
    if summary and processes.is_first():
      terminal_tables.show(results.tables(summary))
