"""The paper's experiment with Pythia-1B, a size that the paper does not report. Not run by us.

  python launch/train.py --config=configs/1b.py

Hyper-parameters follow those of 410M (_pythia.py). Models and data come from the hub.
It needs 1 device of 80 GB, as --dry_run predicts (79.8 GB: two leave room for error).
"""

import _pythia

from irl_jax import config as c


def get_config() -> c.Config:
  return _pythia.large('1b', 6e-7)
