"""Writes the report of a finished run: WORKDIR/report.html, and its figures as PNG and JSON in WORKDIR/figures/.

  python launch/report.py --workdir=runs/tiny

The page says what was recovered and how far to trust it, shows every figure, and the texts word by word. It is one
file that needs nothing else and loads nothing. Every run writes it at its end; this does it again.
"""

import sys

from absl import flags

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string('workdir', None, 'the folder of the run, such as runs/tiny', flag_values=FLAGS)


def main(options: flags.FlagValues) -> None:
  """Writes the report."""
  command_line.require(options, 'workdir')
  from irl_jax.report import page

  print(page.write(options.workdir))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
