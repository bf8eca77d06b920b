"""Detection of files whose first bytes contradict their name, such as an LFS pointer."""

import re

SIZE = 512  # bytes to look at
SHOWN = 40  # characters of a file that a message shows

POINTER = 'is a Git LFS pointer, not the file itself. Run `git lfs pull` in its repository'
_ANNEX = 'is a git-annex pointer, not the file itself. Run `git annex get` in its repository'
_HTML = 'is an HTML page, not the file itself: a failed download. Download it again'
_ZIP = 'is a zip archive, such as an Excel workbook. Unpack it, or save its table as .csv in UTF-8'
_GZIP = 'is gzipped, although its name does not end in .gz. Add .gz to its name'
_NOT_GZIP = 'is not gzipped, although its name ends in .gz. Remove .gz from its name'
_TAR = 'is a tar archive. Unpack it (tar xf)'
_PARQUET = 'is a parquet file. Give it a name that ends in .parquet'
_NOT_PARQUET = (
  'is text, not parquet (it begins with {}). Give it the ending of its format: .jsonl, .json, '
  '.csv, .tsv or .txt'
)

_PACKED = {b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'\x28\xb5\x2f\xfd': 'zstd', b"7z\xbc\xaf'": '7z'}
_BINARY = {
  b'SQLite format 3\x00': 'an SQLite database',
  b'ARROW1': 'an Arrow file',
  b'\x89HDF': 'an HDF5 file',
  b'\x93NUMPY': 'a NumPy array',
  b'\x80\x04\x95': 'a pickle',
  b'\xd0\xcf\x11\xe0': 'an old Microsoft Office document, such as .xls',
  b'%PDF-': 'a PDF document',
  b'{\\rtf': 'an RTF document',
  b'\x89PNG': 'an image',
  b'\xff\xd8\xff': 'an image',
}
# File name extensions that are not supported, and what to do about them
UNPACK = {
  '.zst': 'unpack it (zstd -d)',
  '.bz2': 'unpack it (bunzip2)',
  '.xz': 'unpack it (unxz)',
  '.zip': 'unpack it (unzip)',
  '.xlsx': 'save its table as .csv in UTF-8',
  '.xls': 'save its table as .csv in UTF-8',
  '.ods': 'save its table as .csv in UTF-8',
  '.tar': 'unpack it (tar xf)',
  '.tgz': 'unpack it (tar xf)',
  '.7z': 'unpack it (7z x)',
}
# Responses that servers send in place of a file, as plain text or as a value of a JSON object
_ANSWER = (
  rb'(404: )?(file |page |entry |repository )?not found|(401 )?unauthorized|(403 )?forbidden'
  rb'|access denied|bad credentials|invalid username or password|rate limit exceeded'
)
_REFUSAL = re.compile(rb'(\{.*?: *")?(%b)\.?("[^{}]*\})?' % _ANSWER, re.IGNORECASE | re.DOTALL)


def is_pointer(head: bytes) -> bool:
  """Returns True if a file with this beginning is a Git LFS pointer."""
  return head.lstrip().startswith(b'version https://git-lfs')


def problem(head: bytes, name: str) -> str:
  """Returns why a file with this beginning cannot be rows of text, or ''.

  Args:
    head: the first SIZE bytes, as they are on the disk.
    name: of the file; its endings say what it should be.
  """
  start, name = head.lstrip().lower(), name.lower()
  if is_pointer(head):
    return POINTER
  if re.match(rb'\S*/annex/objects/\S+\s*$', head):
    return _ANNEX
  if start.startswith((b'<!doctype html', b'<html', b'<?xml', b'<error>')):
    return _HTML
  if len(head) < SIZE and (answer := _REFUSAL.fullmatch(head.strip())):
    said = answer[2].decode('ascii')
    return f'is the error response of a server ({said!r}), not the file itself. Download it again'
  return _other_kind(head, name)


def _other_kind(head: bytes, name: str) -> str:
  """Returns which binary format a file is in, if its name says otherwise, or ''."""
  if head.startswith(b'PK\x03\x04'):
    return _ZIP
  for mark, kind in _PACKED.items():
    if head.startswith(mark):
      return f'is packed with {kind}, which is not supported. Unpack it, or compress it with gzip'
  for mark, kind in _BINARY.items():
    if head.startswith(mark):
      return f'is {kind}, not rows of text. Save its rows as .jsonl, .csv or .parquet'
  if head.startswith(b'\x1f\x8b') and not name.endswith('.gz'):
    return _GZIP
  if head[257:262] == b'ustar':
    return _TAR
  if head.startswith(b'PAR1') and not name.endswith('.parquet'):
    return _PARQUET if not name.endswith('.gz') else _NOT_GZIP
  if head and name.endswith('.gz') and not head.startswith(b'\x1f\x8b'):
    return _NOT_GZIP
  if head and name.endswith('.parquet') and not head.startswith(b'PAR') and _is_text(head):
    first_line = head.decode('utf-8', 'replace').strip().partition('\n')[0]
    return _NOT_PARQUET.format(repr(first_line[:SHOWN].strip()))
  return ''


def _is_text(head: bytes) -> bool:
  return not re.search(rb'[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]', head)
