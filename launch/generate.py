"""Completes the prompts of a file: `irl-jax generate`, run from a clone.

python launch/generate.py --model=M --input=prompts.jsonl --output=completed.jsonl
"""

import sys

from irl_jax.command_line import generate
from irl_jax.command_line import launch

main = generate.main
FLAGS = generate.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(generate)))
