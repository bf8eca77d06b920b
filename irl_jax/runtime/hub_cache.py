"""The hub's cache on this machine: which commit of a repository it contains. No network."""

import pathlib
from typing import Literal


def snapshot(
  repository: str, revision: str, kind: Literal['model', 'dataset']
) -> pathlib.Path | None:
  """Returns the folder of a cached revision, which is named after its commit; None: not cached.

  Args:
    repository: owner/name.
    revision: a branch, a tag or a commit; '': main.
    kind: of repository.
  """
  from huggingface_hub import constants  # imported here, since most runs need no hub
  from huggingface_hub import file_download

  name = file_download.repo_folder_name(repo_id=repository, repo_type=kind)
  folder = pathlib.Path(constants.HF_HUB_CACHE) / name
  reference = folder / 'refs' / (revision or 'main')
  commit = reference.read_text().strip() if reference.is_file() else revision
  found = folder / 'snapshots' / commit
  return found if commit and found.is_dir() else None
