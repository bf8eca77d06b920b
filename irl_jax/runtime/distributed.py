"""Several processes as one run: how they connect, compare their settings, and end.

Every process gets the same command. All run the same code on the same data and compute together
(runtime/parallel.py). The first process writes all files, so --workdir must be on a shared file
system. Importing this module is cheap: JAX is loaded when the processes connect.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import re
import sys
import time
from typing import Any

from absl import flags
from absl import logging

from irl_jax.errors import ConfigError
from irl_jax.runtime import watchdog
from irl_jax.version import __version__

TPU = 'Cloud TPU'
MANUAL = ('coordinator_address', 'num_processes', 'process_id')
SHUTDOWN_SECONDS = 15  # time that a process waits for the others before it exits
VISIBLE_SECONDS = 60  # maximum time until a network file system shows a new file on every machine


@dataclasses.dataclass(frozen=True)
class Place:
  """The index of this process among several, and the address where they meet."""

  address: str  # host:port, on which the first process listens
  count: int
  index: int
  devices: Sequence[int] | None  # the local devices that this process uses; None: all


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags that make this process one of several."""

  def integer(name: str, default: int | None, meaning: str, lower_bound: int) -> None:
    flags.DEFINE_integer(name, default, meaning, lower_bound=lower_bound, flag_values=flag_values)

  flags.DEFINE_enum(
    'distributed',
    'auto',
    ['auto', 'off', 'manual'],
    'how to join several processes into one run: auto (detect SLURM, Open MPI, Kubernetes or Cloud '
    'TPU), manual (use --coordinator_address, --num_processes and --process_id), or off (a single '
    'process)',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'coordinator_address', None, 'host:port on which process 0 listens', flag_values=flag_values
  )
  integer('num_processes', None, 'number of processes', 1)
  integer('process_id', None, 'index of this process, from 0', 0)
  integer('initialization_timeout', 300, 'seconds within which all processes must connect', 1)
  integer(
    'heartbeat_timeout', 100, 'seconds without a heartbeat after which a process counts as lost', 1
  )
  integer(
    'stuck_timeout',
    3600,
    'seconds without a finished step, batch or file after which a process ends itself; 0: never',
    0,
  )


def place_of(options: flags.FlagValues) -> Place | None:
  """Returns the place of this process among several, or None if it is the only one.

  Raises:
    ConfigError: flags are missing or contradict each other, or JAX cannot determine the place.
  """
  place = None
  if options.distributed == 'manual':
    place = manual_place(options.coordinator_address, options.num_processes, options.process_id)
  else:
    for name in (name for name in MANUAL if options[name].value is not None):
      raise ConfigError(
        f'--{name} needs --distributed=manual, but this run has --distributed={options.distributed}'
      )
    if options.distributed == 'auto':
      place = detected_place(options.initialization_timeout)
  return place if place and place.count > 1 else None


def manual_place(address: str | None, count: int | None, index: int | None) -> Place:
  """Returns the place that the command line gives.

  Args:
    address: --coordinator_address.
    count: --num_processes.
    index: --process_id.

  Raises:
    ConfigError: the place is incomplete or impossible.
  """
  if address is None or count is None or index is None:
    missing = MANUAL[(address, count, index).index(None)]
    raise ConfigError(f'--{missing} is missing: --distributed=manual needs {_manual_flags()}')
  host, _, port = address.rpartition(':')
  if not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise ConfigError(f'--coordinator_address={address}: must be host:port, such as 10.0.0.1:1234')
  if index >= count:
    raise ConfigError(f'--process_id={index}: must be < --num_processes={count}; the first is 0')
  return Place(address, count, index, None)


def _manual_flags() -> str:
  return f'--{", --".join(MANUAL)}'


