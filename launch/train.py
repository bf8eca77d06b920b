"""Runs the stages of a config: `irl-jax train`, run from a clone.

python launch/train.py --config=configs/tiny.py
"""

import sys

from irl_jax.command_line import launch
from irl_jax.command_line import train

main = train.main
FLAGS = train.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(train)))
