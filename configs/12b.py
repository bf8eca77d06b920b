"""The paper's experiment with Pythia-12B, a size that the paper does not report. Not run by us.

  python launch/train.py --config=configs/12b.py

Hyper-parameters follow those of 410M (_pythia.py). Models and data come from the hub.
It needs 8 devices of 80 GB, as --dry_run predicts.
"""

import _pythia

from irl_jax import config as c


def get_config() -> c.Config:
  return _pythia.large('12b', 2e-7, 'fsdp')
