"""`irl-jax train` that splits every array that the devices divide, however small."""

import sys

from irl_jax.command_line import launch
from irl_jax.command_line import train
from irl_jax.runtime import sharding

if __name__ == '__main__':
  sharding.SMALLEST = 0
  sys.exit(launch.run_main(train.main, train.define_flags(), ''))
