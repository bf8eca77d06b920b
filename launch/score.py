"""Scores the texts of a file: `irl-jax score`, run from a clone.

python launch/score.py --model=M --input=comments.jsonl --output=scored.jsonl
"""

import sys

from irl_jax.command_line import launch
from irl_jax.command_line import score

main = score.main
FLAGS = score.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(score)))
