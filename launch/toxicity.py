"""Measures the toxicity of a model's samples: `irl-jax toxicity`, run from a clone.

python launch/toxicity.py --model=M --judge=CLASSIFIER --prompts=prompts.jsonl
"""

import sys

from irl_jax.command_line import launch
from irl_jax.command_line import toxicity

main = toxicity.main
FLAGS = toxicity.define_flags()

if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, launch.usage_in_clone(toxicity)))
