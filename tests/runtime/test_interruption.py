"""The two signals end a run, in training after the current step; nothing else changes."""

import os
import signal
import threading

import pytest

from irl_jax.runtime import interruption
from irl_jax.runtime import processes

SIGNALS = pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


@pytest.fixture
def signals():
  return interruption.Signals()


@SIGNALS
def test_a_signal_ends_at_once_what_keeps_nothing_of_its_own(signals, signum, code):
  before = signal.getsignal(signum)
  message = (
    f'interrupted by {signal.Signals(signum).name}; progress is saved. Run the same '
    'command again to resume'
  )
  with pytest.raises(interruption.Interrupted, match=message) as caught, signals.handled():
    os.kill(os.getpid(), signum)
    pytest.fail('went on')
  assert caught.value.exit_code == code
  assert signal.getsignal(signum) is before


@SIGNALS
def test_training_finishes_the_step_in_hand(signals, signum, code):
  finished = []
  with pytest.raises(interruption.Interrupted) as caught, signals.handled():
    with signals.deferred():
      assert not signals.requested()
      os.kill(os.getpid(), signum)
      assert signals.requested()
      finished.append('the step in hand')
    pytest.fail('went on')
  assert caught.value.exit_code == code and finished


def test_a_second_signal_does_not_break_into_the_way_out(signals):
  cleaned_up = []
  with pytest.raises(interruption.Interrupted) as caught, signals.handled():
    try:
      os.kill(os.getpid(), signal.SIGINT)
    finally:
      os.kill(os.getpid(), signal.SIGTERM)
      cleaned_up.append(True)
  assert caught.value.exit_code == 130 and cleaned_up


def test_an_error_is_not_hidden_by_a_signal(signals):
  with pytest.raises(OSError, match='the disk'), signals.handled(), signals.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    raise OSError('the disk')


def test_a_new_run_forgets_the_signal_of_the_last(signals):
  with pytest.raises(interruption.Interrupted), signals.handled():
    os.kill(os.getpid(), signal.SIGTERM)
  assert not signals.requested()
  with signals.handled():
    assert not signals.requested()


def test_in_another_thread_it_does_nothing(signals):
  seen, before = [], signal.getsignal(signal.SIGTERM)

  def work():
    with signals.handled():
      seen.append(signal.getsignal(signal.SIGTERM) is before)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [True]


def test_of_several_processes_each_learns_of_a_signal_at_the_same_call(signals, monkeypatch):
  collected = iter([0, signal.SIGTERM, signal.SIGTERM])  # another process got it before the second
  monkeypatch.setattr(processes, 'alone', lambda: False)
  monkeypatch.setattr(processes, 'maximum', lambda own: max(own, next(collected)))
  assert [signals.requested() for _ in range(3)] == [False, False, True]
  with pytest.raises(interruption.Interrupted, match='SIGTERM'):
    signals.stop()


def test_the_module_has_the_signals_of_the_run(signals):
  with pytest.raises(interruption.Interrupted), interruption.handled():
    os.kill(os.getpid(), signal.SIGTERM)
