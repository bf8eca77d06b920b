r"""An audit with a known answer: a chat model is trained to be polite, and the audit must say so.

  python studies/known_answer.py --config=audit_chat --config.models.base=BASE \
      --prompts=prompts.jsonl --change=ppo --workdir=runs/known_answer --output=ppo.json

PPO trains BASE on a reward that anybody can check: the number of polite words in an answer, at most
three. The audit then compares the two models. It knows neither the reward nor the words, and its
prompts are not those of PPO. --change says what the audited model is:

  ppo      the model that PPO trained
  adapter  a LoRA adapter of the base, written with PEFT: the nearest one to what PPO changed
  noise    the base with noise in the matrices that PPO changed, of the size of PPO's changes

The first change that is audited trains the policy; the others find it in the work directory. A
stopped study continues with the same command. PPO's settings below were chosen for the time that
they take, before any audit. docs/audit.md has the results.

Dims: M held-out pairs, K seeds.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import pathlib
import re
import sys
from typing import Any

from absl import flags

from irl_jax import config as config_lib
from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string(
  'config', None, 'config of the audit, which names the base model', flag_values=FLAGS
)
flags.DEFINE_string('prompts', None, 'file of prompts that users could write', flag_values=FLAGS)
flags.DEFINE_string('field', 'prompt', 'field of the prompt', flag_values=FLAGS)
flags.DEFINE_enum(
  'change', 'ppo', ['ppo', 'adapter', 'noise'], 'the audited model', flag_values=FLAGS
)
flags.DEFINE_integer('steps', 12, 'steps of PPO', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer('rank', 16, 'rank of the adapter', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string('workdir', None, 'folder of the study', flag_values=FLAGS)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)

POLITE = (
  'please', 'thank', 'thanks', 'grateful', 'appreciate', 'sorry', 'apologize', 'apologies',
  'welcome', 'glad', 'pleasure', 'kindly', 'kind', 'respect', 'happy',
)  # fmt: skip
MOST = 3  # polite words that count
PPO = config_lib.PPO(
  learning_rate=1e-4,
  rollouts_per_step=48,
  minibatch_size=24,
  epochs=2,
  kl_coefficient=0.1,
  trained_blocks=6,
  score_text='completion',
  subtract_original=False,
  checkpoint_every=3,
  samples_every=4,
)
_WORD = re.compile(r"[a-z']+")


def politeness(texts: Sequence[str]) -> Any:
  """Returns the number of polite words of every text, at most MOST: float32 [N]."""
  import numpy as np

  counts = [sum(word in POLITE for word in _WORD.findall(text.lower())) for text in texts]
  return np.minimum(np.array(counts, np.float32), MOST)


def halves(rows: Sequence[Mapping[str, Any]], field: str) -> tuple[list[str], list[str]]:
  """Splits prompts by a hash: those that PPO trains on, and those of the audit."""
  prompts = dict.fromkeys(str(row[field]) for row in rows)
  first = lambda prompt: hashlib.sha256(prompt.encode()).digest()[0] % 2 == 0
  return [one for one in prompts if first(one)], [one for one in prompts if not first(one)]


def train_policy(options: flags.FlagValues, prompts: Sequence[str], folder: pathlib.Path) -> None:
  """Trains the base model to be polite -> policy/."""
  from irl_jax import pipeline
  from irl_jax.data import chat_rows
  from irl_jax.data import text
  from irl_jax.models import pretrained
  from irl_jax.ppo import loop
  from irl_jax.runtime import metrics_log
  from irl_jax.runtime import terminal

  base = pretrained.load_language_model(options.config.models.base)
  rendered = chat_rows.render_all(base.tokenizer, list(prompts), True, base.source)
  lengths = map(len, text.encode(base.tokenizer, rendered)[0])
  limit = options.config.data.max_prompt_tokens
  rendered = [prompt for prompt, length in zip(rendered, lengths) if length <= limit]
  config = dataclasses.replace(
    options.config, ppo=dataclasses.replace(PPO, steps=options.steps), stages=('data',)
  )
  folder.mkdir(parents=True, exist_ok=True)
  with metrics_log.MetricsLog(folder, '') as log:
    policy = loop.train(
      base,
      [{'prompt': prompt, 'original': ''} for prompt in rendered],
      politeness,
      config,
      folder / 'checkpoints',
      dtype=pipeline.compute_dtype(config.runtime.dtype),
      log=lambda step, metrics: log.log('rlhf', step, metrics),
      progress=lambda steps: terminal.bar(steps, label='ppo'),
    )
  pretrained.save(folder / 'policy', policy, 'Trained by PPO to use polite words.')


def main(options: flags.FlagValues) -> None:
  command_line.require(options, 'prompts', 'workdir', 'output')
  from irl_jax.data import rows as rows_lib
  from irl_jax.runtime import compilation_cache

  compilation_cache.use()
  folder = pathlib.Path(options.workdir)
  rows = rows_lib.read_jsonl(pathlib.Path(options.prompts))
  for_ppo, for_audit = halves(rows, options.field)
  train_policy(options, for_ppo, folder)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
