"""A run from its texts to its results: the stages in order.

A finished stage is skipped, and an unfinished one resumes. A model named in config.models replaces
the one that a stage would write.

stage       needs                                         writes
data        config.data.source                            data/{train,validation,heldout}.jsonl
sft         data                                          sft/policy
classifier  data with labels                              classifier/classifier
rlhf        data, sft/policy, classifier                  rlhf/policy, rlhf/figures.json
demos       data, sft/policy, rlhf/policy, classifier     demos/{train,validation,heldout}.jsonl
irl         data, demos, sft/policy                       irl/seed_<k>/reward, irl/config.json
evaluate    data, demos, irl, the models of demos         evaluation/, irl/figures.json
rerlhf      data, sft/policy, classifier, irl             rerlhf/policy, rerlhf/figures.json
report      figures.json of the stages that have run      summary.json, report.html, figures/

demos and evaluate need a classifier only if there is a true reward.
"""

from collections.abc import Sequence
import contextlib
import pathlib
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp

from irl_jax import config as config_lib
from irl_jax import settings
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import distributed
from irl_jax.runtime import exhaustion
from irl_jax.runtime import interruption
from irl_jax.runtime import metrics_log
from irl_jax.runtime import processes
from irl_jax.runtime import sharding
from irl_jax.runtime import workdir as workdir_lib
from irl_jax.stages import classifier
from irl_jax.stages import data
from irl_jax.stages import demos
from irl_jax.stages import evaluate
from irl_jax.stages import irl
from irl_jax.stages import own_files
from irl_jax.stages import preflight
from irl_jax.stages import read_files
from irl_jax.stages import report
from irl_jax.stages import rerlhf
from irl_jax.stages import rlhf
from irl_jax.stages import sft
from irl_jax.stages.run import Run

STAGES = {
  'data': data.data,
  'sft': sft.sft,
  'classifier': classifier.classifier,
  'rlhf': rlhf.rlhf,
  'demos': demos.demos,
  'irl': irl.irl,
  'evaluate': evaluate.evaluate,
  'rerlhf': rerlhf.rerlhf,
  'report': report.report,
}
# The file or folder that each stage writes last: it exists if and only if the stage has finished.
# figures.json has metrics; the folder figures/ has the report's drawings.
FINISHED = {
  'data': 'data/counts.json',
  'sft': 'sft/policy',
  'classifier': 'classifier/classifier',
  'rlhf': 'rlhf/policy',
  'demos': 'demos/heldout.jsonl',
  'irl': 'irl/config.json',
  'evaluate': 'irl/figures.json',
  'rerlhf': 'rerlhf/policy',
  'report': 'summary.json',
}


def run(
  config: config_lib.Config, workdir: str | pathlib.Path, stages: Sequence[str] | None = None
) -> dict[str, Any]:
  """Runs the stages that are not finished, in order.

  Args:
    config: the settings of the run.
    workdir: the folder of the run.
    stages: the stages of config.stages to run; None: all.

  Returns:
    The results so far, in the form of summary.json.

  Raises:
    ConfigError: another run is using the folder, or the folder belongs to another config; a stage's
      input is missing, or has changed since it was read; `preflight.check` refuses the settings; or
      the processes have different settings.
    InputError: bad rows or weights, or a hub that does not answer.
    DivergedError: training diverged.
    CheckpointError: a checkpoint is damaged or cannot be written, or the disk is full.
    OutOfMemoryError: a stage needs more memory than there is.
    Interrupted: SIGTERM or SIGINT arrived; progress is saved.
  """
  folder, stages = (
    settings.folder(workdir, '--workdir'),
    config.stages if stages is None else stages,
  )
  compilation_cache.use()  # before the first compilation, when JAX reads the setting
  distributed.agree({'config': workdir_lib.plain(config), 'stages': list(stages)})
  # Checked before the folder is touched: a refused run leaves nothing behind.
  processes.on_all(preflight.check)(config, folder, unfinished(folder, stages))
  with (
    contextlib.ExitStack() as holding,
    interruption.handled(),
    exhaustion.disk_explained(folder),
    sharding.using(config.runtime.sharding),
  ):
    # The first process locks the folder for all of them, and writes all files.
    processes.on_first(holding.enter_context)(workdir_lib.held(folder))
    processes.on_first(workdir_lib.prepare)(folder, config)
    distributed.check_shared(folder / 'config.json')
    with log_of(folder, config) as log:
      current = Run(config, folder, log, compute_dtype(config.runtime.dtype))
      processes.on_first(read_files.update)(
        current, unfinished(folder, stages), bound(folder, config_lib.STAGES)
      )
      processes.on_first(own_files.check)(current, bound(folder, config_lib.STAGES))
      run_stages(current, stages)
      return report.summarise(current)


def run_stages(current: Run, stages: Sequence[str]) -> None:
  """Runs the stages that are not finished, in order; the report is always rewritten."""
  for stage in config_lib.STAGES:
    if stage not in stages:
      continue
    # Again, because an earlier stage may have written its files again.
    processes.on_first(own_files.check)(current, bound(current.folder, [stage]))
    if processes.broadcast((current.folder / FINISHED[stage]).exists()) and stage != 'report':
      logging.info('%s: already finished', stage)
      continue
    logging.info('%s: starts', stage)
    processes.on_first(own_files.record_read)(current, stage)
    timed = (
      workdir_lib.timed(current.folder, stage) if processes.is_first() else contextlib.nullcontext()
    )
    with exhaustion.memory_explained(stage, current.config, current.folder), timed:
      STAGES[stage](current)
    processes.on_first(read_files.record)(current, stage)
    processes.on_first(own_files.record_written)(current, stage)
    if interruption.requested(wait=True):
      interruption.stop()


@processes.on_first
def unfinished(folder: pathlib.Path, stages: Sequence[str]) -> list[str]:
  """Returns the stages that have not finished."""
  return [stage for stage in stages if not (folder / FINISHED[stage]).exists()]


def bound(folder: pathlib.Path, stages: Sequence[str]) -> list[str]:
  """Returns the stages that have finished or started to write.

  `data` does not count until it has finished, because it always starts over.
  """
  return [
    stage
    for stage in stages
    if (folder / FINISHED[stage]).exists()
    or (stage != 'data' and (folder / stage).is_dir() and any((folder / stage).iterdir()))
  ]


def log_of(folder: pathlib.Path, config: config_lib.Config) -> metrics_log.Log:
  """Returns the log of metrics; only that of the first process writes."""
  if not processes.is_first():
    return metrics_log.Log()
  return metrics_log.MetricsLog(folder, config.runtime.wandb_project)


def compute_dtype(name: str) -> jnp.dtype:
  """Returns the compute type; auto is float32 on CPU, where bfloat16 is far slower."""
  if name == 'auto':
    name = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  return jnp.dtype(name)
