"""What a user waits for: the first step of a run with an empty and with a filled compilation cache; a whole run."""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from side_by_side import inputs
from side_by_side import limits
from side_by_side import ours
from side_by_side import turns

ROOT = pathlib.Path(__file__).parents[2]
POLL = 0.01  # seconds between two looks at the log


def command(workdir: pathlib.Path, *arguments: str) -> list[str]:
  """launch/train.py, as a user would call it."""
  return [sys.executable, str(ROOT / 'launch' / 'train.py'), f'--workdir={workdir}', *arguments]


def environment(cache: pathlib.Path) -> dict[str, str]:
  """This one with the compilation cache elsewhere, given by name: it may already be elsewhere."""
  paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
  return os.environ | {
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'HF_HUB_OFFLINE': '1',
    'PYTHONPATH': paths,
  }


def write_inputs(
  folder: pathlib.Path,
  shape: limits.Shape,
  scorer: limits.Shape,
  texts: int,
  tokens: int,
  models: str,
) -> None:
  """A policy, a classifier and texts."""
  policy = ours.language_model(shape, models)
  ours.pretrained.save(folder / 'policy', policy, 'random weights')
  ours.pretrained.save(folder / 'classifier', ours.classifier(scorer, models), 'random weights')
  rows = [json.dumps({'text': text}) for text in inputs.texts_of(policy.tokenizer, texts, tokens)]
  (folder / 'texts.jsonl').write_text('\n'.join(rows) + '\n', encoding='utf-8')


def arguments_of(folder: pathlib.Path, batch: int, new: int) -> list[str]:
  """PPO of 16 samples an update, on what `write_inputs` wrote."""
  return [
    '--config=configs/70m.py',
    '--stages=data,rlhf',
    f'--config.models.base={folder / "policy"}',
    '--config.models.sft=',
    f'--config.models.classifier={folder / "classifier"}',
    f'--config.data.source={folder / "texts.jsonl"}',
    '--config.data.max_prompt_tokens=32',
    f'--config.ppo.rollouts_per_step={batch}',
    f'--config.ppo.minibatch_size={batch}',
    '--config.ppo.epochs=4',
    '--config.ppo.trained_blocks=-1',
    '--config.ppo.subtract_original=False',
    f'--config.sampling.max_new_tokens={new}',
    f'--config.sampling.min_new_tokens={new}',
  ]


def seconds_to_first_step(arguments: Sequence[str], cache: pathlib.Path) -> float:
  """From the call of the command until the first step of RLHF stands in the log; the run is then ended.

  Raises:
    RuntimeError: it ended by itself before.
  """
  with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
    log, start = pathlib.Path(folder) / 'run' / 'log.jsonl', time.perf_counter()
    process = subprocess.Popen(
      command(log.parent, *arguments),
      env=environment(cache),
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=output,
    )
    try:
      while not (log.is_file() and '"stage": "rlhf"' in log.read_text(encoding='utf-8')):
        if process.poll() is not None:
          output.seek(0)
          raise RuntimeError(output.read().decode().strip().splitlines()[-1])
        time.sleep(POLL)
      return time.perf_counter() - start
    finally:
      process.kill()
      process.wait()


def first_step(
  lap: turns.Lap,
  *,
  warm: bool,
  shape: limits.Shape,
  scorer: limits.Shape,
  batch: int,
  new: int,
  models: str,
) -> None:
  """Starts of one command; cold ones each have an empty cache, warm ones that of the start before."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write_inputs(folder, shape, scorer, 20 * batch, 128, models)
    arguments = arguments_of(folder, batch, new)
    while True:
      with tempfile.TemporaryDirectory() as empty:
        lap(
          seconds=seconds_to_first_step(
            arguments, folder / 'cache' if warm else pathlib.Path(empty)
          )
        )


def whole(lap: turns.Lap, *, config: str) -> None:
  """Runs of a config with a filled cache: the first one fills it."""
  with tempfile.TemporaryDirectory() as cache:
    while True:
      with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
          command(pathlib.Path(folder) / 'run', f'--config={config}'),
          cwd=ROOT,
          check=True,
          env=environment(pathlib.Path(cache)),
          stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL,
        )
      lap()
