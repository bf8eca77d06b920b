"""How long the Hugging Face hub may keep a run waiting: seconds, whatever it does."""

from collections.abc import Iterator
import contextlib
import os

SILENCE = 5  # seconds without a byte; the hub's client tries six times before it gives up


@contextlib.contextmanager
def limited() -> Iterator[None]:
  """While it lasts, a download that stalls fails after six times `SILENCE`, and no rate limit is waited for.

  HF_HUB_DOWNLOAD_TIMEOUT, where it is set, takes the place of `SILENCE`. By itself the hub's client waits for as long
  as a server's Retry-After says.
  """
  import huggingface_hub  # imported here: whoever reads no hub does without it

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


def _refuse_to_wait(response) -> None:
  from huggingface_hub import errors

  if response.status_code == 429:
    raise errors.HfHubHTTPError('the hub limits requests for now (429)', response=response)
