"""Several processes as one run: how they find each other, what they must agree on, how they part.

Every process is given the same command. All run the same code on the same data, and compute together
(irl_jax/runtime/parallel.py). The first one writes what is written, so that --workdir must be on a file system that all share.
Cheap to import: JAX is loaded when processes are to be joined.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import time
from typing import Any

from absl import flags
from absl import logging

from irl_jax.version import __version__
from irl_jax.errors import ConfigError
from irl_jax.runtime import watchdog

TPU = 'Cloud TPU'
MANUAL = ('coordinator_address', 'num_processes', 'process_id')
PARTING_SECONDS = 15  # that a process which ends waits for the others to end
SEEN_SECONDS = 60  # in which a network file system shows a new file everywhere


@dataclasses.dataclass(frozen=True)
class Place:
  """Which of how many processes this one is, and where they meet."""

  address: str  # host:port, on which the first process listens
  count: int
  index: int
  devices: Sequence[int] | None  # of this machine, that the process uses; None: all


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines what says whether this process is one of several."""
  flags.DEFINE_enum(
    'distributed',
    'auto',
    ['auto', 'off', 'manual'],
    'several processes as one run: auto asks SLURM, '
    'Open MPI, Kubernetes or Cloud TPU; manual takes the next three flags; off: this process alone',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'coordinator_address', None, 'host:port, on which process 0 listens', flag_values=flag_values
  )
  flags.DEFINE_integer(
    'num_processes', None, 'how many there are', lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    'process_id', None, 'which of them this is, from 0', lower_bound=0, flag_values=flag_values
  )
  flags.DEFINE_integer(
    'initialization_timeout',
    300,
    'seconds in which all processes have to arrive',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'heartbeat_timeout',
    100,
    'seconds after which a process that is not heard of counts as gone',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'stuck_timeout',
    3600,
    'seconds without a step, a batch or a file after which a process ends; 0: never',
    lower_bound=0,
    flag_values=flag_values,
  )


def place_of(options: flags.FlagValues) -> Place | None:
  """The place of this process among several; None where it is alone.

  Raises:
    ConfigError: flags are missing or do not fit together, or the cluster does not say which process this is.
  """
  given = {name: options[name].value for name in MANUAL}
  if options.distributed == 'manual':
    place = manual_place(**given)
  else:
    for name in (name for name, value in given.items() if value is not None):
      raise ConfigError(
        f'--{name} is read with --distributed=manual alone, and this is '
        f'--distributed={options.distributed}'
      )
    place = (
      detected_place(options.initialization_timeout) if options.distributed == 'auto' else None
    )
  return place if place and place.count > 1 else None


def manual_place(
  coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> Place:
  """The place that the command line gives.

  Raises:
    ConfigError: it is incomplete or impossible.
  """
  for name, value in zip(MANUAL, (coordinator_address, num_processes, process_id)):
    if value is None:
      raise ConfigError(f'--{name} is missing: --distributed=manual needs --{", --".join(MANUAL)}')
  host, _, port = coordinator_address.rpartition(':')
  if not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise ConfigError(
      f'--coordinator_address={coordinator_address}: must be host:port, such as 10.0.0.1:1234'
    )
  if process_id >= num_processes:
    raise ConfigError(
      f'--process_id={process_id}: must be < --num_processes={num_processes}; the first is 0'
    )
  return Place(coordinator_address, num_processes, process_id, None)


def cluster() -> str:
  """What says that several processes may be meant, in words; '' where nothing does, and then nobody is asked.

  A single task of SLURM or Open MPI is meant as one process, whatever was allocated.
  """
  for name, variable in (('SLURM', 'SLURM_STEP_NUM_TASKS'), ('Open MPI', 'OMPI_COMM_WORLD_SIZE')):
    if int(os.environ.get(variable, 1)) > 1:
      return f'{name} ({variable}={os.environ[variable]})'
  if {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= os.environ.keys():
    return 'Kubernetes (an indexed job)'
  from jax._src import cloud_tpu_init

  return TPU if cloud_tpu_init.running_in_cloud_tpu_vm else ''


def detected_place(timeout: int) -> Place | None:
  """The place that the cluster gives, asked as JAX asks.

  Raises:
    ConfigError: several processes are meant, and JAX cannot tell which this is.
  """
  if not (name := cluster()):
    return None
  from jax._src import clusters  # JAX asks only as it connects, and we say where to before

  reason = 'there is nobody to ask'
  try:
    place = Place(
      *clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, timeout
      )
    )
    if None not in (place.address, place.count, place.index):
      return dataclasses.replace(place, devices=None) if only_task_of_its_machine() else place
    if name == TPU:  # of one machine, in a container that cannot ask
      return None
  except (RuntimeError, OSError, ValueError, KeyError) as error:
    reason = str(error).splitlines()[0]
  raise ConfigError(
    f'--distributed=auto: {name} speaks for several processes, and JAX cannot tell which this is: '
    f'{reason}. Give --distributed=manual with --{", --".join(MANUAL)}, or --distributed=off'
  )


def only_task_of_its_machine() -> bool:
  """Whether all devices of the machine are this process's own; JAX would give it the first of them alone."""
  tasks = os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') or os.environ.get(
    'SLURM_STEP_TASKS_PER_NODE', ''
  )
  return re.fullmatch(r'1(\(x\d+\))?', tasks) is not None


