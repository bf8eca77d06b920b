"""How glibc hands out memory: large arrays in huge pages, and those of a small model kept by the process.

Memory that is new to a process is zeroed by the kernel when it is first touched, and by a virtual machine's host before
that: 4 KiB at a time an eighth of a training step on CPU, in huge pages a tenth still, for XLA asks for the memory of
all intermediate results anew at every step.

https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html and mallopt(3).
"""

import ctypes
import os
import pathlib
import sys

TUNABLES = 'GLIBC_TUNABLES'
HUGE_PAGES = 'glibc.malloc.hugetlb=1'
KEEPING = f'{HUGE_PAGES}:glibc.malloc.arena_max=1'  # one heap, whichever thread asks: a quarter more time to compile
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = (
  -1,
  -4,
  -8,
)  # of malloc.h, with what glibc has by itself:
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65536
SHARE = 8  # a training that keeps what it frees was seen to take seven times its state
CGROUP_LIMIT = pathlib.Path('/sys/fs/cgroup/memory.max')

_largest = 0  # bytes of what one call of `keep_freed` was about
_one_heap = False  # set by `use_one_heap`


def restart_with_huge_pages() -> None:
  """Starts the program again with huge pages, which glibc reads at a process's start only.

  Call it before anything else is done. An environment that already sets glibc's tunables is left as it is; other C
  libraries ignore them.
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
  """Has what is freed stay with the process, for the next step to use, as long as the models are small.

  Args:
    size: bytes of parameters, or of a state that is trained, that a CPU is given. The largest so far decides: it must
      be small beside the memory, for holes between what is in use are kept too.

  Returns:
    Whether it is so: there is one heap (`use_one_heap`, or the environment's KEEPING), and the largest is small.
  """
  global _largest
  if not (_one_heap or os.environ.get(TUNABLES) == KEEPING):
    return False
  _largest = max(_largest, size)
  kept = SHARE * _largest <= available()
  mallopt = ctypes.CDLL(None).mallopt
  mallopt(M_MMAP_MAX, 0 if kept else MMAP_MAX)
  mallopt(M_TRIM_THRESHOLD, -1 if kept else TRIM_THRESHOLD)
  return kept


def available() -> int:
  """Returns the bytes of memory of this machine, or of the container that this process runs in."""
  of_machine = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  limit = CGROUP_LIMIT.read_text(encoding='ascii').strip() if CGROUP_LIMIT.is_file() else 'max'
  return of_machine if limit == 'max' else min(of_machine, int(limit))
