"""Text files as strings: their encoding, and how invalid bytes are handled."""

import codecs
import gzip
import io
import re

Binary = io.BufferedReader | gzip.GzipFile | io.BytesIO  # a file that is open for reading

_MARKS = (  # byte order marks; that of UTF-32 begins with that of UTF-16
  (codecs.BOM_UTF8, 'utf-8-sig'),
  (codecs.BOM_UTF32_LE, 'utf-32'),
  (codecs.BOM_UTF32_BE, 'utf-32'),
  (codecs.BOM_UTF16_LE, 'utf-16'),
  (codecs.BOM_UTF16_BE, 'utf-16'),
)
# `surrogateescape` turns bytes that the encoding does not have into these characters.
UNDECODED = re.compile('[\udc80-\udcff]')
# Characters that texts do not contain, but most binary files do
_NO_TEXT = re.compile('[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]')
_WORD = re.compile('[a-zA-Z\udc80-\udcff]+')
# Which of four bytes are 0 in ASCII
_UNMARKED = {
  (False, True, False, True): 'utf-16-le',
  (True, False, True, False): 'utf-16-be',
  (False, True, True, True): 'utf-32-le',
  (True, True, True, False): 'utf-32-be',
}
MANY, FEW = 0.7, 0.3  # shares of 0s; a file that was not written to its end has only 0s there
_AROUND = 12  # characters to show on both sides of a byte
WESTERN = 0.5  # share of letters beyond ASCII that no Western language reaches in a line


class BadFile(ValueError):
  """The reason why a file cannot be read as rows at all."""


def open_text(file: Binary, encoding: str, newline: str, flag: str) -> io.TextIOWrapper:
  """Returns the file as text; bytes that are invalid in the encoding become UNDECODED characters.

  Args:
    file: at its beginning.
    encoding: a codec of Python; '': that of the byte order mark, or UTF-8.
    newline: as in `open`.
    flag: the flag that names the encoding, for messages.

  Raises:
    BadFile: the file looks like UTF-16 without saying so, or contradicts the given encoding.
  """
  name = _named(file, encoding, flag) if encoding else encoding_of(file, flag)
  escaped = not name.startswith(('utf-16', 'utf-32'))  # those have bytes that cannot be escaped
  return io.TextIOWrapper(
    file, name, errors='surrogateescape' if escaped else 'strict', newline=newline
  )


def encoding_of(file: Binary, flag: str) -> str:
  """Returns the encoding that the byte order mark names, or UTF-8.

  Args:
    file: at its beginning.
    flag: the flag that names the encoding, for messages.

  Raises:
    BadFile: 0s alternate with other bytes, as in UTF-16, or are three of four, as in UTF-32.
  """
  head = _head(file)
  if marked := _marked(head):
    return marked
  # The share of 0s among the bytes at each place of four
  zeros = [head[place::4].count(0) / max(len(head[place::4]), 1) for place in range(4)]
  shape = tuple(share > MANY for share in zeros) if len(head) >= 4 and min(zeros) < FEW else ()
  if shape in _UNMARKED:
    name = _UNMARKED[shape]
    raise BadFile(
      f'looks like {name[:6].upper()} without a byte order mark. Convert it (iconv -f {name} -t '
      f'utf-8), or set {flag}={name}'
    )
  return 'utf-8-sig'


def _head(file: Binary) -> bytes:
  head = file.read(4096)
  file.seek(0)
  return head


def _marked(head: bytes) -> str:
  return next((name for mark, name in _MARKS if head.startswith(mark)), '')


def _named(file: Binary, encoding: str, flag: str) -> str:
  """Returns a codec that also reads past a byte order mark of its own kind.

  Raises:
    BadFile: the byte order mark is of another kind.
  """
  name, marked = codecs.lookup(encoding).name, _marked(_head(file))
  if marked and not marked.startswith(name[:6]):
    raise BadFile(f'begins with the byte order mark of {marked[:6]}; leave out {flag}={encoding}')
  return marked or name


def misread(text: str) -> str:
  """Describes how a text with UNDECODED characters reads in Windows-1252.

  Returns '' if Windows-1252 is unlikely: if the text has control characters, other UTF-8
  characters, or more non-ASCII characters than Western languages have, as other alphabets would.
  """
  found = UNDECODED.search(text)
  if not found or _NO_TEXT.search(text) or not UNDECODED.sub('', text).isascii():
    return ''
  words = _WORD.findall(text)
  if sum(map(len, UNDECODED.findall(text))) > WESTERN * sum(map(len, words)):
    return ''
  part = text[max(found.start() - _AROUND, 0) : found.end() + _AROUND]
  try:
    shown = UNDECODED.sub(lambda one: bytes([ord(one[0]) - 0xDC00]).decode('cp1252'), part)
  except UnicodeDecodeError:
    return ''
  return f' ({shown!r} in Windows-1252)'


def utf8(text: str, encoding: str) -> str:
  """Decodes a text as UTF-8 that was read in another encoding; '' if it is not valid UTF-8.

  Text in another encoding is almost never valid UTF-8, unless it is pure ASCII.
  """
  if not encoding or text.isascii() or codecs.lookup(encoding).name.startswith('utf'):
    return ''
  try:
    return text.encode(encoding).decode()
  except UnicodeError:
    return ''
