"""Processes of two CPU devices each, over loopback, which end with the tests that start them."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import quick_compilation

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 600  # within which every process has to end, even on a busy machine


@dataclasses.dataclass
class Process:
  """A process that may still run, and the file with its output."""

  popen: subprocess.Popen
  output: pathlib.Path

  @property
  def printed(self) -> str:
    return self.output.read_text(errors='replace')

  def wait(self, seconds: float = SECONDS) -> int:
    """Waits for the end and returns the exit code."""
    return self.popen.wait(seconds)


@pytest.fixture(scope='session')
def environment(tmp_path_factory) -> dict[str, str]:
  """Two devices for each process, and one compilation cache for all."""
  return os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': quick_compilation.on_devices(2),
    'PYTHONPATH': str(ROOT),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_COMPILATION_CACHE_DIR': str(tmp_path_factory.mktemp('compiled')),
  }


@pytest.fixture(scope='module')
def start(environment, tmp_path_factory):
  """A function `start(script, *arguments, VARIABLE=value) -> Process`; kills all at the end."""
  started = []

  def start_one(script: str, *arguments: str, **variables: str) -> Process:
    output = tmp_path_factory.mktemp('process') / 'output'
    with output.open('w') as file:
      popen = subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        env=environment | variables,
        cwd=ROOT,
        stdout=file,
        stderr=subprocess.STDOUT,
      )
    started.append(Process(popen, output))
    return started[-1]

  yield start_one
  for process in started:
    process.popen.kill()
    process.popen.wait()


@pytest.fixture(scope='module')
def start_train(start, free_port):
  """Starts the processes of one run of train.py, with common flags and some for each."""

  def start_all(*flags: str, each: tuple[tuple[str, ...], ...] = ((), ())) -> list[Process]:
    address = f'--coordinator_address=127.0.0.1:{free_port()}'
    return [
      start(
        'launch/train.py',
        '--config=configs/smoke.py',
        '--distributed=manual',
        address,
        f'--num_processes={len(each)}',
        f'--process_id={index}',
        *flags,
        *own,
      )
      for index, own in enumerate(each)
    ]

  return start_all


@pytest.fixture(scope='session')
def free_port():
  """Finds a port that nothing listens on."""

  def find() -> int:
    with socket.socket() as probe:
      probe.bind(('127.0.0.1', 0))
      return probe.getsockname()[1]

  return find
