"""The two signals ask for a stop, and nothing else changes."""

import os
import signal
import threading

import pytest

from irl_jax import interruption


@pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_only_asks(signum, code):
  before = signal.getsignal(signum)
  with interruption.handled():
    assert not interruption.requested()
    os.kill(os.getpid(), signum)
    assert interruption.requested()
    with pytest.raises(interruption.Interrupted, match='saved. The same command continues') as caught:
      interruption.stop()
  assert caught.value.exit_code == code
  assert signal.getsignal(signum) is before


def test_a_new_run_forgets_the_signal_of_the_last():
  with interruption.handled():
    os.kill(os.getpid(), signal.SIGTERM)
  with interruption.handled():
    assert not interruption.requested()


def test_in_another_thread_it_does_nothing():
  seen, before = [], signal.getsignal(signal.SIGTERM)

  def work():
    with interruption.handled():
      seen.append(signal.getsignal(signal.SIGTERM) is before)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [True]
