"""Completes the prompts of a file with a causal language model.

  python launch/generate.py --model=runs/tiny/rlhf/policy --input=prompts.jsonl --output=completed.jsonl \\
      --max_new_tokens=64 --temperature=1 --top_p=0.9

Every row is written with its fields and, behind them, `completion`: what the model says after the prompt, its leading
space kept, up to and without EOS.
"""

import sys

from absl import flags

from irl_jax.command_line import config_flags
from irl_jax.command_line import launch as command_line
from irl_jax.config import Config
from irl_jax.config import Sampling
from irl_jax.errors import ConfigError

DEFAULTS = Sampling(max_new_tokens=64, batch_size=32)
FLAGS = flags.FlagValues()
flags.DEFINE_string('model', None, 'a hub id, id@revision, or a folder', flag_values=FLAGS)
flags.DEFINE_string(
  'input',
  None,
  '.jsonl, .json, .csv, .tsv, .parquet or .txt (a text a line), also .gz',
  flag_values=FLAGS,
)
flags.DEFINE_string('output', None, 'the .jsonl file to write', flag_values=FLAGS)
flags.DEFINE_string(
  'field', '', 'the field that is completed (default: prompt, else text)', flag_values=FLAGS
)
config_flags.define(FLAGS, DEFAULTS, '')
flags.DEFINE_integer(
  'seed',
  0,
  'the same seed gives the same completions',
  lower_bound=0,
  upper_bound=2**32 - 1,
  flag_values=FLAGS,
)
flags.DEFINE_enum(
  'bad_rows', 'error', ['error', 'skip'], 'what an unreadable row does', flag_values=FLAGS
)


def main(options: flags.FlagValues) -> None:
  """Completes a file."""
  command_line.require(options, 'model', 'input', 'output')
  try:
    sampling = Config(
      sampling=config_flags.overridden(DEFAULTS, options, '')
    ).sampling  # checks fields together too
  except ConfigError as error:
    raise ConfigError(str(error).replace('config.sampling.', '--')) from None
  from irl_jax.command_line import files

  files.generate(
    options.model,
    options.input,
    options.output,
    field=options.field,
    sampling=sampling,
    seed=options.seed,
    bad_rows=options.bad_rows,
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
