"""Limits on the time that a run waits for the Hugging Face hub: seconds or minutes, never hours."""

from collections.abc import Iterator
import contextlib
import os
from typing import Any

SILENCE = 5  # seconds without a byte; the hub's client makes six attempts


@contextlib.contextmanager
def limited() -> Iterator[None]:
  """Makes a stalled download fail after six times `SILENCE`, and a rate-limited one at once.

  HF_HUB_DOWNLOAD_TIMEOUT replaces `SILENCE` if it is set. Without this limit, the hub's client
  waits as long as a server's Retry-After asks for.
  """
  import huggingface_hub  # imported here, since most runs need no hub

  constants, hooks = (
    huggingface_hub.constants,
    huggingface_hub.get_session().event_hooks['response'],
  )
  before = constants.HF_HUB_DOWNLOAD_TIMEOUT
  if 'HF_HUB_DOWNLOAD_TIMEOUT' not in os.environ:
    constants.HF_HUB_DOWNLOAD_TIMEOUT = SILENCE
  hooks.append(_refuse_to_wait)
  try:
    yield
  finally:
    hooks.remove(_refuse_to_wait)
    constants.HF_HUB_DOWNLOAD_TIMEOUT = before


def _refuse_to_wait(response: Any) -> None:
  from huggingface_hub import errors

  if response.status_code == 429:
    raise errors.HfHubHTTPError(
      'the hub is rate-limiting requests (HTTP 429); try again later', response=response
    )
