"""Functions that run once over the rows of all devices, for parameters split among the devices.

`parallel` uses them if the current way is fsdp (sharding.py). They are called like the functions
that `parallel` maps otherwise: batches and per-example results are [n, N / n, ...].

Dims: n devices, N rows of a batch.
"""

import abc
from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.typing import DTypeLike

from irl_jax.runtime import sharding
from irl_jax.runtime.sharding import REPLICATED
from irl_jax.runtime.sharding import SHARDED


class _Program(abc.ABC):
  """A compiled function that is traced in its own way and mesh, whatever the caller's."""

  def __init__(self, way: sharding.Way) -> None:
    self._way = way

  @abc.abstractmethod
  def _compiled(self, arguments: tuple[Any, ...]) -> Any:
    """Returns the jitted function for these arguments."""

  def __call__(self, *arguments: Any) -> Any:
    """Runs the function."""
    with sharding.entered(self._way), jax.set_mesh(sharding.mesh()):
      return self._compiled(arguments)(*arguments)

  def lower(self, *arguments: Any) -> jax.stages.Lowered:
    """Returns the lowered program for arrays, or for shapes with shardings."""
    with sharding.entered(self._way), jax.set_mesh(sharding.mesh()):
      return self._compiled(arguments).lower(*arguments)


class Update(_Program):
  """(state, frozen, batch) -> (state, metrics); the state is donated and keeps its placement."""

  def __init__(self, way: sharding.Way, update: Callable[..., tuple[Any, Any]]) -> None:
    """Prepares an update (state, frozen, batch [N, ...]) -> (state, metrics)."""
    super().__init__(way)
    self._run = lambda state, frozen, batch: update(state, frozen, sharding.joined(batch))
    self._jitted = functools.lru_cache(maxsize=8)(self._jit)

  def _jit(self, structure: Any, placements: tuple[Any, ...]) -> Any:
    places = jax.tree.unflatten(structure, placements), sharding.named(REPLICATED)
    return jax.jit(self._run, donate_argnums=0, out_shardings=places)

  def _compiled(self, arguments: tuple[Any, ...]) -> Any:
    leaves, structure = jax.tree.flatten(arguments[0])
    return self._jitted(structure, tuple(leaf.sharding for leaf in leaves))


class Forward(_Program):
  """(params, batch) -> per-example results."""

  def __init__(self, way: sharding.Way, forward: Callable[..., Any]) -> None:
    """Prepares a function (params, batch [N, ...]) -> results [N, ...]."""
    super().__init__(way)

    def run(params: Any, batch: Any) -> Any:
      count = jax.device_count()
      of_devices = lambda x: x.reshape(count, -1, *x.shape[1:])
      return jax.tree.map(of_devices, forward(params, sharding.joined(batch)))

    self._jitted = jax.jit(run, out_shardings=sharding.named(SHARDED))

  def _compiled(self, arguments: tuple[Any, ...]) -> Any:
    del arguments
    return self._jitted


class Decode(_Program):
  """As `Forward`, with all parameters gathered once; each device then runs its own rows."""

  def __init__(
    self, way: sharding.Way, forward: Callable[..., Any], *, dtype: DTypeLike, **statics: Any
  ) -> None:
    """Prepares a function (params, batch [N / n, ...], *, dtype, <statics>) -> results."""
    super().__init__(way)

    def of_device(params: Any, batch: Any) -> Any:
      own = jax.tree.map(lambda x: x[0], batch)
      results = forward(params, own, dtype=dtype, **statics)
      return jax.tree.map(lambda x: x[None], results)

    mapped = jax.shard_map(
      of_device,
      mesh=sharding.mesh(),
      in_specs=(REPLICATED, SHARDED),
      out_specs=SHARDED,
      check_vma=False,
    )
    self._jitted = jax.jit(lambda params, batch: mapped(sharding.cast_split(params, dtype), batch))

  def _compiled(self, arguments: tuple[Any, ...]) -> Any:
    del arguments
    return self._jitted