@contextlib.contextmanager
def joined(options: flags.FlagValues) -> Iterator[None]:
  """While it lasts, this process is one of several, where the command line or the cluster means so.

  Where another one is gone, this one ends at once, with exit code 1: what it has in hand, it can neither finish nor
  wait for.

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
      f'process {place.index} of {place.count}: a computation of all processes failed, so another one is '
      f'probably gone: {str(error).splitlines()[0]}'
    )


def connect(place: Place, options: flags.FlagValues) -> None:
  """Meets the other processes; JAX ends this one with 134 where they do not all arrive in time."""
  print(
    f'process {place.index} of {place.count}: meets the others at {place.address}, within '
    f'{options.initialization_timeout} s',
    file=sys.stderr,
    flush=True,
  )
  import jax

  jax.config.update('jax_enable_preemption_service', False)  # signals are for interruption.py
  jax.distributed.initialize(
    place.address,
    place.count,
    place.index,
    place.devices,
    'deactivate',
    options.initialization_timeout,
    heartbeat_timeout_seconds=options.heartbeat_timeout,
    shutdown_timeout_seconds=PARTING_SECONDS,
  )
  if place.index and options.verbosity == 0:
    logging.set_verbosity(logging.WARNING)  # the first process shows what happens
  if options.stuck_timeout:
    watchdog.start(options.stuck_timeout)


def agree(settings: dict[str, Any]) -> None:
  """Refuses processes that were not given the same.

  Args:
    settings: what this process was given, in JSON's types.

  Raises:
    ConfigError: on all processes; those that differ from the first say in what.
  """
  from irl_jax.runtime import processes
  from irl_jax.runtime import workdir

  mine = {'irl_jax': __version__} | settings
  names = workdir.differing(processes.broadcast(mine), mine, prefix='')
  if int(processes.maximum(len(names))):
    raise ConfigError(
      'the processes were given different configs: start all with the same command'
      + (
        f' (of the first process there, of this one now): {"; ".join(names)}'
        if names
        else '; those that differ from the first say in what'
      )
    )


def check_shared(path: pathlib.Path) -> None:
  """Waits until this process sees a file that the first one wrote.

  Raises:
    ConfigError: on all processes; one does not see it.
  """
  from irl_jax.runtime import processes

  deadline = time.monotonic() + SEEN_SECONDS
  while not (seen := path.exists()) and time.monotonic() < deadline:
    time.sleep(1)
  if int(processes.maximum(not seen)):
    raise ConfigError(
      f'--workdir={path.parent}: {"is not seen by all processes" if seen else f"{path} is not seen"}; '
      'give a folder on a file system that all share'
    )
