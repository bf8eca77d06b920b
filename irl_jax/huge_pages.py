"""Large arrays in huge pages: else an eighth of a step on CPU is the kernel handing out memory by 4 KiB.

https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html, glibc.malloc.hugetlb.
"""

import os
import sys

TUNABLES = 'GLIBC_TUNABLES'


def use() -> None:
  """Starts the program again with glibc told so, for it listens at a process's start only. What the environment says
  of glibc already is left as it is; other C libraries take no notice.
  """
  if sys.platform == 'linux' and TUNABLES not in os.environ:
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]],
              os.environ | {TUNABLES: 'glibc.malloc.hugetlb=1'})
