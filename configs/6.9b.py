"""The paper's experiment with Pythia-6.9B, a size that the paper does not report. Not run by us.

  python launch/train.py --config=configs/6.9b.py

Hyper-parameters follow those of 410M (_pythia.py). Models and data come from the hub.
It needs 4 devices of 80 GB, as --dry_run predicts.
"""

import _pythia

from irl_jax import config as c


def get_config() -> c.Config:
  return _pythia.large('6.9b', 3e-7, 'fsdp')
