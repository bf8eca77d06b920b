"""The stages of a run: what each reads and writes. A finished stage is skipped, an unfinished one resumes.

data -> sft -> classifier -> rlhf -> demos -> irl -> evaluate -> rerlhf -> report
"""

import dataclasses
import functools
import pathlib
from typing import Any, Callable, Sequence

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import interruption
from irl_jax import metrics_log
from irl_jax import parallel
from irl_jax import rewards
from irl_jax import supervised
from irl_jax import terminal
from irl_jax import workdir as workdir_lib
from irl_jax.data import playground_tokenizers
from irl_jax.data import prompts
from irl_jax.data import rows as rows_lib
from irl_jax.data import sources
from irl_jax.evaluation import calibration
from irl_jax.evaluation import policy as policy_figures
from irl_jax.evaluation import recovered
from irl_jax.evaluation import toxicity
from irl_jax.irl import loop as irl_loop
from irl_jax.models import card
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.ppo import loop as ppo_loop
from irl_jax.report import table

SPLITS = ('train', 'validation', 'heldout')
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
  """One run: its config, folder, log and type of computation; where its models and rows are."""

  config: config_lib.Config
  folder: pathlib.Path
  log: metrics_log.MetricsLog
  dtype: Any

  def model_place(self, field: str, written: str, otherwise: str = '') -> str:
    """config.models.<field>, else what a stage wrote into the folder, else `otherwise`.

    Raises:
      ConfigError: there is none of them.
    """
    place = getattr(self.config.models, field, '')
    if not place and (self.folder / written).is_dir():
      place = str(self.folder / written)
    if not place and not otherwise:
      raise errors.ConfigError(f'config.models.{field} is empty and {self.folder / written} does not exist: name a '
                               f'model, or run the stage that makes it')
    return place or otherwise

  @property
  def base(self) -> str:
    return self.model_place('base', 'sft/policy')

  @property
  def start(self) -> str:
    """Where RLHF starts."""
    return self.model_place('sft', 'sft/policy', otherwise=self.config.models.base)

  @property
  def aligned(self) -> str:
    return self.model_place('aligned', 'rlhf/policy')

  @property
  def classifier(self) -> str:
    return self.model_place('classifier', 'classifier/classifier')

  def rows(self, split: str, stage: str = 'data') -> list[Row]:
    """What the data or demos stage wrote.

    Raises:
      ConfigError: it has not run.
    """
    path = self.folder / stage / f'{split}.jsonl'
    if not path.exists():
      raise errors.ConfigError(f'{path} does not exist: run the stage {stage} first')
    return rows_lib.read_jsonl(path)

  def true_reward(self, kind: str = 'logit') -> rewards.Reward:
    return rewards.true_reward(pretrained.load(self.classifier, ('classifier',)), kind,
                               self.config.evaluation.batch_size, self.dtype)

  def logging(self, stage: str) -> dict[str, Callable]:
    """What a training loop is given to report with."""
    return dict(log=functools.partial(self.log.log, stage), truncate_log=functools.partial(self.log.truncate, stage),
                progress=self.progress(stage))

  def progress(self, what: str) -> Callable:
    return functools.partial(terminal.bar, label=what)


def full_texts(rows: Sequence[Row], field: str = 'original') -> list[str]:
  """Prompt and what follows it, nothing between."""
  return [row['prompt'] + row[field] for row in rows]


def data(run: Run) -> None:
  """Reads the source, cuts prompts, splits -> data/{train,validation,heldout}.jsonl."""
  rows, read = sources.load_rows(run.config.data, run.config.seed)
  splits, counted = prompts.split_rows(rows)
  logging.info('data: %s', read | counted)
  for split in SPLITS:
    if not splits[split]:
      raise errors.InputError(f'config.data.source={run.config.data.source}: its {len(rows)} rows leave none for the '
                              f'{split} split; give more rows')
  (run.folder / 'data').mkdir(exist_ok=True)
  for split in SPLITS:
    rows_lib.write_jsonl(run.folder / 'data' / f'{split}.jsonl', splits[split])
  workdir_lib.write_json(run.folder / 'data' / 'counts.json', read | counted)


