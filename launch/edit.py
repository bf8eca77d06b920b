"""Edits a recovered reward: `irl-jax edit`, run from a clone.

python launch/edit.py --model=runs/tiny/irl --feature=word:lovely --output=runs/tiny/edited
"""

import sys

from irl_jax.command_line import edit
from irl_jax.command_line import launch

main = edit.main
FLAGS = edit.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(edit)))
