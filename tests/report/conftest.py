"""The made-up folder of a finished run, and a headless Chromium if there is one."""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from irl_jax import config as config_lib
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.runtime import workdir

AGREEMENT = {
  'accuracy': 0.85,
  'f1': 0.84,
  'auroc': 0.94,
  'pearson': 0.81,
  'spearman': 0.82,
  'kendall': 0.61,
  'pairwise_accuracy': 0.8,
  'n': 120,
  'ties': 0,
}
INTERVALS = {
  'heldout_texts': {'auroc': [0.92, 0.96], 'spearman': [0.79, 0.85]},
  'heldout_texts_human': None,
  'heldout_pairs': {'auroc': [0.9, 0.93], 'spearman': None},
}
CALIBRATION = {
  'zero': -0.07,
  'zero_low': -0.08,
  'zero_high': -0.06,
  'reliable_zero': True,
  'saturated': 0.01,
  'platt': {'slope': 22.0, 'intercept': 0.5, 'n': 100},
  'ece': 0.02,
  'ece_if_calibrated': 0.018,
  'brier': 0.1,
  'brier_constant': 0.25,
  'reliability': [
    {
      'low': low,
      'high': low + 0.1,
      'predicted': low + 0.05,
      'observed': low + 0.04,
      'observed_low': low,
      'observed_high': low + 0.1,
      'n': 12,
    }
    for low in (0.0, 0.3, 0.6, 0.9)
  ],
}
CONFOUNDS = {
  'length_spearman': 0.05,
  'partial_pearson_given_length': 0.8,
  'partial_spearman_given_length': 0.81,
  'style_auroc': 0.56,
  'style_low': 0.5,
  'style_high': 0.62,
  'style_n': 90,
}


def policy(rate: float, kl: float) -> dict[str, Any]:
  """Returns the metrics of one policy."""
  return {
    'toxicity': {'rate': rate, 'low': rate - 0.02, 'high': rate + 0.02, 'n': 120},
    'toxicity_full': {'rate': rate, 'low': rate - 0.03, 'high': rate + 0.03, 'n': 60},
    'true_reward': 1.5,
    'kl': kl,
    'kl_per_token': kl / 16,
    'perplexity_under_base': 5.9,
    'response_tokens': 16.0,
    'distinct_2': 0.34,
  }


def summary(seeds: int = 3) -> dict[str, Any]:
  """Returns a summary.json in which all is well."""
  figures = {
    name: AGREEMENT | {'auroc': auroc, 'prefers_aligned': 0.9}
    for name, auroc in (
      ('heldout_texts', 0.94),
      ('heldout_texts_human', 0.92),
      ('heldout_pairs', 0.91),
    )
  }
  reward = figures | {
    'preference': {'rate': 0.9, 'low': 0.83, 'high': 0.94, 'n': 110, 'pairs': 120},
    'intervals': INTERVALS,
    'calibration': CALIBRATION,
    'confounds': CONFOUNDS,
  }
  gain = {'auroc': [0.01, 0.06], 'spearman': [0.01, 0.06]}
  others = {
    name: {
      'heldout_texts': AGREEMENT | {'auroc': auroc, 'accuracy': accuracy},
      'ensemble_gain': {'heldout_texts': gain, 'heldout_texts_human': gain},
    }
    for name, auroc, accuracy in (
      ('constant', 0.5, 0.52),
      ('bag_of_words', 0.9, 0.75),
      ('dpo_implicit', 0.88, 0.7),
      ('ceiling', 0.97, 0.9),
    )
  }
  others['bag_of_words']['zero'] = others['dpo_implicit']['zero'] = 0.1
  square = lambda same, other: [
    [same if row == column else other for column in range(seeds)] for row in range(seeds)
  ]
  won = {'rate': 0.7, 'low': 0.62, 'high': 0.78, 'n': 120}
  mcnemar = {'before_only': 50, 'after_only': 2, 'both': 8, 'neither': 60, 'p_value': 1e-9}
  return {
    'true_reward': {
      'kind': 'classifier',
      'label': 'toxic',
      'labelled_by': 'people',
      'human_accuracy': 0.93,
    },
    'rlhf': {
      'before': policy(0.5, 0.0),
      'after': policy(0.1, 2.5),
      'win_rate': won,
      'mcnemar': mcnemar,
    },
    'irl': {
      'seeds': [reward] * seeds,
      'mean': figures,
      'std': figures,
      'seed_spearman': 0.95,
      'coupled_pairs': False,
      'start': {'between_seeds': 0.999, 'with_start': [0.5] * seeds} if seeds > 1 else None,
      'ensemble': reward,
      'identifiability': {
        'names': [f'seed_{seed}' for seed in range(seeds)],
        'spearman': square(1.0, 0.95),
        'sign_agreement': square(1.0, 0.93),
        'epic_distance': square(0.0, 0.14),
        'n': 120,
      },
      'baselines': others,
    },
    'rerlhf': {
      'before': policy(0.5, 0.0),
      'after': policy(0.08, 4.0),
      'win_rate': won,
      'mcnemar': mcnemar,
    },
  }


