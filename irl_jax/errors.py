"""Errors that a user can fix: for each, a command prints one line and exits with its exit code."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota or a limit is reached


class IrlJaxError(Exception):
  """Base of every error that a user can fix; a command prints it without a traceback."""

  exit_code = 1


class ConfigError(IrlJaxError, ValueError):
  """A bad command line, config value, path or work directory."""

  exit_code = 2


class InputError(IrlJaxError, ValueError):
  """Bad weights, bad rows, or a hub that does not answer."""

  exit_code = 3


class DivergedError(IrlJaxError, ArithmeticError):
  """Training diverged, or a self-check found that sampling and training disagree."""

  exit_code = 4


class CheckpointError(IrlJaxError):
  """A checkpoint that cannot be restored or written, or a disk that is full."""

  exit_code = 5


class OtherProcessError(IrlJaxError):
  """Another process of the same run failed, and this one cannot continue alone."""

  def __init__(self, message: str, exit_code: int) -> None:
    super().__init__(message)
    self.exit_code = exit_code


class OutOfMemoryError(IrlJaxError):
  """The devices or the host have too little memory for a stage."""


def unwritable(what: str, error: OSError) -> IrlJaxError:
  """Returns the error for a place that cannot be written to; a full disk has its own code.

  Args:
    what: the beginning of the message, such as 'PATH: cannot be written'.
    error: the cause.
  """
  if error.errno in DISK_FULL:
    return CheckpointError(f'{what}: {error.strerror}. Free space, and run the same command again')
  return ConfigError(f'{what}: {error.strerror}')
