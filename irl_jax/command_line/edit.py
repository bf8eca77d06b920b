"""Edits a recovered reward, so that it no longer pays for a feature that an audit has flagged.

  irl-jax edit --model=runs/tiny/irl --feature=word:lovely --output=runs/tiny/edited

A feature is word:WORD, phrase:CHARACTERS, regex:EXPRESSION (all without case) or length (more words
than the median text); --feature may be repeated. The reward is linear in the last state of a text,
and the edit is a change of this head, so the result is an ordinary reward model:

  leace            removes what any linear function of the state shows of the feature
  mean_difference  removes the direction between the mean states with and without it
  subtract         subtracts the reward's regression on the feature, as the state predicts it

Each text that has the feature is compared with the same text without it (--contrast=removed), or
with other texts (others). Half of the texts fit the edit, and the other half checks it. The output
is written in Hugging Face format, with a model card, and edit.json says how far it worked. Train a
policy with it by --config.models.recovered.
"""

from absl import flags

from irl_jax.command_line import launch

METHODS = ('leace', 'mean_difference', 'subtract')
CONTRASTS = ('auto', 'removed', 'others')


def define_flags() -> flags.FlagValues:
  """Returns the command's flags, unparsed."""
  values = flags.FlagValues()
  flags.DEFINE_string(
    'model', None, 'a recovered reward, or a folder irl with all seeds', flag_values=values
  )
  flags.DEFINE_string('output', None, 'the folder to write', flag_values=values)
  flags.DEFINE_multi_string(
    'feature', None, 'word:WORD, phrase:CHARACTERS, regex:EXPRESSION or length', flag_values=values
  )
  flags.DEFINE_enum('method', 'leace', METHODS, 'how to remove it', flag_values=values)
  flags.DEFINE_enum(
    'contrast',
    'auto',
    CONTRASTS,
    'what a text that has the feature is compared with: itself without it (removed) or others; '
    'auto: removed, if the feature can be left out',
    flag_values=values,
  )
  flags.DEFINE_string(
    'texts',
    '',
    f"a file of texts: {launch.ROW_FILES} (default: the demonstrations of the reward's run)",
    flag_values=values,
  )
  flags.DEFINE_string('field', '', 'the field of the text (default: text)', flag_values=values)
  flags.DEFINE_integer(
    'max_texts', 10000, 'the most texts to use', lower_bound=40, flag_values=values
  )
  flags.DEFINE_enum(
    'bad_rows',
    'error',
    ['error', 'skip'],
    'what to do with an unreadable row of the file',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'batch_size',
    64,
    'batch size, in texts of 64 tokens, over all devices',
    lower_bound=1,
    flag_values=values,
  )
  return values


def main(options: flags.FlagValues) -> None:
  """Edits a reward."""
  launch.require(options, 'model', 'output', 'feature')
  from irl_jax.command_line import edited_rewards

  edited_rewards.edit(
    options.model,
    options.output,
    options.feature,
    options.method,
    options.contrast,
    options.texts,
    options.field,
    options.max_texts,
    options.bad_rows,
    options.batch_size,
  )
