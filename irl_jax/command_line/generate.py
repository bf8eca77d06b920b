r"""Completes the prompts of a file, a folder or a data set with a causal language model.

  irl-jax generate --model=runs/tiny/rlhf/policy --input=prompts.jsonl --output=completed.jsonl \
      --max_new_tokens=64 --temperature=1 --top_p=0.9

Every row is written with its own fields, followed by `completion`: the model's continuation of the
prompt, with its leading space and without EOS. A prompt may be a conversation, that is, a list of
messages with `role` and `content`, if the model has a chat template. With --samples=25, a row gets
`completions` instead, a list of 25.
"""

from absl import flags

from irl_jax.command_line import config_flags
from irl_jax.command_line import launch
from irl_jax.config import Config
from irl_jax.config import Sampling
from irl_jax.errors import ConfigError

DEFAULTS = Sampling(max_new_tokens=64, batch_size=32)


def define_flags() -> flags.FlagValues:
  """Returns the command's flags, unparsed."""
  flag_values = flags.FlagValues()
  launch.define_file_flags(flag_values)
  flags.DEFINE_integer(
    'samples',
    1,
    'completions of each prompt; several are written as a list, `completions`',
    lower_bound=1,
    flag_values=flag_values,
  )
  define_sampling_flags(flag_values, DEFAULTS)
  return flag_values


def define_sampling_flags(flag_values: flags.FlagValues, defaults: Sampling) -> None:
  """Defines the flags that say what is completed, and how."""
  flags.DEFINE_string(
    'field',
    '',
    'the field to complete (default: prompt, messages, conversations or text)',
    flag_values=flag_values,
  )
  config_flags.define(flag_values, defaults, '')
  flags.DEFINE_boolean(
    'chat',
    False,
    "whether a text is a user's message, which the model's chat template renders; "
    'conversations are always rendered',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'the same seed gives the same completions',
    lower_bound=0,
    upper_bound=2**32 - 1,
    flag_values=flag_values,
  )


def sampling_of(options: flags.FlagValues, defaults: Sampling) -> Sampling:
  """Returns the sampling settings of the command line; a Config checks that they fit together.

  Raises:
    ConfigError: a value, or two together, are not allowed; the message names the flags.
  """
  try:
    return Config(sampling=config_flags.overridden(defaults, options, '')).sampling
  except ConfigError as error:
    raise ConfigError(str(error).replace('config.sampling.', '--')) from None


def main(options: flags.FlagValues) -> None:
  """Completes a file."""
  launch.require(options, 'model', 'input', 'output')
  sampling = sampling_of(options, DEFAULTS)
  from irl_jax.command_line import files

  files.generate(
    options.model,
    options.input,
    options.output,
    field=options.field,
    sampling=sampling,
    seed=options.seed,
    bad_rows=options.bad_rows,
    layout=launch.layout_of(options),
    split=options.split,
    chat=options.chat,
    samples=options.samples,
  )