def scheduler() -> str:
  """Names the scheduler that seems to have started several processes, or returns ''.

  JAX's detection is skipped for ''. A single task of SLURM or Open MPI is one process, regardless
  of the allocation.
  """
  for name, variable in (('SLURM', 'SLURM_STEP_NUM_TASKS'), ('Open MPI', 'OMPI_COMM_WORLD_SIZE')):
    if int(os.environ.get(variable, 1)) > 1:
      return f'{name} ({variable}={os.environ[variable]})'
  if {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= os.environ.keys():
    return 'Kubernetes (an indexed job)'
  return TPU if has_tpu() else ''


def has_tpu(devices: pathlib.Path = pathlib.Path('/dev')) -> bool:
  """Returns True if this machine has a TPU and the library that drives it.

  Args:
    devices: the folder of device files. TPUs up to v4 are accel<n> there, later ones vfio/<n>.
  """
  files = (*devices.glob('accel[0-9]*'), *devices.glob('vfio/[0-9]*'))
  library = os.environ.get('TPU_LIBRARY_PATH') or importlib.util.find_spec('libtpu')
  return bool(files and library)


def detected_place(timeout: int) -> Place | None:
  """Returns the place that the scheduler gives, as JAX detects it; None without a scheduler.

  Args:
    timeout: seconds to wait for the first process's host name.

  Raises:
    ConfigError: a scheduler was detected, but JAX cannot determine this process's index.
  """
  if not (name := scheduler()):
    return None
  reason = 'it detects no scheduler'
  try:
    address, count, index, devices = _detect(timeout)
    if address is not None and count is not None and index is not None:
      return Place(address, count, index, None if only_task_of_its_machine() else devices)
    if name == TPU:
      return None  # a single machine, in a container without access to the metadata server
  except (ImportError, AttributeError, TypeError) as error:
    reason = f'this version of JAX offers no usable detection ({error})'
  except (RuntimeError, OSError, ValueError, KeyError) as error:
    reason = str(error).splitlines()[0]
  raise ConfigError(
    f"--distributed=auto: detected {name}, but JAX could not determine this process's index: "
    f'{reason}. Use --distributed=manual with {_manual_flags()}, or --distributed=off'
  )


def _detect(timeout: int) -> tuple[str | None, int | None, int | None, Sequence[int] | None]:
  """Returns address, count, index and devices, as JAX detects them.

  `jax.distributed.initialize` detects and connects in one call, and aborts the process on failure.
  The address must be printed before that, and only this private function returns it.
  """
  from jax._src import clusters

  return clusters.ClusterEnv.auto_detect_unset_distributed_params(
    None, None, None, None, None, timeout
  )


def only_task_of_its_machine() -> bool:
  """Returns True if this process should use all devices of its machine.

  JAX would assign a task of SLURM or Open MPI only the device of its local index.
  """
  tasks = os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') or os.environ.get(
    'SLURM_STEP_TASKS_PER_NODE', ''
  )
  return re.fullmatch(r'1(\(x\d+\))?', tasks) is not None


@contextlib.contextmanager
def joined(options: flags.FlagValues) -> Iterator[None]:
  """Makes this process one of several for the block, if the flags or the scheduler say so.

  If another process is gone, this one ends at once with exit code 1: it can neither finish its
  computation nor wait for it.

  Raises:
    ConfigError: see `place_of`.
  """
  if not (place := place_of(options)):
    yield
    return
  connect(place, options)
  import jax

  try:
    yield
  except (jax.errors.JaxRuntimeError, TimeoutError) as error:
    if 'RESOURCE_EXHAUSTED' in str(error):
      raise
    watchdog.end(
      f'process {place.index} of {place.count}: a computation of all processes failed, so another '
      f'one is probably gone: {str(error).splitlines()[0]}'
    )


def connect(place: Place, options: flags.FlagValues) -> None:
  """Connects to the other processes.

  JAX ends this process with exit code 134 if they do not all connect in time.
  """
  print(
    f'process {place.index} of {place.count}: connecting to the others at {place.address}, within '
    f'{options.initialization_timeout} s',
    file=sys.stderr,
    flush=True,
  )
  import jax

  # Otherwise, JAX would handle SIGTERM, but interruption.py must.
  jax.config.update('jax_enable_preemption_service', False)
  jax.distributed.initialize(
    place.address,
    place.count,
    place.index,
    place.devices,
    'deactivate',
    options.initialization_timeout,
    heartbeat_timeout_seconds=options.heartbeat_timeout,
    shutdown_timeout_seconds=SHUTDOWN_SECONDS,
  )
  if place.index and options.verbosity == 0:
    logging.set_verbosity(logging.WARNING)  # the first process shows the progress
  if options.stuck_timeout:
    watchdog.start(options.stuck_timeout)


def agree(settings: dict[str, Any]) -> None:
  """Checks that all processes have the same settings.

  Args:
    settings: this process's settings, in JSON's types.

  Raises:
    ConfigError: raised on all processes; on those that differ from the first, the message names the
      fields.
  """
  from irl_jax.runtime import processes
  from irl_jax.runtime import workdir

  mine = {'irl_jax': __version__} | settings
  names = workdir.differing(processes.broadcast(mine), mine, prefix='')
  if int(processes.maximum(len(names))):
    details = (
      f' (of the first process there, of this one now): {"; ".join(names)}'
      if names
      else '; the processes that differ from the first name the fields'
    )
    raise ConfigError(
      'the processes were given different configs: start all with the same command' + details
    )


def check_shared(path: pathlib.Path) -> None:
  """Waits until this process sees a file that the first one wrote.

  Raises:
    ConfigError: on all processes, if one does not see it.
  """
  from irl_jax.runtime import processes

  deadline = time.monotonic() + VISIBLE_SECONDS
  while not (visible := path.exists()) and time.monotonic() < deadline:
    time.sleep(1)
  if int(processes.maximum(not visible)):
    reason = 'is not visible to all processes' if visible else f'{path} is not visible'
    raise ConfigError(
      f'--workdir={path.parent}: {reason}; use a folder on a file system that all processes share'
    )
