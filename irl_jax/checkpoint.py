"""Checkpoints of a stage, through Orbax: the latest ones are kept, and a stage continues from the newest."""

import copy
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from irl_jax import errors


class Checkpoints:
  """The checkpoints of one stage; a context manager that waits for pending saves when it is left.

  A checkpoint is a pytree of arrays (`state`) and a JSON object (`meta`): counters and floats that are kept exactly.
  """

  def __init__(self, folder: str | pathlib.Path, keep: int = 2):
    self.folder = pathlib.Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, step_prefix=None)
    self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=('state', 'meta'))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.wait_until_finished()
    self._manager.close()

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves the state after `step` steps, in the background.

    Raises:
      CheckpointError: Orbax did not save.
    """
    meta = copy.deepcopy(meta)  # it is written later, and the caller may go on changing its own
    args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
    if not self._manager.save(step, args=args, force=True):
      raise errors.CheckpointError(f'{self.folder}: step {step} was not saved; is there free space?')

  def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """(step, state, meta) of the newest checkpoint, placed as `like` is; None where there is none yet.

    Raises:
      CheckpointError: the checkpoint does not fit `like`.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore())
    try:
      restored = self._manager.restore(step, args=args)
    except (ValueError, KeyError, FileNotFoundError) as error:
      reason = str(error).splitlines()[0]
      raise errors.CheckpointError(f'{self.folder / str(step)}: cannot be restored: {reason}') from error
    return step, restored['state'], restored['meta']
