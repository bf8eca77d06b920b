"""Scores the texts of a file with a language model, a classifier, a recovered reward or an ensemble of them.

  python launch/score.py --model=runs/tiny/irl --input=comments.jsonl --output=scored.jsonl [--field=text]

What the model is, is read from its config.json. Every row is written with its fields and, behind them: for a causal
language model `log_prob` (nats, over the text's tokens, EOS given first) and `tokens`; for a classifier `logits` and,
where a label is toxic, `reward` = -logit[toxic]; for a recovered reward `reward`; for an ensemble `reward` (mean) and
`reward_std`.
"""

import sys

from absl import flags

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string('model', None, 'a hub id, id@revision, or a folder', flag_values=FLAGS)
flags.DEFINE_string(
  'input',
  None,
  '.jsonl, .json, .csv, .tsv, .parquet or .txt (a text a line), also .gz',
  flag_values=FLAGS,
)
flags.DEFINE_string('output', None, 'the .jsonl file to write', flag_values=FLAGS)
flags.DEFINE_string('field', 'text', 'the field that is scored', flag_values=FLAGS)
flags.DEFINE_integer(
  'batch_size',
  32,
  'texts of 64 tokens scored at once, over all devices',
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_enum(
  'bad_rows', 'error', ['error', 'skip'], 'what an unreadable row does', flag_values=FLAGS
)


def main(options: flags.FlagValues) -> None:
  """Scores a file."""
  command_line.require(options, 'model', 'input', 'output', 'field')
  from irl_jax.command_line import files

  files.score(
    options.model,
    options.input,
    options.output,
    field=options.field,
    batch_size=options.batch_size,
    bad_rows=options.bad_rows,
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
