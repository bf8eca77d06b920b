"""The place of a process among several: by the flags, by the scheduler, and without either."""

import sys
import types

from absl import flags
import pytest

from irl_jax import errors
from irl_jax.runtime import distributed

SLURM = {
  'SLURM_JOB_ID': '4711',
  'SLURM_STEP_NODELIST': 'node[003-006]',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
  'SLURM_STEP_NUM_TASKS': '4',
  'SLURM_STEP_TASKS_PER_NODE': '2(x2)',
}
MPI = {
  'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
  'OMPI_COMM_WORLD_SIZE': '8',
  'OMPI_COMM_WORLD_RANK': '7',
  'OMPI_COMM_WORLD_LOCAL_RANK': '3',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '4',
}
KUBERNETES = {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '1'}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
  for name in {**SLURM, **MPI, **KUBERNETES}:
    monkeypatch.delenv(name, raising=False)


@pytest.fixture
def surrounded(monkeypatch):
  """Puts variables of a cluster into the environment."""
  return lambda variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


def parsed(*arguments):
  options = flags.FlagValues()
  distributed.define_flags(options)
  options(['train.py', *arguments])
  return options


def place_of(*arguments):
  return distributed.place_of(parsed(*arguments))


def test_a_laptop_is_one_process_and_jax_detects_nothing(monkeypatch):
  monkeypatch.setattr(distributed, '_detect', lambda timeout: pytest.fail('JAX was asked'))
  assert place_of() is place_of('--distributed=off') is None


def test_manual_is_what_the_flags_say():
  place = place_of(
    '--distributed=manual',
    '--coordinator_address=10.0.0.1:1234',
    '--num_processes=4',
    '--process_id=3',
  )
  assert place == distributed.Place('10.0.0.1:1234', 4, 3, None)
  assert (
    place_of(
      '--distributed=manual',
      '--coordinator_address=[::1]:1234',
      '--num_processes=1',
      '--process_id=0',
    )
    is None
  )


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--distributed=manual'], '--coordinator_address is missing'),
    (
      ['--distributed=manual', '--coordinator_address=a:1', '--process_id=0'],
      '--num_processes is missing',
    ),
    (
      ['--distributed=manual', '--coordinator_address=a:1', '--num_processes=2'],
      '--process_id is missing',
    ),
    (
      ['--distributed=manual', '--coordinator_address=a', '--num_processes=2', '--process_id=0'],
      'must be host:port',
    ),
    (
      [
        '--distributed=manual',
        '--coordinator_address=a:99999',
        '--num_processes=2',
        '--process_id=0',
      ],
      'must be host:port',
    ),
    (
      ['--distributed=manual', '--coordinator_address=a:1', '--num_processes=2', '--process_id=2'],
      '--process_id=2: must be < --num_processes=2',
    ),
    (
      ['--process_id=0'],
      '--process_id needs --distributed=manual, but this run has --distributed=auto',
    ),
    (['--distributed=off', '--num_processes=2'], '--num_processes needs --distributed=manual'),
  ],
)
def test_what_does_not_fit_together_is_refused(arguments, message):
  with pytest.raises(errors.ConfigError) as caught:
    place_of(*arguments)
  assert message in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
  'arguments',
  [
    ['--num_processes=0'],
    ['--process_id=-1'],
    ['--initialization_timeout=0'],
    ['--heartbeat_timeout=0'],
    ['--stuck_timeout=-1'],
    ['--distributed=maybe'],
  ],
)
def test_values_out_of_range_are_refused(arguments):
  with pytest.raises(flags.IllegalFlagValueError):
    parsed(*arguments)


def test_slurm_says_which_process_this_is(surrounded):
  surrounded(SLURM)
  assert place_of() == distributed.Place('node003:62055', 4, 2, [0])
  assert place_of('--distributed=off') is None


@pytest.mark.parametrize(
  'change', [{'SLURM_STEP_NUM_TASKS': '1'}, {'SLURM_STEP_NUM_TASKS': '1', 'SLURM_NTASKS': '1'}]
)
def test_a_single_task_of_slurm_is_one_process_whatever_was_allocated(surrounded, change):
  surrounded(SLURM | change)
  assert place_of() is None


def test_the_batch_script_of_slurm_is_one_process(surrounded, monkeypatch):
  surrounded(SLURM)
  monkeypatch.delenv('SLURM_STEP_NUM_TASKS')  # it is not a step
  assert place_of() is None


@pytest.mark.parametrize(
  'tasks, devices', [('1(x4)', None), ('1', None), ('4', [0]), ('2(x2)', [0]), ('11', [0])]
)
def test_one_task_of_a_machine_has_all_its_devices(surrounded, tasks, devices):
  surrounded(SLURM | {'SLURM_STEP_TASKS_PER_NODE': tasks})
  assert place_of().devices == devices


