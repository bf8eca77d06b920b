"""Runs the stages of a config: data, true reward, RLHF, demonstrations, inverse reinforcement learning, evaluation.

  python launch/train.py --config=configs/tiny.py
  python launch/train.py --config=configs/410m.py --workdir=runs/410m --config.ppo.learning_rate=1e-6 --stages=rlhf,irl

Everything is written to --workdir. A finished stage is skipped and an unfinished one resumes: after an interruption,
give the same command again. A config is Python and is run: use only configs that you trust.

Several processes: the same command for each, and a --workdir that all share. SLURM, Open MPI, Kubernetes and Cloud TPU
say which is which; elsewhere --distributed=manual --coordinator_address=HOST:PORT --num_processes=N --process_id=I.
"""

import dataclasses
import pathlib
import sys

from absl import flags

from irl_jax.command_line import launch as command_line
from irl_jax.config import Config
from irl_jax.errors import ConfigError
from irl_jax.runtime import distributed

FLAGS = flags.FlagValues()
flags.DEFINE_string('config', None, 'config file, such as configs/tiny.py', flag_values=FLAGS)
flags.DEFINE_string(
  'workdir', None, "where the run is kept (default: runs/<the config's name>)", flag_values=FLAGS
)
flags.DEFINE_list(
  'stages', None, "run only these of the config's stages, such as rlhf,irl", flag_values=FLAGS
)
flags.DEFINE_enum(
  'bad_rows', None, ['error', 'skip'], 'what an unreadable row of the data does', flag_values=FLAGS
)
flags.DEFINE_boolean('dry_run', False, 'show config and models, run nothing', flag_values=FLAGS)
distributed.define_flags(FLAGS)


def default_workdir(config: Config) -> str:
  """runs/<name>; a name that leads elsewhere is refused."""
  name = config.name
  if (
    name in ('', '.', '..') or pathlib.PureWindowsPath(name).name != name or not name.isprintable()
  ):
    raise ConfigError(
      f'config.name = {name!r}: must be a folder name without separators, or give --workdir'
    )
  return f'runs/{name}'


def chosen_stages(names: list[str] | None, config: Config) -> tuple[str, ...]:
  """The config's stages that --stages names, in the config's order; all without it."""
  if names is None:
    return config.stages
  for name in names or ['']:
    if name not in config.stages:
      raise ConfigError(
        f"--stages: unknown stage {name!r}; must be of the config's stages: {', '.join(config.stages)}"
      )
  return tuple(stage for stage in config.stages if stage in names)


def main(options: flags.FlagValues) -> None:
  """Runs the pipeline and shows its results."""
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
    from irl_jax import pipeline
    from irl_jax.report import tables as table
    from irl_jax.runtime import processes

    summary = pipeline.run(config, workdir, stages)
    if summary and processes.is_first():
      table.show(table.results_table(summary))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