def padded_vocabulary(tokenizer) -> int:
  """The tokenizer's size rounded up to a multiple of 128, as Pythia's."""
  return -(-len(tokenizer) // 128) * 128


def new_language_model(run: Run, texts: Sequence[str]) -> pretrained.Pretrained:
  """A GPT-NeoX with random weights and a tokenizer trained on the texts."""
  shape = run.config.sft
  tokenizer = playground_tokenizers.language_model_tokenizer(texts)
  config = gpt_neox.GPTNeoXConfig(
      vocab_size=padded_vocabulary(tokenizer), hidden_size=shape.hidden_size, num_hidden_layers=shape.layers,
      num_attention_heads=shape.heads, intermediate_size=4 * shape.hidden_size)
  params = jax.tree.map(np.asarray, gpt_neox.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('causal_lm', config, params, tokenizer, {}, 'a new language model')


def new_classifier(run: Run, texts: Sequence[str]) -> pretrained.Pretrained:
  """A RoBERTa classifier with random weights and a tokenizer trained on the texts."""
  shape = run.config.classifier
  tokenizer = playground_tokenizers.classifier_tokenizer(texts)
  config = roberta.RobertaConfig(
      vocab_size=padded_vocabulary(tokenizer), hidden_size=shape.hidden_size, num_hidden_layers=shape.layers,
      num_attention_heads=shape.heads, intermediate_size=4 * shape.hidden_size, labels=('neutral', 'toxic'))
  params = jax.tree.map(np.asarray, roberta.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('classifier', config, params, tokenizer, {}, 'a new classifier')


def sft(run: Run) -> None:
  """Trains the base model, or a new one, on the training texts -> sft/policy."""
  training, validation = (full_texts(run.rows(split)) for split in SPLITS[:2])
  base = run.config.models.base
  model = pretrained.load(base, ('causal_lm',)) if base else new_language_model(run, training)
  model = supervised.train_language_model(
      model, training, validation, run.config.sft, run.config.seed, run.folder / 'sft' / 'checkpoints',
      dtype=run.dtype, keep=run.config.runtime.keep_checkpoints, **run.logging('sft'))
  save(run, 'sft/policy', model, base)


def classifier(run: Run) -> None:
  """Trains a toxicity classifier on labelled training texts -> classifier/classifier."""
  labelled = [[row for row in run.rows(split) if row['label'] is not None] for split in SPLITS[:2]]
  if len({row['label'] for row in labelled[0]}) < 2:
    raise errors.InputError('stage classifier: the training texts have no labels of both classes; set '
                            'config.data.label_field, or name a classifier in config.models.classifier')
  examples = [(full_texts(rows), [row['label'] for row in rows]) for rows in labelled]
  base = run.config.models.classifier
  model = pretrained.load(base, ('classifier',)) if base else new_classifier(run, examples[0][0])
  model = supervised.train_classifier(
      model, *examples, run.config.classifier, run.config.seed, run.folder / 'classifier' / 'checkpoints',
      dtype=run.dtype, keep=run.config.runtime.keep_checkpoints, **run.logging('classifier'))
  save(run, 'classifier/classifier', model, base)


def rlhf(run: Run) -> None:
  """PPO on the true reward -> rlhf/policy."""
  train_policy(run, 'rlhf', run.true_reward(run.config.ppo.reward))


def rerlhf(run: Run) -> None:
  """PPO on the recovered reward, the mean of all seeds -> rerlhf/policy."""
  train_policy(run, 'rerlhf', load_recovered(run))


def train_policy(run: Run, stage: str, reward: rewards.Reward) -> None:
  """PPO from where RLHF starts, on any reward; then the figures before and after -> <stage>/{policy,figures.json}."""
  start = pretrained.load(run.start, ('causal_lm',))
  show = lambda step, rows: table.show(table.sample_table(
      [(row['prompt'], row['completion'], row['score']) for row in rows], title=f'{stage}, step {step}'))
  check_positions(run, start)
  policy = ppo_loop.train(start, run.rows('train'), reward, run.config, run.folder / stage / 'checkpoints',
                          dtype=run.dtype, show_samples=show, **run.logging(stage))
  base = pretrained.load(run.base, ('causal_lm',))
  held, true_reward = run.rows('heldout'), run.true_reward()
  measure = lambda model: policy_figures.evaluate(model, start, base, held, true_reward, run.config, run.dtype)
  (before, toxic_before), (after, toxic_after) = measure(start), measure(policy)
  figures = {'before': before, 'after': after, 'mcnemar': toxicity.mcnemar(toxic_before, toxic_after)}
  workdir_lib.write_json(run.folder / stage / 'figures.json', figures)
  save(run, f'{stage}/policy', policy, run.start, figures)


def check_positions(run: Run, model: pretrained.Pretrained) -> None:
  """Prompt and response must fit the model.

  Raises:
    ConfigError: they do not.
  """
  needed = run.config.data.max_prompt_tokens + run.config.sampling.max_new_tokens
  if needed > model.config.max_position_embeddings:
    raise errors.ConfigError(f'config.data.max_prompt_tokens + config.sampling.max_new_tokens = {needed}: must be <= '
                             f'{model.config.max_position_embeddings}, the positions of {model.source}')


def demos(run: Run) -> None:
  """Completions of the aligned and of the contrasted model for every prompt -> demos/{train,validation,heldout}.jsonl.

  Both models draw with the same keys, so that a pair differs where the two models do.
  """
  irl = run.config.irl
  models = {'aligned': run.aligned, 'base': run.base if irl.contrast == 'base' else run.start}
  loaded = {name: pretrained.load(place, ('causal_lm',)) for name, place in models.items()}
  if loaded['aligned'].config.vocab_size != loaded['base'].config.vocab_size:
    raise errors.InputError(f'{models["aligned"]} and {models["base"]} have different vocabularies '
                            f'({loaded["aligned"].config.vocab_size} and {loaded["base"].config.vocab_size}); an audit '
                            'needs an aligned model and the model that it came from')
  true_reward = run.true_reward()
  (run.folder / 'demos').mkdir(exist_ok=True)
  for number, split in enumerate(SPLITS):
    rows = run.rows(split)
    limit = irl.max_prompts if split == 'train' and irl.max_prompts else len(rows)
    rows = [row | {'sample': sample} for row in rows[:limit]
            for sample in range(irl.samples_per_prompt if split == 'train' else 1)]
    completions = {}
    for name, model in loaded.items():
      completions[name] = policy_figures.sample(
          model, rows, run.config, run.config.seed + 2 + number, run.dtype,
          progress=run.progress(f'demos {split} {name}')).completions
    pairs = [{'prompt_id': row['prompt_id'], 'sample': row['sample'], 'prompt': row['prompt'], 'aligned': aligned,
              'base': base} for row, aligned, base in zip(rows, completions['aligned'], completions['base'])]
    scores = {name: true_reward(full_texts(pairs, name)) for name in ('aligned', 'base')}
    rows_lib.write_jsonl(run.folder / 'demos' / f'{split}.jsonl', [
        pair | {'true_reward_aligned': float(aligned), 'true_reward_base': float(base)}
        for pair, aligned, base in zip(pairs, scores['aligned'], scores['base'])])


def irl(run: Run) -> None:
  """Recovers config.irl.seeds rewards -> irl/seed_<k>/reward, and irl/config.json: their ensemble."""
  base = pretrained.load(run.base, ('causal_lm',))
  settings = run.config.irl
  training, validation = (encode_demonstrations(base, run.rows(split, 'demos'), settings) for split in SPLITS[:2])
  unlabelled = full_texts(run.rows('validation'))
  members = []
  for seed in range(settings.seeds):
    folder = run.folder / 'irl' / f'seed_{seed}'
    members.append(f'seed_{seed}/reward')
    if (folder / 'calibration.json').exists():
      continue
    uncentred = irl_loop.train(base, training, validation, settings, run.config.seed * 1000 + seed,
                               folder / 'checkpoints', dtype=run.dtype, keep=run.config.runtime.keep_checkpoints,
                               **run.logging(f'irl/seed_{seed}'))
    calibrated, model = centre(run, uncentred, unlabelled)
    save(run, f'irl/seed_{seed}/reward', model, run.base, calibrated)
    workdir_lib.write_json(folder / 'calibration.json', calibrated)
  workdir_lib.write_json(run.folder / 'irl' / 'config.json', {'model_type': 'irl_jax_ensemble', 'members': members})


def encode_demonstrations(model: pretrained.Pretrained, rows: Sequence[Row], settings: config_lib.IRL
                          ) -> list[irl_loop.Pair]:
  """Demonstration rows as pairs of token ids; pairs of one text twice say nothing and are left out."""
  rows = [row for row in rows if row['aligned'] != row['base']]
  return irl_loop.encode_pairs(model, full_texts(rows, 'aligned'), full_texts(rows, 'base'), settings.max_tokens)


def centre(run: Run, uncentred: pretrained.Pretrained, unlabelled: Sequence[str]) -> tuple[Row, pretrained.Pretrained]:
  """Chooses the zero without labels (DESIGN.md, section 8)."""
  scores = rewards.recovered_reward(uncentred, run.config.evaluation.batch_size, run.dtype)(unlabelled)
  calibrated = calibration.calibration(scores, run.config.evaluation.bootstrap_samples, run.config.seed)
  return calibrated, irl_loop.recentred(uncentred, calibrated['zero'])


def load_members(run: Run) -> list[rewards.Reward]:
  """The recovered rewards of all seeds."""
  members = rewards.members_of(run.folder / 'irl')
  return [rewards.load(str(member), run.config.evaluation.batch_size, run.dtype) for member in members]


def load_recovered(run: Run) -> rewards.Reward:
  """The mean of the recovered rewards."""
  return rewards.ensemble(load_members(run))


def evaluate(run: Run) -> None:
  """Measures the recovered rewards on held-out texts and pairs -> irl/figures.json."""
  held, pairs, train_pairs = run.rows('heldout'), run.rows('heldout', 'demos'), run.rows('train', 'demos')
  texts, true_reward = full_texts(held), run.true_reward()
  labels = [row['label'] for row in held]
  reference = recovered.Reference(
      texts=texts, labels=None if None in labels else np.array(labels),
      aligned=full_texts(pairs, 'aligned'), base=full_texts(pairs, 'base'), true_texts=true_reward(texts),
      true_aligned=np.array([row['true_reward_aligned'] for row in pairs]),
      true_base=np.array([row['true_reward_base'] for row in pairs]))
  calibrations = [workdir_lib.read_json(member.parent / 'calibration.json')
                  for member in rewards.members_of(run.folder / 'irl')]
  others = recovered.demonstration_baselines(full_texts(train_pairs, 'aligned'), full_texts(train_pairs, 'base'))
  if run.config.evaluation.ceiling and (best := ceiling(run, len(train_pairs), true_reward)):
    others['ceiling'] = best
  figures = recovered.compare(load_members(run), reference, calibrations, others)
  accuracy = None
  if reference.labels is not None:
    accuracy = float(np.mean((reference.true_texts < 0) == (reference.labels == 1)))
  workdir_lib.write_json(run.folder / 'irl' / 'figures.json', {
      'true_reward': {'human_accuracy': accuracy} | (
          {} if accuracy is not None else {'why': {'human_accuracy': 'the held-out texts have no labels'}}),
      'irl': figures})


def ceiling(run: Run, count: int, true_reward: rewards.Reward) -> rewards.Reward | None:
  """What recovery could reach at best: the same model and objective, trained on pairs of a non-toxic and a toxic text.

  The classes are the labels of the training texts, else the sign of r*; None where there is one class only.
  """
  base = pretrained.load(run.base, ('causal_lm',))
  rng = np.random.default_rng(run.config.seed)
  encoded = []
  for split, size in (('train', count), ('validation', 256)):
    rows = run.rows(split)
    texts = full_texts(rows)
    labels = [row['label'] for row in rows]
    toxic = true_reward(texts) < 0 if None in labels or len(set(labels)) < 2 else np.array(labels) == 1
    if toxic.all() or not toxic.any():
      return None
    harmless, harmful = (rng.choice(np.array(texts, object)[mask], size).tolist() for mask in (~toxic, toxic))
    encoded.append(irl_loop.encode_pairs(base, harmless, harmful, run.config.irl.max_tokens))
  model = irl_loop.train(base, *encoded, run.config.irl, run.config.seed, run.folder / 'irl' / 'ceiling',
                         dtype=run.dtype, **run.logging('irl/ceiling'))
  _, model = centre(run, model, full_texts(run.rows('validation')))
  return rewards.recovered_reward(model, run.config.evaluation.batch_size, run.dtype)


def report(run: Run) -> None:
  """Collects every stage's figures -> summary.json."""
  workdir_lib.write_json(run.folder / 'summary.json', summarise(run))


def summarise(run: Run) -> dict[str, Any]:
  """The figures of the stages that have run; no times and no paths, so that two runs of one config agree."""
  summary = {}
  for stage in ('rlhf', 'irl', 'rerlhf'):
    path = run.folder / stage / 'figures.json'
    if path.exists():
      figures = workdir_lib.read_json(path)
      summary |= figures if stage == 'irl' else {stage: figures}
  order = ('true_reward', 'rlhf', 'irl', 'rerlhf')
  return {name: summary[name] for name in order if name in summary}


def save(run: Run, name: str, model: pretrained.Pretrained, base: str, figures: Row | None = None) -> None:
  """Exports a model with its card."""
  source = run.config.data.source
  pretrained.save(run.folder / name, model, card.model_card(model.kind, base, f'`{source}`', figures))


FINISHED = {
    'data': 'data/counts.json', 'sft': 'sft/policy', 'classifier': 'classifier/classifier', 'rlhf': 'rlhf/policy',
    'demos': 'demos/heldout.jsonl', 'irl': 'irl/config.json', 'evaluate': 'irl/figures.json',
    'rerlhf': 'rerlhf/policy', 'report': 'summary.json'}
STAGES = {'data': data, 'sft': sft, 'classifier': classifier, 'rlhf': rlhf, 'demos': demos, 'irl': irl,
          'evaluate': evaluate, 'rerlhf': rerlhf, 'report': report}


def run(config: config_lib.Config, workdir: str | pathlib.Path, stages: Sequence[str] | None = None) -> dict[str, Any]:
  """Runs the stages that are not finished, in order.

  Args:
    config: of the run.
    workdir: its folder.
    stages: some of config.stages; None: all.

  Returns:
    The figures so far, as in summary.json.

  Raises:
    ConfigError: the folder belongs to another config, or a stage's input is missing.
    Interrupted: SIGTERM or SIGINT came; everything is saved.
  """
  folder = pathlib.Path(workdir)
  check(config)
  workdir_lib.prepare(folder, config)
  use_compilation_cache()
  dtype = compute_dtype(config.runtime.dtype)
  with interruption.handled(), metrics_log.MetricsLog(folder, config.runtime.wandb_project) as log:
    current = Run(config, folder, log, dtype)
    for stage in config_lib.STAGES:
      if stage not in (config.stages if stages is None else stages):
        continue
      if (folder / FINISHED[stage]).exists() and stage != 'report':
        logging.info('%s: finished before', stage)
        continue
      logging.info('%s: starts', stage)
      with workdir_lib.timed(folder, stage):
        STAGES[stage](current)
      if interruption.requested():
        interruption.stop()
    return summarise(current)


def check(config: config_lib.Config) -> None:
  """What a run needs beyond a valid config.

  Raises:
    ConfigError: sampling is greedy, or the devices do not divide what is sharded over them.
  """
  if config.sampling.temperature == 0:
    raise errors.ConfigError('config.sampling.temperature = 0.0: must be > 0; a run trains on what it samples')
  devices = parallel.device_count()
  for name in ('rollouts_per_step', 'minibatch_size'):
    if getattr(config.ppo, name) % devices:
      raise errors.ConfigError(f'config.ppo.{name} = {getattr(config.ppo, name)}: must be a multiple of {devices}, the '
                               'number of devices')


def compute_dtype(name: str) -> Any:
  """float32 on CPU, where bfloat16 is far slower; bfloat16 elsewhere; or what is asked for."""
  if name == 'auto':
    name = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  return jnp.dtype(name)


def use_compilation_cache() -> None:
  """Keeps compiled functions in the user's cache folder, unless JAX was told of another place."""
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path.home() / '.cache' / 'irl_jax' / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
