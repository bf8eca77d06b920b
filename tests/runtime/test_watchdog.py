"""A process that makes no progress ends with a line that says so; any other continues."""

import pathlib
import subprocess
import sys

import documented
import pytest

CODE = """
import time
from irl_jax.runtime import watchdog
watchdog.start(1)
for _ in range(4):
  time.sleep(0.5)
  watchdog.feed()
print('fed', flush=True)
time.sleep(60)
print('not reached')
"""


@pytest.mark.slow
def test_a_process_that_is_not_fed_ends():
  ended = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, timeout=50)
  assert (ended.returncode, ended.stdout) == (1, 'fed\n')
  fault = 'stuck in a computation for longer than --stuck_timeout'
  documented.check(fault, ended.stderr.rstrip(), ended.returncode, pathlib.Path('RUN'))
  assert ended.stderr.count('\n') == 1 and 'Traceback' not in ended.stderr
