"""For test_shares.py: `python loading.py FOLDER [ADDRESS INDEX]` places FOLDER/policy on 8 devices.

Every array with an axis that eight devices divide is split. With an address it is one process of
two. It writes FOLDER/loading_INDEX.json: which bytes were read from files, and how many of the
placed numbers differ from those of a whole load.
"""

import json
import pathlib
import sys
import weakref

import jax
import numpy as np

from irl_jax.models import pretrained
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding


class Reads:
  """Bytes that were read from files: all of them, and the most that were held at once."""

  def __init__(self) -> None:
    self.bytes = self.held = self.most = 0
    self._read = weight_files.Tensor.__getitem__

  def __call__(self, tensor, index):
    """Reads a part of a tensor and records its size, until nothing refers to it any more."""
    values = self._read(tensor, index)
    self.bytes += values.nbytes
    self._hold(values.nbytes)
    weakref.finalize(values, self._hold, -values.nbytes)
    return values

  def _hold(self, size):
    self.held += size
    self.most = max(self.most, self.held)


def main(folder: str, address: str = '', index: str = '0') -> None:
  if address:
    jax.distributed.initialize(address, 2, int(index), initialization_timeout=120)
  assert parallel.device_count() == 8
  reads, place = Reads(), pathlib.Path(folder)
  weight_files.Tensor.__getitem__ = lambda tensor, part: reads(tensor, part)
  with sharding.using('fsdp', smallest=0):
    placed = parallel.replicate(pretrained.load(str(place / 'policy')).params)
  found = {'bytes': reads.bytes, 'most': reads.most}
  whole = pretrained.load(str(place / 'policy')).params
  found['model'] = sum(leaf.nbytes for leaf in jax.tree.leaves(whole))
  found['held'] = sum(
    shard.data.nbytes for leaf in jax.tree.leaves(placed) for shard in leaf.addressable_shards
  )
  differ = jax.tree.map(lambda x, y: int(np.sum(x != y)), parallel.to_host(placed), whole)
  found['different'] = sum(jax.tree.leaves(differ))
  (place / f'loading_{index}.json').write_text(json.dumps(found))


if __name__ == '__main__':
  main(*sys.argv[1:])