def test_open_mpi_says_which_process_this_is(surrounded):
  surrounded(MPI)
  assert place_of() == distributed.Place('10.96.0.1:62624', 8, 7, [3])
  surrounded({'OMPI_COMM_WORLD_SIZE': '1'})
  assert place_of() is None


def test_a_scheduler_that_does_not_say_is_refused_with_the_way_out(surrounded, monkeypatch):
  surrounded(MPI)
  monkeypatch.delenv('OMPI_MCA_orte_hnp_uri')  # as newer versions of Open MPI leave it out
  with pytest.raises(
    errors.ConfigError, match=r'Open MPI \(OMPI_COMM_WORLD_SIZE=8\).*--distributed=manual'
  ) as caught:
    place_of()
  assert '--distributed=off' in str(caught.value) and '\n' not in str(caught.value)


def job(name, parallelism):
  """The answers of Kubernetes to JAX about a pod's job."""
  named = types.SimpleNamespace
  return {
    '_job': named(spec=named(parallelism=parallelism), metadata=named(name=name, labels={})),
    '_pod': named(spec=named(subdomain='pods'), metadata=named(labels={})),
    '_controller': named(kind='Job'),
  }


@pytest.mark.parametrize(
  'parallelism, expected', [(2, distributed.Place('irl-0.pods:55527', 2, 1, None)), (1, None)]
)
def test_an_indexed_job_of_kubernetes_says_which_process_this_is(
  surrounded, monkeypatch, parallelism, expected
):
  from jax._src.clusters import k8s_cluster

  surrounded(KUBERNETES)
  monkeypatch.setattr(k8s_cluster.K8sCluster, 'is_env_present', classmethod(lambda _: True))
  monkeypatch.setattr(k8s_cluster.socket, 'gethostbyname', lambda _: '10.0.0.2')
  for name, answer in job('irl', parallelism).items():
    monkeypatch.setattr(k8s_cluster.K8sCluster, name, classmethod(lambda _, answer=answer: answer))
  assert place_of() == expected


def test_a_tpu_of_one_machine_is_one_process(monkeypatch):
  monkeypatch.setattr(distributed, 'has_tpu', lambda: True)
  assert place_of() is None


@pytest.mark.parametrize(
  'files, library, expected',
  [
    (['accel0', 'accel1'], True, True),
    (['vfio/0', 'vfio/vfio'], True, True),
    (['vfio/vfio', 'accel', 'nvidia0'], True, False),
    (['accel0'], False, False),
  ],
)
def test_a_tpu_is_its_device_files_and_its_library(tmp_path, monkeypatch, files, library, expected):
  monkeypatch.setenv('TPU_LIBRARY_PATH', 'libtpu.so' if library else '')
  monkeypatch.setattr(distributed.importlib.util, 'find_spec', lambda name: None)
  (tmp_path / 'vfio').mkdir()
  for name in files:
    (tmp_path / name).touch()
  assert distributed.has_tpu(tmp_path) == expected


def test_a_jax_whose_detection_has_changed_is_refused_with_the_way_out(surrounded, monkeypatch):
  from jax._src import clusters

  surrounded(SLURM)
  monkeypatch.delattr(clusters.ClusterEnv, 'auto_detect_unset_distributed_params')
  with pytest.raises(errors.ConfigError, match='this version of JAX.*--distributed=manual'):
    place_of()


def test_an_indexed_job_without_the_package_that_asks_is_refused(surrounded, monkeypatch):
  surrounded(KUBERNETES)
  monkeypatch.setitem(sys.modules, 'kubernetes', None)
  with (
    pytest.warns(UserWarning, match='kubernetes'),
    pytest.raises(errors.ConfigError, match='an indexed job'),
  ):
    place_of()


def test_a_lone_pod_is_one_process_and_kubernetes_is_not_asked(surrounded):
  surrounded({'KUBERNETES_SERVICE_HOST': '10.0.0.1'})
  assert place_of() is None


def test_one_process_agrees_with_itself_and_sees_its_own_files(tmp_path):
  distributed.agree({'config': {'seed': 1}})
  (tmp_path / 'config.json').touch()
  distributed.check_shared(tmp_path / 'config.json')


def test_a_file_that_does_not_appear_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(distributed, 'VISIBLE_SECONDS', 0)
  with pytest.raises(
    errors.ConfigError, match='use a folder on a file system that all processes share'
  ):
    distributed.check_shared(tmp_path / 'config.json')
