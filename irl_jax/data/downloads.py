"""Detection of files whose first bytes contradict their name, such as an LFS pointer."""

SIZE = 512  # bytes to look at

POINTER = 'is a Git LFS pointer, not the file itself. Run `git lfs pull` in its repository'
_HTML = 'is an HTML page, not the file itself: a failed download. Download it again'
_ZIP = 'is a zip archive, such as an Excel workbook. Unpack it, or save its table as .csv in UTF-8'
_GZIP = 'is gzipped, although its name does not end in .gz. Add .gz to its name'
_PARQUET = 'is a parquet file. Give it a name that ends in .parquet'


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
  if start.startswith((b'<!doctype html', b'<html', b'<?xml')):
    return _HTML
  if head.startswith(b'PK\x03\x04'):
    return _ZIP
  if head.startswith(b'\x1f\x8b') and not name.endswith('.gz'):
    return _GZIP
  if head.startswith(b'PAR1') and not name.endswith(('.parquet', '.gz')):
    return _PARQUET
  return ''
