"""Host memory: huge pages for large arrays, freed memory kept for reuse, and garbage collection.

The kernel zeroes every new page. XLA allocates its buffers again at each step, so this costs 1/8 of
a CPU training step with 4 KiB pages and 1/10 with huge pages.

Source: mallopt(3), and
https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
"""

from collections.abc import Iterator
import contextlib
import ctypes
import gc
import os
import pathlib
import sys

TUNABLES = 'GLIBC_TUNABLES'
HUGE_PAGES = 'glibc.malloc.hugetlb=1'
KEEPING = f'{HUGE_PAGES}:glibc.malloc.arena_max=1'  # one heap for all threads
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # parameters of mallopt, from malloc.h
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65536  # their defaults
# Models larger than 1/8 of memory do not keep freed memory: keeping it took 7 times the size of the
# training state.
SHARE = 8
CGROUP_LIMIT = pathlib.Path('/sys/fs/cgroup/memory.max')

_largest = 0  # bytes: the largest size passed to `keep_freed`; glibc has one setting per process
_one_heap = False  # set by `use_one_heap`


def restart_with_huge_pages() -> None:
  """Restarts the program with huge pages, which glibc only reads when a process starts.

  Call it before anything else. An environment that already sets glibc's tunables is left as it is;
  other C libraries ignore them.
  """
  if sys.platform == 'linux' and TUNABLES not in os.environ:
    sys.stdout.flush()
    os.execve(
      sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {TUNABLES: HUGE_PAGES}
    )


def use_one_heap() -> None:
  """Makes all threads share one heap, which `keep_freed` needs; compilation takes a quarter longer.

  Call it before the first thread starts. It changes only what `restart_with_huge_pages` has set.
  """
  global _one_heap
  if os.environ.get(TUNABLES) == HUGE_PAGES:
    _one_heap = bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))


def keep_freed(size: int) -> bool:
  """Keeps freed memory in the process so that the next step can reuse it, if the models are small.

  Args:
    size: the bytes of the parameters or the training state on a CPU. The largest value so far
      counts. It must be small compared with the machine's memory, because fragmented memory is kept
      too.

  Returns:
    True if freed memory is kept: there is one heap (`use_one_heap`, or the environment sets
    KEEPING), and the largest size is small.
  """
  global _largest
  if not (_one_heap or os.environ.get(TUNABLES) == KEEPING):
    return False
  _largest = max(_largest, size)
  small = SHARE * _largest <= available()
  mallopt = ctypes.CDLL(None).mallopt
  mallopt(M_MMAP_MAX, 0 if small else MMAP_MAX)
  mallopt(M_TRIM_THRESHOLD, -1 if small else TRIM_THRESHOLD)
  return small


def available() -> int:
  """Returns the bytes of memory of this machine, or of the container that this process runs in."""
  of_machine = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  limit = CGROUP_LIMIT.read_text(encoding='ascii').strip() if CGROUP_LIMIT.is_file() else 'max'
  return of_machine if limit == 'max' else min(of_machine, int(limit))


@contextlib.contextmanager
def importing(name: str) -> Iterator[None]:
  """Keeps the garbage collector away from what the block imports, then and later.

  Modules stay for as long as the process. The collector would look through all of their objects
  again and again while JAX traces.

  Args:
    name: a module that the block imports; if it is there already, nothing is done.
  """
  if name in sys.modules:
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    gc.enable()
