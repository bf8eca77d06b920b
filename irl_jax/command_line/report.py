"""Writes the report of a finished run: WORKDIR/report.html, and WORKDIR/figures/ as PNG and JSON.

  irl-jax report --workdir=runs/tiny

The page says what was recovered and how far to trust it, and shows the results, and some texts with
the contribution of each word. It is one file that loads nothing else. Every run writes it when it
ends; this command rewrites it.
"""

from absl import flags

from irl_jax.command_line import launch


def define_flags() -> flags.FlagValues:
  """Returns the command's flags, unparsed."""
  flag_values = flags.FlagValues()
  flags.DEFINE_string(
    'workdir', None, 'the folder of the run, such as runs/tiny', flag_values=flag_values
  )
  return flag_values


def main(options: flags.FlagValues) -> None:
  """Writes the report and prints its path."""
  launch.require(options, 'workdir')
  from irl_jax.report import page
  from irl_jax.runtime import terminal

  print(terminal.printable(str(page.write(options.workdir))))
