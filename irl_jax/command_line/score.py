"""Scores texts and conversations with a language model, a classifier, or a recovered reward.

  irl-jax score --model=runs/tiny/irl --input=comments.jsonl --output=scored.jsonl [--field=text]

The model's kind is read from its config.json. Every row is written with its own fields, followed by
the scores:

  causal language model   `log_prob` (nats, summed over the tokens, EOS given first) and `tokens`
  classifier              `logits` and, if a label is toxic, `reward` = -logit[toxic]
  recovered reward        `reward`
  ensemble                `reward` (the mean) and `reward_std`

A recovered reward or an ensemble in the folder of its run also gets `harmless_probability`, if the
run had labels to fit it on, and `out_of_distribution`: whether a text is unlike those that the
reward was recovered from.

With --field=chosen,rejected both texts of a row are scored (`reward_chosen`, `reward_rejected`),
after the row's `prompt` if they are answers. The command then prints how often the first one has
the higher reward, in all rows and in each `subset`, and writes it next to the output
(NAME.summary.json).

With --reference=MODEL two language models are compared: `log_ratio` (nats, summed over the tokens,
how much likelier the first makes the text), `log_ratio_per_token`, `log_prob`,
`reference_log_prob` and `tokens`. With --prompt_field they are those of the text given its prompt.

A field may have a conversation in place of a text: `messages`, ShareGPT's `conversations`, the
`chosen` and `rejected` of preference data, or a transcript of Human: and Assistant: turns. The
model's chat template renders what precedes the last answer, as in training; a classifier reads the
messages without a template. With --reference, the last answer is compared, given what precedes it.
"""

from absl import flags

from irl_jax.command_line import launch


def define_flags() -> flags.FlagValues:
  """Returns the command's flags, unparsed."""
  flag_values = flags.FlagValues()
  launch.define_file_flags(flag_values)
  flags.DEFINE_string(
    'field',
    '',
    'the field to score; or several, by commas (default: text, messages or conversations)',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'label',
    '',
    "name or number of a classifier's toxic label, if the label names do not show which it is",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'reference',
    '',
    'a language model to compare --model with, such as the one that it was trained from',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'prompt_field',
    '',
    'with --reference, the field of the prompt that the text follows',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'chat',
    False,
    "whether a text (with --prompt_field: a prompt) is a user's message, which the model's chat "
    'template renders; conversations are always rendered',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'batch_size',
    32,
    'batch size, in texts of 64 tokens, over all devices',
    lower_bound=1,
    flag_values=flag_values,
  )
  return flag_values


def main(options: flags.FlagValues) -> None:
  """Scores a file."""
  launch.require(options, 'model', 'input', 'output')
  from irl_jax.command_line import files

  files.score(
    options.model,
    options.input,
    options.output,
    field=options.field,
    batch_size=options.batch_size,
    bad_rows=options.bad_rows,
    layout=launch.layout_of(options),
    split=options.split,
    label=options.label,
    reference=options.reference,
    prompt_field=options.prompt_field,
    chat=options.chat,
  )
