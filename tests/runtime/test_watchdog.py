"""A process that is not fed ends, with a line that says so; one that is fed goes on."""

import subprocess
import sys
import time

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


def test_a_process_that_is_not_fed_ends():
  started = time.monotonic()
  ended = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, timeout=50)
  assert (ended.returncode, ended.stdout) == (1, 'fed\n')
  assert ended.stderr.startswith(
    'error: nothing was done for 1 s: another process is gone or stuck'
  )
  assert ended.stderr.count('\n') == 1 and 'Traceback' not in ended.stderr
  assert time.monotonic() - started < 50
