"""Checkpoints of a stage, saved through Orbax, with a sha256 sum of every file.

A stage keeps its latest checkpoints and continues from the newest intact one. A flipped bit
raises no error in Orbax, and an incomplete folder can look complete; the checksums reveal both.
"""

from collections.abc import Iterator
import contextlib
import copy
import hashlib
import os
import pathlib
import re
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from irl_jax import errors
from irl_jax import settings
from irl_jax.runtime import processes
from irl_jax.runtime import workdir
from irl_jax.training import fingerprint as fingerprint_lib

SUMS = 'sums.json'
# Files that Orbax writes after the sums are taken; nothing is restored from them.
BOOKKEEPING = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class Checkpoints:
  """The checkpoints of one stage; a context manager that waits for pending saves on exit.

  A checkpoint is a pytree of arrays (`state`) and a JSON object (`meta`) with exact counters and
  floats. Its folder is named after its step and appears, with the checksums of its files, once the
  checkpoint is complete.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    keep: int = 2,
    fingerprint: fingerprint_lib.Fingerprint | None = None,
  ) -> None:
    """Opens a folder of checkpoints, and locks it.

    Args:
      folder: created if it is missing.
      keep: how many of the latest checkpoints to keep.
      fingerprint: of this training run; saved with each checkpoint, and compared on restore.

    Raises:
      ConfigError: another training run is using the folder, or it cannot be written to.
    """
    self.folder = settings.folder(folder, 'folder').absolute()
    self._fingerprint = fingerprint
    self._holding = contextlib.ExitStack()
    # Before Orbax opens the folder, which removes half-written checkpoints.
    processes.on_first(self._hold)()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      cleanup_tmp_directories=True,
      lightweight_initialize=True,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._write_sums),
    )
    self._manager = ocp.CheckpointManager(
      self.folder, options=options, item_names=('state', 'meta')
    )
    self._whole: int | None = None  # the newest step that is saved
    self._pending: int | None = None  # the step that is being saved

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_: object) -> None:
    with self._holding:
      self._wait()
      self._manager.close()

  def _hold(self) -> None:
    lock = workdir.locked(self.folder, str(self.folder), 'a different folder', remove=True)
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._holding.enter_context(lock)
    except OSError as error:
      raise errors.unwritable(f'{self.folder}: cannot be written to', error) from error

  @property
  def saved(self) -> str:
    """Describes the newest saved checkpoint, for error messages."""
    newest = self._whole if self._pending is None else self._pending
    if newest is None:
      return f'no checkpoint was saved yet in {self.folder}'
    return f'the checkpoint of step {newest} is kept in {self.folder}'

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves the state after `step` steps, in the background.

    Raises:
      CheckpointError: Orbax did not save, or could not finish the previous save.
    """
    self._wait()
    meta = copy.deepcopy(meta)  # it is written later, and the caller may change its own
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      meta=ocp.args.JsonSave(
        {'leaves': leaf_types(state), 'meta': meta, 'fingerprint': self._fingerprint}
      ),
    )
    self._pending = step
    with self._explained():
      if not self._manager.save(step, args=args, force=True):
        raise ValueError('Orbax declined')

  def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """Returns (step, state, meta) of the newest intact checkpoint, or None if there is none yet.

    Args:
      like: a state of the same structure, shapes and types; the restored one is placed on the same
        devices.

    Raises:
      CheckpointError: no checkpoint is intact, or the newest intact one does not fit `like`.
      ConfigError: its fingerprint differs. Without one, it is not compared, and a warning says so.
    """
    step = self._newest_whole()
    self._manager.reload()  # damaged steps may have been renamed
    if step is None:
      return None
    meta = self._read(step, meta=ocp.args.JsonRestore())
    if names := workdir.differing(meta['leaves'], leaf_types(like), prefix=''):
      raise errors.CheckpointError(
        f'{self.folder / str(step)}: does not match this model: {"; ".join(names)}. Use a '
        f'different --workdir, or delete {self.folder} to retrain this stage from scratch'
      )
    if self._fingerprint and meta.get('fingerprint'):
      fingerprint_lib.check(meta['fingerprint'], self._fingerprint, self.folder)
    elif self._fingerprint:
      logging.warning(
        '%s: the checkpoint of step %d does not say which settings, data and model it is of (an '
        'older version wrote it), so it is not compared',
        self.folder,
        step,
      )
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
    )
    state = self._read(step, state=ocp.args.StandardRestore(target))
    self._whole = step
    logging.info('%s: continues from step %d', self.folder, step)
    return step, state, meta['meta']

  def _read(self, step: int, **item: Any) -> Any:
    """Reads one of the two items of a step."""
    ((name, _),) = item.items()
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**item))[name]
    except (OSError, ValueError, KeyError) as error:
      raise errors.CheckpointError(
        f'{self.folder / str(step)}: its {name} cannot be restored, although its files '
        f'are intact: {_last_cause(error)}'
      ) from error

  @processes.on_first
  def _newest_whole(self) -> int | None:
    """Returns the newest step whose files match their sums.

    Newer steps are renamed, so that they can be saved again.
    """
    damaged: dict[int, str] = {}
    steps = (int(path.name) for path in self.folder.iterdir() if path.name.isdigit())
    for step in sorted(steps, reverse=True):
      reason = damage(self.folder / str(step))
      if not reason:
        self._set_aside(damaged, step)
        return step
      damaged[step] = reason
    if damaged:
      reasons = '; '.join(f'step {step}: {reason}' for step, reason in damaged.items())
      raise errors.CheckpointError(
        f'{self.folder}: no checkpoint is intact ({reasons}). Delete the folder to retrain '
        'this stage from scratch'
      )
    return None

  def _set_aside(self, damaged: dict[int, str], used: int) -> None:
    """Renames damaged steps, and logs why."""
    message = (
      '%s: the checkpoint of step %d is damaged: %s. The checkpoint of step %d is used instead'
    )
    for step, reason in damaged.items():
      logging.warning(message, self.folder, step, reason, used)
      (self.folder / str(step)).rename(self.folder / f'{step}.damaged')

  def _write_sums(self) -> None:
    """Writes the checksums of the pending step.

    Orbax calls this once all files are written, just before it gives their folder its final name.
    """
    (unnamed,) = self.folder.glob(f'{self._pending}.orbax-checkpoint-tmp*')
    write_sums(unnamed)

  def _wait(self) -> None:
    """Waits until the pending save is complete."""
    if self._pending is not None:
      with self._explained():
        self._manager.wait_until_finished()
      self._whole, self._pending = self._pending, None

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Turns what Orbax raises during a save into one line."""
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      failed, self._pending = self._pending, None
      if isinstance(error.__cause__ or error, jax.errors.JaxRuntimeError):
        raise  # not a disk error: another process is gone
      cause = _last_cause(error)
      full = any(os.strerror(number) in cause for number in errors.DISK_FULL)
      needed = 'the disk has free space' if full else 'the folder exists and can be written to'
      raise errors.CheckpointError(
        f'the checkpoint of step {failed} could not be saved: {cause}; {self.saved}. '
        f'Check that {needed}'
      ) from error


def leaf_types(tree: Any) -> dict[str, str]:
  """Returns the type and shape of every leaf by its path, such as {'params/w': 'float32[3,2]'}."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  dims = lambda leaf: ','.join(map(str, leaf.shape))
  return {name(path): f'{leaf.dtype}[{dims(leaf)}]' for path, leaf in leaves}


