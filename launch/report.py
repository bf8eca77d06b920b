"""Writes the report of a finished run again: `irl-jax report`, run from a clone.

python launch/report.py --workdir=runs/tiny
"""

import sys

from irl_jax.command_line import launch
from irl_jax.command_line import report

main = report.main
FLAGS = report.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(report)))
