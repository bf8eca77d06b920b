"""Config overrides, the messages of mistakes, and exit codes."""

import dataclasses
import json
import logging as std_logging
import sys

from absl import flags
from absl import logging
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.command_line import launch as command_line

CONFIG = 'from irl_jax.config import *\ndef get_config():\n  return Config(ppo=PPO(epochs=2))\n'


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'example.py'
  path.write_text(CONFIG)
  return str(path)


@pytest.fixture(scope='session')
def example(tmp_path_factory):
  path = tmp_path_factory.mktemp('config') / 'example.py'
  path.write_text(CONFIG)
  return str(path)


def start(main, *arguments):
  """Returns the exit code of a launcher with a flag --config and this main."""
  values = flags.FlagValues()
  flags.DEFINE_string('config', None, 'a config file', flag_values=values)
  return command_line.run_main(main, values, 'A launcher.', ['launcher.py', *arguments])


def parsed(*arguments):
  """Returns the Config of a command line."""
  seen = []
  assert start(lambda options: seen.append(options.config), *arguments) == 0
  return seen[0]


def leaves(section, prefix='config.'):
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from leaves(value, f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, value


def test_without_overrides_the_files_config_is_unchanged(config_file):
  assert parsed(f'--config={config_file}') == config_lib.Config(ppo=config_lib.PPO(epochs=2))
  assert (
    parsed('--config', config_file)
    == parsed('-config', config_file)
    == parsed(f'--config={config_file}')
  )


def test_every_field_reads_its_own_value_back(config_file):
  config = parsed(f'--config={config_file}')
  overrides = [
    f'--{name}={",".join(value) if isinstance(value, tuple) else value}'
    for name, value in leaves(config)
  ]
  assert len(overrides) > 80
  assert parsed(f'--config={config_file}', *overrides) == config


def test_overrides_are_typed_and_the_last_one_counts(config_file):
  config = parsed(
    '--config.ppo.steps',
    '3',
    '--config.ppo.learning_rate=1',
    f'--config={config_file}',
    '--config.ppo.trained_blocks',
    '-1',
    '--noconfig.ppo.subtract_original',
    '--config.ppo.steps=4',
    '--config.data.text_field=12',
    '--config.stages=rlhf,irl',
  )
  assert (config.ppo.steps, config.ppo.learning_rate, config.ppo.epochs) == (4, 1.0, 2)
  assert type(config.ppo.learning_rate) is float and config.ppo.subtract_original is False
  assert (config.data.text_field, config.stages) == ('12', ('rlhf', 'irl'))
  assert parsed(f'--config={config_file}', "--config.stages=('rlhf', 'irl')").stages == (
    'rlhf',
    'irl',
  )


@pytest.mark.parametrize(
  'argument, message',
  [
    ('--config.ppo.lerning_rate=1', 'did you mean --config.ppo.learning_rate?'),
    ('--config.pppo.steps=1', 'did you mean --config.ppo.steps?'),
    ('--ppo.steps=1', 'did you mean --config.ppo.steps?'),
    ('--zzz', '--zzz: no such flag or config field; see --help'),
    (
      '--config.ppo=1',
      '--config.ppo is a section: override one of its fields, such as --config.ppo.learning_rate',
    ),
    ('--config.ppo.learning_rate=fast', '--config.ppo.learning_rate=fast: must be a number > 0'),
    ('--config.ppo.learning_rate=nan', 'config.ppo.learning_rate = nan: must be > 0'),
    ('--config.ppo.learning_rate=inf', 'config.ppo.learning_rate = inf: must be > 0'),
    ('--config.ppo.learning_rate=-1e-6', 'config.ppo.learning_rate = -1e-06: must be > 0'),
    ('--config.ppo.steps=1.5', '--config.ppo.steps=1.5: must be a whole number >= 1'),
    ('--config.ppo.steps=0', 'config.ppo.steps = 0: must be >= 1'),
    ('--config.ppo.steps=99999999999', 'config.ppo.steps = 99999999999: must fit into 32 bits'),
    (
      '--config.data.text_field=a\udcff',
      "config.data.text_field = 'a\\udcff': must be text that UTF-8 can encode",
    ),
    ('--config.ppo.steps', 'Missing value for flag --config.ppo.steps'),
    ('--config.ppo.subtract_original=2', '--config.ppo.subtract_original=2: must be true or false'),
    ('--config.ppo.reward=max', "config.ppo.reward = 'max': must be one of logit, probability"),
    (
      '--config.ppo.minibatch_size=5',
      'config.ppo.minibatch_size = 5: must divide config.ppo.rollouts_per_step = 32',
    ),
    ('--config.stages=rlhf,ril', "config.stages: unknown stage 'ril'"),
    ('--config.stages=(1)', '--config.stages=(1): must be names separated by commas'),
    ("--config.stages=(1, 'data')", 'config.stages: unknown stage 1'),
    ('--config.stages=([],)', 'config.stages: unknown stage []'),
    ('--config.stages=(' + '-' * 100_000 + '1)', 'must be names separated by commas'),
    ("--config.stages=('rlhf'", "--config.stages=('rlhf': must be names separated by commas"),
    ('stray', "unexpected argument 'stray'"),
    ('--verbosity=loud', '--verbosity=loud: must be a whole number'),
  ],
)
def test_mistakes_name_the_key_and_what_is_allowed(config_file, capsys, argument, message):
  assert start(lambda _: pytest.fail('main was called'), f'--config={config_file}', argument) == 2
  shown = capsys.readouterr().err
  assert shown.startswith('error: ') and message in shown and shown.count('\n') == 1


FIELDS = [name for name, _ in leaves(config_lib.Config())]
WORDS = st.text(st.characters(), max_size=12) | st.sampled_from(
  [
    'nan',
    '-inf',
    '1e999',
    '-1',
    '0',
    '9' * 30,
    '9' * 5000,
    '0x10',
    '1_0',
    '٣',
    'true',
    "('data',)",
    '((' * 200,
    '[' * 5000,
    "__import__('os').abort()",
    '../x',
    '--',
    '-h=',
    '\udcff',
    'a\x00b',
  ]
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), WORDS)
def test_whatever_an_override_says_is_a_config_or_an_error_of_ours(example, field, value):
  flag_values = flags.FlagValues()
  flags.DEFINE_string('config', None, '', flag_values=flag_values)
  try:
    command_line.parse(['launcher.py', f'--config={example}', f'--{field}={value}'], flag_values)
  except (errors.ConfigError, flags.Error):
    return
  json.dumps(
    dataclasses.asdict(flag_values.config), ensure_ascii=False, allow_nan=False
  ).encode()  # as in config.json


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS | st.sampled_from(FIELDS).map(lambda name: f'--{name}'), max_size=3))
def test_whatever_the_arguments_are_the_mistake_is_an_error_of_ours(example, arguments):
  flag_values = flags.FlagValues()
  flags.DEFINE_string('config', None, '', flag_values=flag_values)
  try:
    command_line.parse(['launcher.py', f'--config={example}', *arguments], flag_values)
  except (errors.ConfigError, flags.Error) as error:
    assert str(error)


VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats()
  | st.text(st.characters(), max_size=5)
  | st.binary(max_size=3),
  lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=2),
  max_leaves=3,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), VALUES)
def test_whatever_a_config_file_gives_a_field_is_a_config_or_an_error_of_ours(field, value):
  *section, name = field.removeprefix('config.').split('.')
  config = config_lib.Config()
  try:
    if section:
      name, value = section[0], dataclasses.replace(getattr(config, section[0]), **{name: value})
    config = dataclasses.replace(config, **{name: value})
  except errors.ConfigError as error:
    assert str(error).startswith(f'config.{name}') or section
  json.dumps(dataclasses.asdict(config), ensure_ascii=False, allow_nan=False).encode()


def test_missing_config_says_where_to_start(capsys):
  assert start(lambda _: None) == 2
  assert '--config=configs/tiny.py' in capsys.readouterr().err


@pytest.mark.parametrize(
  'raised, code, message',
  [
    (errors.ConfigError('a'), 2, 'a'),
    (errors.InputError('b\nc'), 3, 'b c'),
    (errors.DivergedError('d'), 4, 'd'),
    (errors.CheckpointError('\x1b]0;title\x07e\x1b[2J'), 5, 'e'),
    (KeyboardInterrupt(), 130, 'interrupted'),
    (ValueError('first\nsecond'), 1, 'ValueError: first (--verbosity=1 shows where)'),
    (MemoryError(), 1, 'MemoryError:  (--verbosity=1 shows where)'),
  ],
)
def test_what_main_raises_becomes_a_line_and_an_exit_code(
  config_file, capsys, raised, code, message
):
  def main(_):
    raise raised

  assert start(main, f'--config={config_file}') == code
  assert capsys.readouterr().err == f'error: {message}\n'


@pytest.mark.parametrize('arguments', [(), ('--verbosity=1',)])
@pytest.mark.parametrize('name', ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'WANDB_API_KEY'])
def test_a_secret_that_an_error_quotes_is_not_shown(
  config_file, capsys, monkeypatch, name, arguments
):
  monkeypatch.setenv(name, 'hf_aSecret\n')

  def main(_):
    logging.warning('Bearer hf_aSecret')
    raise ValueError("Illegal header value b'Bearer hf_aSecret'")

  assert start(main, f'--config={config_file}', *arguments) == 1
  shown = capsys.readouterr()
  assert (
    f"Illegal header value b'Bearer [{name}]'" in shown.err
    and 'hf_aSecret' not in shown.err + shown.out
  )


def test_exit_codes_that_main_chooses_pass(config_file):
  def main(_):
    raise SystemExit(143)

  with pytest.raises(SystemExit) as ended:
    start(main, f'--config={config_file}')
  assert ended.value.code == 143


def test_help_shows_the_docstring_and_every_flag_before_any_mistake(capsys):
  assert (
    start(lambda _: pytest.fail('main was called'), '--config=nowhere.py', '--nonsense', '--help')
    == 0
  )
  shown = capsys.readouterr().out
  assert (
    shown.startswith('A launcher.\n')
    and '--config: a config file' in shown
    and '--version' in shown
  )


@pytest.mark.parametrize('tracebacks', [False, True])
def test_what_libraries_log_of_an_exception_is_a_line_unless_more_is_asked_for(tracebacks):
  try:
    raise OSError('No space left')
  except OSError:
    record = std_logging.LogRecord(
      'orbax', std_logging.ERROR, 'file.py', 1, 'Save of %s\nfailed', ('step 4',), sys.exc_info()
    )
  lines = command_line._OneLine(tracebacks).format(record).splitlines()
  assert lines[0] == 'error: Save of step 4 failed' and (len(lines) == 1) != tracebacks
  assert ('OSError: No space left' in lines) == tracebacks