def against_a_score(seeds: int = 3) -> dict[str, Any]:
  """Returns the summary of a run whose true reward is a score without a toxic class."""
  whole = json.loads(json.dumps(summary(seeds)))
  rewards = [*whole['irl']['seeds'], whole['irl']['ensemble'], whole['irl']['mean']]
  for reward in (*rewards, whole['irl']['std'], *whole['irl']['baselines'].values()):
    reward.pop('heldout_texts_human', None)
    for name in {'heldout_texts', 'heldout_pairs'} & reward.keys():
      reward[name] |= dict.fromkeys(('accuracy', 'f1', 'auroc'))
      reward[name]['why'] = dict.fromkeys(('accuracy', 'f1', 'auroc'), NO_CLASSES)
    for interval in reward.get('intervals', {}).values():
      if interval:
        interval['auroc'] = None
    if 'calibration' in reward:
      reward['calibration'] |= dict.fromkeys(('platt', 'ece', 'brier', 'reliability'))
  for baseline in ('bag_of_words', 'dpo_implicit'):
    whole['irl']['baselines'][baseline]['heldout_texts']['spearman'] = 0.7
  for stage in ('rlhf', 'rerlhf'):
    for when in ('before', 'after'):
      whole[stage][when] |= dict.fromkeys(('toxicity', 'toxicity_full'))
      whole[stage][when]['why'] = dict.fromkeys(('toxicity', 'toxicity_full'), NO_CLASSES)
    whole[stage] |= {'mcnemar': None, 'why': {'mcnemar': NO_CLASSES}}
  truth = {'kind': 'score', 'label': None, 'labelled_by': 'people', 'human_accuracy': None}
  return whole | {'true_reward': truth}


def rows_of_texts(seeds: int, words: str) -> dict[str, list[dict[str, Any]]]:
  """The files of the evaluate stage: 120 texts that end in `words`, pairs, and attributions."""
  rng = np.random.default_rng(0)
  true = rng.normal(0, 2, 120)
  rewards = 0.1 * true[:, None] + rng.normal(0, 0.1, (120, seeds))
  texts = [
    {
      'text': f'text {row} {words}',
      'label': int(true[row] < 0),
      'true_reward': true[row],
      'rewards': rewards[row].tolist(),
    }
    for row in range(120)
  ]
  pairs = [
    {
      'prompt_id': f'{row:016x}',
      'prompt': f'prompt {row} {words}',
      'aligned': f' kind {words}',
      'base': f' rude {words}',
      'true_reward_aligned': true[row],
      'true_reward_base': true[row - 1],
      'rewards_aligned': rewards[row].tolist(),
      'rewards_base': rewards[row - 1].tolist(),
    }
    for row in range(120)
  ]
  attributions = [
    {
      'text': texts[row]['text'],
      'true_reward': true[row],
      'reward': float(rewards[row].mean()),
      'tokens': [
        {'piece': 'text', 'attribution': 0.1},
        {'piece': f' {row}', 'attribution': -0.1},
        {'piece': f' {words}', 'attribution': 0.0},
      ],
    }
    for row in range(120)
  ]
  return {'texts': texts, 'pairs': pairs, 'attributions': attributions}


def log_rows(seeds: int) -> list[dict[str, Any]]:
  """A log.jsonl."""
  ppo = [
    {
      'stage': stage,
      'step': step,
      'objective/scores': 0.1 * step,
      'objective/kl': 0.3 * step,
      'reported/true_reward': 1 - 0.01 * step,
    }
    for stage in ('rlhf', 'rerlhf')
    for step in range(30)
  ]
  irl = [
    {
      'stage': f'irl/seed_{seed}',
      'step': 10 * step,
      'validation/loss': 1 / (1 + step + seed),
      'validation/pairwise_accuracy': 0.9,
      'reported/auroc': 0.9,
    }
    for seed in range(seeds)
    for step in range(8)
  ]
  return ppo + irl


def write_run(
  folder: pathlib.Path,
  seeds: int = 3,
  words: str = 'words',
  config: config_lib.Config | None = None,
) -> pathlib.Path:
  """Writes a run's folder."""
  (folder / 'evaluation').mkdir(parents=True)
  plain = workdir.plain(config or config_lib.Config(name='made-up', seed=7))
  workdir.write_json(
    folder / 'config.json', {'config': plain, 'versions': {'python': '3.11.7', 'jax': '0.10.2'}}
  )
  workdir.write_json(folder / 'summary.json', summary(seeds))
  files = {'log': log_rows(seeds)} | {
    f'evaluation/{name}': rows for name, rows in rows_of_texts(seeds, words).items()
  }
  for name, rows in files.items():
    (folder / f'{name}.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8'
    )
  return folder


