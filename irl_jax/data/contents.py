"""Detection of JSON in files that are named as tables or as plain text.

Every file is readable as plain text, and most are as a table of one column. A file of JSON with
such a name would be read without an error, but each of its texts would be wrong.
"""

import gzip
import io
import itertools

from irl_jax.data.encodings import BadFile
from irl_jax.data.encodings import Binary
from irl_jax.data.json_rows import Values

SAMPLED = 20  # lines or values to look at


def refuse_json(text: io.TextIOWrapper, file: Binary) -> None:
  """Refuses a file whose first lines are JSON objects, or which is a list of them.

  Texts and cells may begin with a brace, and some may be JSON. So each of the first lines must be a
  whole object; an object over several lines counts if the file has nothing but such objects.

  Args:
    text: the file as text, at its beginning; it is left there.
    file: the file itself.

  Raises:
    BadFile: says what the file holds, and how to name it.
  """
  packed = '.gz' if isinstance(file, gzip.GzipFile) else ''
  count = _objects_by_line(text)
  if count:
    lines = 'its only line is a JSON object'
    if count > 1:
      lines = f'its lines are JSON objects (the first {count} are)'
    raise BadFile(f'{lines}; rename it to end in .jsonl{packed}')
  text.seek(0)
  if _is_list(text):
    raise BadFile(f'it is a JSON list of objects; rename it to end in .json{packed}')
  text.seek(0)
  if _is_objects(text):
    raise BadFile(
      'it has JSON objects that span several lines; write one object per line (jq -c .), and name '
      f'it to end in .jsonl{packed}'
    )
  text.seek(0)


def _objects_by_line(text: io.TextIOWrapper) -> int:
  """Returns the number of lines looked at if each is a JSON object, not all of them empty."""
  lines = (line for line in iter(text.readline, '') if line.strip('\ufeff \t\r\n'))
  count = fields = 0
  for line in itertools.islice(lines, SAMPLED):
    values = Values(io.StringIO(line))
    found = _next_object(values)
    if found is None or values.peek():
      return 0
    count += 1
    fields += len(found)
  return count if fields else 0


def _is_list(text: io.TextIOWrapper) -> bool:
  values = Values(text)
  return values.take() == '[' and bool(_next_object(values)) and values.peek() in (',', ']')


def _is_objects(text: io.TextIOWrapper) -> bool:
  """Returns True if all values of the file, of at most SAMPLED, are objects with fields."""
  values = Values(text)
  for _ in range(SAMPLED):
    if not _next_object(values):
      return False
    if not values.peek():
      return True
  return False


def _next_object(values: Values) -> dict | None:
  """Returns the object that comes next; None if something else does."""
  if values.peek() != '{':
    return None
  try:
    value, _ = values.take_value()
  except (ValueError, RecursionError):
    return None
  return value if isinstance(value, dict) else None
