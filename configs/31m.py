"""The paper's experiment with Pythia-31M, a size that the paper does not report. Not run by us.

  python launch/train.py --config=configs/31m.py

The hyper-parameters are the paper's for 70M (_pythia.py). Models and data come from the hub.
It needs 1 device of 80 GB, as --dry_run predicts.
"""

import _pythia

from irl_jax import config as c


def get_config() -> c.Config:
  return _pythia.small('31m')