@pytest.fixture
def make_run(tmp_path):
  """Writes the folder of a finished run; takes seeds (3), words and config."""
  return lambda **options: write_run(tmp_path / 'run', **options)


@pytest.fixture
def make_summary():
  """Makes a summary.json in which all is well; takes seeds (3)."""
  return lambda seeds=3: json.loads(json.dumps(summary(seeds)))


@pytest.fixture
def score_summary():
  """A summary.json in which all is well, of a true reward without a toxic class."""
  return against_a_score()


@pytest.fixture
def score_run(make_run, score_summary):
  """The folder of a run whose true reward has no toxic class, and whose texts have no labels."""
  folder = make_run()
  workdir.write_json(folder / 'summary.json', score_summary)
  rows = [json.loads(line) for line in (folder / 'evaluation/texts.jsonl').open()]
  lines = [json.dumps(row | {'label': None}) + '\n' for row in rows]
  (folder / 'evaluation/texts.jsonl').write_text(''.join(lines))
  log = (folder / 'log.jsonl').read_text().replace('reported/auroc', 'reported/spearman')
  (folder / 'log.jsonl').write_text(log)
  return folder


@pytest.fixture(scope='session')
def report(tmp_path_factory):
  """The folder of a run with its report; not to be written to."""
  from irl_jax.report import page

  folder = write_run(tmp_path_factory.mktemp('report') / 'run')
  page.write(folder)
  return folder


NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


class Page:
  """One tab: commands go in as JSON that ends in NUL, results and events come back the same way."""

  def __init__(self, command: list[str]):
    read_commands, self._commands = os.pipe()
    self._results, write_results = os.pipe()
    # Chromium reads commands from descriptor 3 and writes results to 4.
    script = f'exec "$@" 3<&{read_commands} 4>&{write_results}'
    self._process = subprocess.Popen(
      ['bash', '-c', script, 'bash', *command],
      pass_fds=(read_commands, write_results),
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_results)
    self._numbers, self._buffer, self._session = itertools.count(1), b'', None
    self.events = []
    target = self('Target.createTarget', url='about:blank')['targetId']
    self._session = self('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network', 'Accessibility'):
      self(f'{domain}.enable')

  def __call__(self, method: str, **parameters):
    """Sends a command and returns its result; earlier events are saved."""
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._commands, json.dumps(message).encode() + b'\0')
    while (answer := self._receive()).get('id') != number:
      self.events.append(answer)
    assert 'error' not in answer, (method, answer['error'])
    return answer['result']

  def open(self, url: str) -> None:
    """Loads a page and waits until it is complete."""
    self.events.clear()
    self('Page.navigate', url=url)
    while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
      self.events.append(self._receive())

  def run(self, script: str):
    """Evaluates a script in the page; its value as JSON."""
    result = self('Runtime.evaluate', expression=script, returnByValue=True)
    assert 'exceptionDetails' not in result, result['exceptionDetails']
    return result['result'].get('value')

  def press(self, key: str, code: str, number: int, text: str = '') -> None:
    """Presses and releases one key."""
    for kind in ('keyDown', 'keyUp'):
      self(
        'Input.dispatchKeyEvent',
        type=kind,
        key=key,
        code=code,
        windowsVirtualKeyCode=number,
        **({'text': text} if text and kind == 'keyDown' else {}),
      )

  def resize(self, width: int, height: int = 900, mobile: bool = False, scale: float = 1) -> None:
    self(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=scale,
      mobile=mobile,
    )

  def close(self) -> None:
    os.close(self._commands)
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._results)

  def _receive(self):
    while b'\0' not in self._buffer:
      chunk = os.read(self._results, 1 << 16)
      assert chunk, 'chromium ended'
      self._buffer += chunk
    message, _, self._buffer = self._buffer.partition(b'\0')
    return json.loads(message)


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
  """A tab of a headless Chromium."""
  program = next(filter(None, map(shutil.which, NAMES)), None)
  if program is None:
    pytest.skip(f'no Chromium ({", ".join(NAMES)}): the report is not opened in a browser')
  page = Page(
    [
      program,
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--remote-debugging-pipe',
      '--no-first-run',
      '--disable-dev-shm-usage',
      f'--user-data-dir={tmp_path_factory.mktemp("chromium")}',
    ]
  )
  yield page
  page.close()