def write_sums(folder: pathlib.Path) -> None:
  """Writes sums.json: the sha256 sum of every file in the folder, by its relative path."""
  files = [path for path in folder.rglob('*') if path.is_file()]
  names = sorted(path.relative_to(folder).as_posix() for path in files)
  sums = {name: sha256(folder / name) for name in names if name not in BOOKKEEPING}
  workdir.write_json(folder / SUMS, sums)


def sha256(path: pathlib.Path) -> str:
  """Returns the sha256 sum of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def damage(folder: pathlib.Path) -> str:
  """Describes in a few words how the folder differs from its checksums; '' if it does not."""
  try:
    expected = dict(workdir.read_json(folder / SUMS))
  except FileNotFoundError:
    return f'it has no {SUMS}, so it is incomplete'
  except (OSError, ValueError, TypeError):
    return f'its {SUMS} is damaged'
  for name, digest in expected.items():
    try:
      actual = sha256(folder / name)
    except OSError as error:
      return f'{name}: {error.strerror}'
    if actual != digest:
      return f'checksum mismatch in {name}'
  return ''


def _last_cause(error: Exception) -> str:
  """Returns the end of an Orbax message, such as 'No space left on device'.

  Orbax puts the names of all layers between itself and the disk in front of it.
  """
  return re.sub(r' \[os_error_code.*', '', str(error).splitlines()[0]).rpartition(': ')[2]
