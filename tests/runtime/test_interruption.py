"""The two signals end a run, in training after the step in hand; and nothing else changes."""

import os
import signal
import threading

import pytest

from irl_jax.runtime import interruption

SIGNALS = pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


@SIGNALS
def test_a_signal_ends_at_once_what_keeps_nothing_of_its_own(signum, code):
  before = signal.getsignal(signum)
  with (
    pytest.raises(
      interruption.Interrupted,
      match=f'interrupted by {signal.Signals(signum).name}; all that is whole '
      'is saved. The same command continues',
    ) as caught,
    interruption.handled(),
  ):
    os.kill(os.getpid(), signum)
    pytest.fail('went on')
  assert caught.value.exit_code == code
  assert signal.getsignal(signum) is before


@SIGNALS
def test_training_is_only_asked(signum, code):
  finished = []
  with pytest.raises(interruption.Interrupted) as caught, interruption.handled():
    with interruption.deferred():
      assert not interruption.requested()
      os.kill(os.getpid(), signum)
      assert interruption.requested()
      finished.append('the step in hand')
    pytest.fail('went on')
  assert caught.value.exit_code == code and finished


def test_a_second_signal_does_not_break_into_the_way_out():
  cleaned_up = []
  with pytest.raises(interruption.Interrupted) as caught, interruption.handled():
    try:
      os.kill(os.getpid(), signal.SIGINT)
    finally:
      os.kill(os.getpid(), signal.SIGTERM)
      cleaned_up.append(True)
  assert caught.value.exit_code == 130 and cleaned_up


def test_what_fails_while_it_is_asked_fails_as_it_would():
  with pytest.raises(OSError, match='the disk'), interruption.handled(), interruption.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    raise OSError('the disk')


def test_a_new_run_forgets_the_signal_of_the_last():
  with pytest.raises(interruption.Interrupted), interruption.handled():
    os.kill(os.getpid(), signal.SIGTERM)
  assert not interruption.requested()
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
