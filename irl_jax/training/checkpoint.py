"""Checkpoints of a stage, through Orbax: the latest ones are kept, and a stage continues from the newest whole one."""

from collections.abc import Iterator
import contextlib
import copy
import pathlib
import re
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from irl_jax import errors
from irl_jax.runtime import processes
from irl_jax.runtime import workdir
from irl_jax.training import sums


class Checkpoints:
  """The checkpoints of one stage; a context manager that waits for pending saves when it is left.

  A checkpoint is a pytree of arrays (`state`) and a JSON object (`meta`): counters and floats that are kept exactly.
  It lies in a folder with its step's name, which appears when the checkpoint is whole, with the sums of its files.
  """

  def __init__(self, folder: str | pathlib.Path, keep: int = 2):
    self.folder = pathlib.Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      cleanup_tmp_directories=True,
      lightweight_initialize=True,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._sum_up),
    )
    self._manager = ocp.CheckpointManager(
      self.folder, options=options, item_names=('state', 'meta')
    )
    self._whole = self._pending = (
      None  # the newest step that is saved, and the one that is being saved
    )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._wait()
    self._manager.close()

  @property
  def kept(self) -> str:
    """What is left to a run that ends here, for the message that ends it."""
    newest = self._whole if self._pending is None else self._pending
    return (
      f'no checkpoint was saved yet in {self.folder}'
      if newest is None
      else (f'the checkpoint of step {newest} is kept in {self.folder}')
    )

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves the state after `step` steps, in the background.

    Raises:
      CheckpointError: Orbax did not save, or could not finish the save before.
    """
    self._wait()
    meta = copy.deepcopy(meta)  # it is written later, and the caller may go on changing its own
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      meta=ocp.args.JsonSave({'leaves': described(state), 'meta': meta}),
    )
    self._pending = step
    with self._explained():
      if not self._manager.save(step, args=args, force=True):
        raise ValueError('Orbax declined')

  def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """(step, state, meta) of the newest whole checkpoint, placed as `like` is; None where there is none yet.

    Raises:
      CheckpointError: there are checkpoints and none is whole, or the newest whole one does not fit `like`.
    """
    step = self._newest_whole()
    self._manager.reload()  # steps may have been set aside
    if step is None:
      return None
    meta = self._read(step, meta=ocp.args.JsonRestore())
    if names := workdir.differing(meta['leaves'], described(like), prefix=''):
      raise errors.CheckpointError(
        f'{self.folder / str(step)}: is of another model or type: {"; ".join(names)}. Give '
        f'another --workdir, or delete {self.folder} to train this stage anew'
      )
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
    )
    state = self._read(step, state=ocp.args.StandardRestore(target))
    self._whole = step
    logging.info('%s: continues from step %d', self.folder, step)
    return step, state, meta['meta']

  def _read(self, step: int, **item: Any) -> Any:
    """One of the two items of a step."""
    ((name, _),) = item.items()
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**item))[name]
    except (OSError, ValueError, KeyError) as error:
      raise errors.CheckpointError(
        f'{self.folder / str(step)}: its {name} cannot be restored, though its files are '
        f'whole: {_last_cause(error)}'
      ) from error

  @processes.on_first
  def _newest_whole(self) -> int | None:
    """The newest step whose files are what was written; newer ones are set aside, so that they can be saved again."""
    damaged = {}
    for step in sorted(
      (int(path.name) for path in self.folder.iterdir() if path.name.isdigit()), reverse=True
    ):
      fault = sums.fault(self.folder / str(step))
      if not fault:
        self._set_aside(damaged, step)
        return step
      damaged[step] = fault
    if damaged:
      reasons = '; '.join(f'step {step}: {fault}' for step, fault in damaged.items())
      raise errors.CheckpointError(
        f'{self.folder}: no checkpoint is whole ({reasons}). Delete the folder to train '
        'this stage anew'
      )
    return None

  def _set_aside(self, damaged: dict[int, str], used: int) -> None:
    """Renames damaged steps, and says why."""
    for step, fault in damaged.items():
      logging.warning(
        '%s: the checkpoint of step %d is damaged: %s. That of step %d is used instead',
        self.folder,
        step,
        fault,
        used,
      )
      (self.folder / str(step)).rename(self.folder / f'{step}.damaged')

  def _sum_up(self) -> None:
    """Called by Orbax when all files of a step are written, just before their folder is given its final name."""
    (unnamed,) = self.folder.glob(f'{self._pending}.orbax-checkpoint-tmp*')
    sums.write(unnamed)

  def _wait(self) -> None:
    """Until what is being saved is whole."""
    if self._pending is not None:
      with self._explained():
        self._manager.wait_until_finished()
      self._whole, self._pending = self._pending, None

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Turns what Orbax raises while it saves into one line."""
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      failed, self._pending = self._pending, None
      if isinstance(error.__cause__ or error, jax.errors.JaxRuntimeError):
        raise  # not the disk: another process is gone
      raise errors.CheckpointError(
        f'the checkpoint of step {failed} could not be saved: {_last_cause(error)}; '
        f'{self.kept}. Is there free space?'
      ) from error


def described(tree: Any) -> dict[str, str]:
  """Type and shape of every leaf by its name, such as {'params/w': 'float32[3,2]'}."""
  return {
    jax.tree_util.keystr(
      path, simple=True, separator='/'
    ): f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _last_cause(error: Exception) -> str:
  """'No space left on device', out of a line that names every layer between Orbax and the disk."""
  return re.sub(r' \[os_error_code.*', '', str(error).splitlines()[0]).rpartition(': ')[2]
