"""Bad input, case by case: what is printed and with which code the launchers end, as lines of docs/faults.md.

  python tests/faults/input_faults.py

Makes models of a few thousand random parameters, damages them, their configs, rows and command lines in turn, and gives
each to a launcher. A case that ends with another code than it should ends the whole with code 1.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import http.server
import io
import json
import logging
import os
import pathlib
import pickle
import runpy
import shutil
import sys
import tempfile
import threading
import zipfile

os.environ['HF_HUB_OFFLINE'] = '1'  # before the import that reads it

import huggingface_hub
import jax
import numpy as np
import safetensors.numpy

from irl_jax.command_line import launch as command_line
from irl_jax.data.playground import tokenizers
from irl_jax.evaluation import agreement
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.runtime.terminal import printable

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = ['a text of some words', 'and another one, with others'] * 10
SHAPE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
START_ROW = 31  # of what is checked at the start without a row of its own
LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14\n'
HTML = '<!DOCTYPE html>\n<html>503 Service Unavailable</html>'


@dataclasses.dataclass(frozen=True)
class Case:
  """One bad input."""

  row: int  # of the list of faults
  what: str
  code: int  # that the launcher must end with
  test: str  # of the same fault
  command: Callable[[pathlib.Path], list[str]]  # a folder of its own -> launcher and arguments


def make_models(root: pathlib.Path) -> None:
  """root/model, a language model of 64 positions, and root/classifier, which reads 32 tokens."""
  tokenizer, reader = (
    make(TEXTS)
    for make in (
      tokenizers.language_model_tokenizer,
      tokenizers.classifier_tokenizer,
    )
  )
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=tokenizers.padded_size(tokenizer), max_position_embeddings=64, **SHAPE
  )
  judge = roberta.RobertaConfig(
    vocab_size=tokenizers.padded_size(reader),
    max_position_embeddings=34,
    labels=('neutral', 'toxic'),
    **SHAPE,
  )
  for name, kind, make, shape, words in (
    ('model', 'causal_lm', gpt_neox, config, tokenizer),
    ('classifier', 'classifier', roberta, judge, reader),
  ):
    params = jax.tree.map(np.asarray, make.init(jax.random.key(0), shape))
    pretrained.save(root / name, pretrained.Pretrained(kind, shape, params, words), '')


def score(
  folder: pathlib.Path,
  model: pathlib.Path,
  rows: str = '{"text": "some words"}\n',
  name: str = 'rows.jsonl',
  flags: tuple[str, ...] = (),
  launcher: str = 'score',
) -> list[str]:
  """The command that scores (or completes) these rows with a model."""
  (folder / name).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
  return [
    launcher,
    f'--model={model}',
    f'--input={folder / name}',
    f'--output={folder / "out.jsonl"}',
    *flags,
  ]


def damaged(
  edit: Callable[[pathlib.Path], None], kind: str = 'model'
) -> Callable[[pathlib.Path], list[str]]:
  """Scores with a copy of a model that was edited."""

  def command(folder):
    shutil.copytree(folder.parent / kind, folder / kind)
    edit(folder / kind)
    return score(folder, folder / kind)

  return command


def weights(name: str, content: str | bytes | None) -> Callable[[pathlib.Path], list[str]]:
  """Scores with a model whose weights are one file with this content; None: those of before, cut in half."""

  def edit(model):
    whole = (model / 'model.safetensors').read_bytes()
    (model / 'model.safetensors').unlink()
    given = whole[: len(whole) // 2] if content is None else content
    (model / name).write_bytes(given if isinstance(given, bytes) else given.encode())

  return damaged(edit)


def settings(
  name: str = 'config.json', kind: str = 'model', **changes
) -> Callable[[pathlib.Path], list[str]]:
  """Scores with a model, one of whose JSON files says something else."""

  def edit(model):
    (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | changes))

  return damaged(edit, kind)


class Hostile:
  """Pickles as a call of os.system."""

  def __reduce__(self):
    return os.system, ('touch executed',)


def hostile_bin(model: pathlib.Path) -> None:
  (model / 'model.safetensors').unlink()
  with zipfile.ZipFile(model / 'pytorch_model.bin', 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({'w': Hostile()}, protocol=2))


def half_archive() -> bytes:
  """The first half of an archive as torch.save writes it."""
  whole = io.BytesIO()
  with zipfile.ZipFile(whole, 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({}, protocol=2))
    archive.writestr('x/data/0', bytes(1000))
  return whole.getvalue()[: len(whole.getvalue()) // 2]


def wrong_weights(model: pathlib.Path) -> None:
  """One is missing, one is of another shape, one nobody knows."""
  tensors = safetensors.numpy.load_file(model / 'model.safetensors')
  del tensors['gpt_neox.final_layer_norm.bias']
  tensors['gpt_neox.layers.0.mlp.dense_h_to_4h.bias'] = np.zeros(3, np.float32)
  tensors['gpt_neox.layers.2.mlp.dense_h_to_4h.bias'] = np.zeros(32, np.float32)
  safetensors.numpy.save_file(tensors, model / 'model.safetensors')


def rows(
  content: str | bytes, name: str = 'rows.jsonl', *flags: str
) -> Callable[[pathlib.Path], list[str]]:
  """Scores a file of rows with an intact model."""
  return lambda folder: score(folder, folder.parent / 'model', content, name, flags)


def completed(prompt: str) -> Callable[[pathlib.Path], list[str]]:
  """Completes one prompt with an intact model."""
  return lambda folder: score(
    folder,
    folder.parent / 'model',
    json.dumps({'text': prompt}),
    flags=('--max_new_tokens=4',),
    launcher='generate',
  )


def train(*flags: str) -> Callable[[pathlib.Path], list[str]]:
  """A run with intact models and these flags."""

  def command(folder):
    models = {'base': 'model', 'classifier': 'classifier'}
    return [
      'train',
      f'--config={ROOT}/configs/smoke.py',
      f'--workdir={folder / "run"}',
      '--config.stages=data,rlhf,demos,irl,evaluate,report',
      *(f'--config.models.{role}={folder.parent / place}' for role, place in models.items()),
      *flags,
    ]

  return command


def outside_data(folder: pathlib.Path) -> list[str]:
  (folder / 'secret.jsonl').write_text('{"text": "secret"}\n')
  (folder / 'set').mkdir()
  (folder / 'set' / 'README.md').write_text(
    '---\nconfigs:\n- config_name: default\n  data_files: "../secret.jsonl"\n---\n'
  )
  return train(f'--config.data.source={folder / "set"}')(folder)


def outside_member(folder: pathlib.Path) -> list[str]:
  (folder / 'irl').mkdir()
  (folder / 'irl' / 'config.json').write_text(
    '{"model_type": "irl_jax_ensemble", "members": ["../../model"]}'
  )
  return score(folder, folder / 'irl')


class Hub(http.server.BaseHTTPRequestHandler):
  """A hub that answers with `server.status`; where that is 200, it lists a file and goes silent in the middle of it."""

  def do_GET(self):  # pylint: disable=invalid-name
    entry = {
      'type': 'file',
      'path': 'config.json',
      'rfilename': 'config.json',
      'size': 1000,
      'oid': 'b' * 40,
    }
    listing = (
      [entry]
      if '/tree/' in self.path
      else {'id': 'owner/absent', 'sha': 'a' * 40, 'siblings': [entry]}
    )
    content = b'{' if '/resolve/' in self.path else json.dumps(listing).encode()
    self.send_response(self.server.status)
    self.send_header('Content-Length', '1000' if '/resolve/' in self.path else str(len(content)))
    self.send_header('ETag', '"' + 'b' * 40 + '"')
    self.send_header('X-Repo-Commit', 'a' * 40)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(content)
      self.wfile.flush()
      if '/resolve/' in self.path:
        self.server.ended.wait(60)

  do_HEAD = do_GET  # pylint: disable=invalid-name

  def log_message(self, *_):
    pass


def hub(status: int | None) -> Callable[[pathlib.Path], list[str]]:
  """Scores with a model of a hub on this machine that answers so; None: of one that does not answer."""

  def command(folder):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.status, server.daemon_threads, server.ended = status, True, threading.Event()
    if status:
      threading.Thread(target=server.serve_forever, daemon=True).start()
    else:
      server.server_close()
    address = f'http://127.0.0.1:{server.server_port}'
    constants = huggingface_hub.constants
    constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = (
      address,
      False,
      str(folder / 'cache'),
    )
    constants.HUGGINGFACE_CO_URL_TEMPLATE = address + '/{repo_id}/resolve/{revision}/{filename}'
    return score(folder, 'owner/absent@v1')

  return command


@contextlib.contextmanager
def as_before() -> Iterator[None]:
  """Puts back what the cases change of the process."""
  constants, handlers = dict(vars(huggingface_hub.constants)), list(logging.getLogger().handlers)
  logging.getLogger().handlers.clear()  # so that the launchers set up their own
  try:
    yield
  finally:
    vars(huggingface_hub.constants).update(constants)
    logging.getLogger().handlers[:] = handlers


def lossy_tokenizer(model: pathlib.Path) -> None:
  """Every word is unknown to it."""
  content = json.loads((model / 'tokenizer.json').read_text())
  vocabulary = {'<|endoftext|>': 0, '<|padding|>': 1}
  content['model'] = {'type': 'WordLevel', 'vocab': vocabulary, 'unk_token': '<|endoftext|>'}
  (model / 'tokenizer.json').write_text(json.dumps(content))


AWKWARD = ''.join(
  json.dumps({'text': text}) + '\n'
  for text in ('<|endoftext|>', 'a\0b', '🙂 👩‍👩‍👧', 'مرحبا', '\ud800', '')
)
WEIGHTS = 'models/huggingface/test_weight_files.py::'
ROWS = 'data/test_rows.py::test_bad_rows_are_named_or_counted'
OVERRIDES = 'command_line/test_launch.py::test_mistakes_name_the_key_and_what_is_allowed'
START = 'test_preflight.py::test_settings_that_cannot_work'


def cases() -> Iterator[Case]:
  """In the order of the list of faults."""
  yield Case(
    16,
    'a pickle that calls `os.system`',
    3,
    'models/huggingface/test_torch_bin.py::test_a_hostile_pickle_runs_nothing, '
    'test_no_opcode_runs_anything_or_fills_the_memory',
    damaged(hostile_bin),
  )
  yield Case(
    16,
    '`auto_map` in config.json',
    3,
    'models/huggingface/test_config.py::test_what_is_refused',
    settings(auto_map={'AutoModel': 'evil.Model'}),
  )
  yield Case(
    16,
    '`auto_map` in tokenizer_config.json',
    3,
    'models/huggingface/test_tokenizer.py::test_code_of_its_own_is_refused',
    settings('tokenizer_config.json', auto_map={'AutoTokenizer': ['evil.Tokenizer', None]}),
  )
  for name in ('model.safetensors', 'pytorch_model.bin', 'model.safetensors.index.json'):
    index = name.endswith('.json')
    test = WEIGHTS + 'test_what_failed_downloads_leave' + ('_of_an_index' if index else '')
    half = '{"weight_map": {' if index else half_archive() if name.endswith('.bin') else None
    for what, content in (
      ('truncated', half),
      ('empty', ''),
      ('HTML', HTML),
      ('a Git LFS pointer', LFS),
    ):
      yield Case(17, f'{name}: {what}', 3, test, weights(name, content))
  yield Case(
    18,
    '`../x` in a safetensors index',
    3,
    WEIGHTS + 'test_an_index_cannot_point_outside',
    weights('model.safetensors.index.json', '{"weight_map": {"w": "../x.safetensors"}}'),
  )
  yield Case(
    18,
    'an ensemble with a member outside',
    3,
    'test_rewards.py::test_a_member_outside_the_ensembles_folder_is_refused',
    outside_member,
  )
  yield Case(
    18,
    'a data set whose README names a file outside',
    3,
    'data/test_sources.py::test_folder_that_points_outside_is_refused',
    outside_data,
  )
  yield Case(
    18,
    '`--config.name=../x`',
    2,
    'launch/test_train.py::test_refused_before_the_pipeline_starts',
    lambda folder: ['train', f'--config={ROOT}/configs/smoke.py', '--config.name=../x'],
  )
  yield Case(
    19,
    'a weight missing, one of another shape, one too many',
    3,
    'models/huggingface/test_weights.py::test_all_that_does_not_fit_is_listed',
    damaged(wrong_weights),
  )
  yield Case(
    21,
    'offline, and not in the cache',
    3,
    'models/huggingface/test_hub.py::test_offline_mode_asks_nobody',
    lambda folder: score(folder, 'owner/absent@v1'),
  )
  yield Case(
    21, 'unreachable', 3, 'models/huggingface/test_hub.py::test_a_hub_that_hangs_or_is_not_there', hub(None)
  )
  for status in (401, 404, 429):
    yield Case(21, str(status), 3, 'models/huggingface/test_hub.py::test_refusals', hub(status))
  yield Case(
    21,
    'a connection that stalls within a file',
    3,
    'models/huggingface/test_hub.py::test_a_download_that_stalls_ends_within_seconds',
    hub(200),
  )
  yield Case(22, 'bad JSON', 3, ROWS, rows('{"text": "a"}\n{"text": \n'))
  yield Case(22, 'null', 3, ROWS, rows('{"text": "a"}\n{"text": null}\n'))
  yield Case(22, 'wrong type', 3, ROWS, rows('{"text": "a"}\n{"text": 3}\n'))
  yield Case(22, 'missing column', 3, ROWS, rows('comment,id\na,1\n', 'rows.csv'))
  yield Case(22, 'a cell too many', 3, ROWS, rows('text,id\na,1\nb,2,3\n', 'rows.csv'))
  yield Case(22, 'invalid UTF-8', 3, ROWS, rows(b'good\ncaf\xe9\n', 'rows.txt'))
  yield Case(22, 'no rows at all', 3, 'data/test_rows.py::test_broken_and_empty_files', rows(''))
  yield Case(
    22,
    'one bad row, `--bad_rows=skip`',
    0,
    ROWS,
    rows('{"text": "a"}\n{"text": 3}\n', 'rows.jsonl', '--bad_rows=skip'),
  )
  yield Case(
    22,
    'none usable, `--bad_rows=skip`',
    3,
    ROWS,
    rows('{"text": 3}\n', 'rows.jsonl', '--bad_rows=skip'),
  )
  yield Case(
    22,
    'a file that is not what its name says',
    3,
    'data/test_rows.py::test_broken_and_empty_files',
    rows('no parquet', 'rows.parquet'),
  )
  for what, text in (
    ('an empty prompt', ''),
    ('a prompt longer than there is room for', 'word ' * 90),
  ):
    yield Case(23, what, 0, 'test_sampling.py::test_prompts_as_ids', completed(text))
  yield Case(
    23,
    'prompt and response beyond the positions',
    2,
    START,
    train('--config.sampling.max_new_tokens=60'),
  )
  yield Case(
    24,
    '`<|endoftext|>` in a text, NUL, emoji, right-to-left, a lone surrogate, nothing',
    0,
    'test_text.py::test_awkward_texts_come_back_whole, test_any_text_comes_back_whole',
    rows(AWKWARD),
  )
  yield Case(
    25,
    "a text longer than the classifier's positions",
    0,
    'test_rewards.py::test_long_texts_keep_their_end_and_are_counted',
    lambda folder: score(folder, folder.parent / 'classifier', json.dumps({'text': 'word ' * 90})),
  )
  for flag in (
    'ppo.lerning_rate=1',
    'ppo.steps=1.5',
    'ppo.learning_rate=nan',
    'ppo.learning_rate=-1',
    'ppo.steps=0',
    'ppo.steps=99999999999',
    'ppo.minibatch_size=5',
    'stages=data,ril',
  ):
    yield Case(26, f'`--config.{flag}`', 2, OVERRIDES, train(f'--config.{flag}'))
  yield Case(26, 'a stray argument', 2, OVERRIDES, train('stray'))
  yield Case(
    26,
    f'`--config.ppo.minibatch_size=2` on {jax.device_count()} devices',
    2,
    START,
    train('--config.ppo.minibatch_size=2'),
  )
  yield Case(
    26, 'more blocks to train than there are', 2, START, train('--config.irl.trained_blocks=3')
  )
  yield Case(26, 'a model that is neither named nor made', 2, START, train('--config.models.base='))
  yield Case(
    START_ROW,
    'a tokenizer that loses text',
    3,
    'test_preflight.py::test_a_tokenizer_that_loses_text, '
    'models/huggingface/test_tokenizer.py::test_a_tokenizer_without_its_merges_is_refused',
    damaged(lossy_tokenizer),
  )
  yield Case(
    START_ROW,
    'less space on the disk than checkpoints need',
    2,
    'test_preflight.py::test_too_little_space_on_the_disk',
    train('--config.runtime.keep_checkpoints=2000000000'),
  )


def no_launcher() -> Iterator[tuple[int, str, str, str]]:
  """Row, input, outcome and test of what no single command of a launcher shows."""
  for what, scores, true, test in (
    (
      'a constant reward',
      [0.5, 0.5, 0.5],
      [-1.0, 2.0, 3.0],
      'test_a_constant_reward_gives_nulls_with_their_reasons',
    ),
    (
      'one class',
      [0.1, 0.2, 0.3],
      [1.0, 2.0, 3.0],
      'test_a_true_reward_of_one_class_or_value_gives_nulls_with_their_reasons',
    ),
  ):
    figures = agreement.agreement(scores, true)
    yield (
      15,
      what,
      'summary.json: ' + json.dumps({name: figures[name] for name in ('auroc', 'pearson', 'why')}),
      f'evaluation/test_recovered.py::{test}',
    )
  yield (
    20,
    'an export',
    '–',
    'models/test_pretrained.py, models/huggingface/test_config.py::'
    'test_what_we_write_is_what_we_read',
  )
  yield (
    27,
    '`<script>`, terminal escapes, `[/x]` in generated text',
    printable('<script>x</script> \x1b[31mred\x1b[0m \x1b]0;title\x07 [/x]'),
    'report/test_table.py::test_generated_text_cannot_act_on_the_terminal, report/test_page.py, '
    'report/test_texts.py',
  )
  yield (
    30,
    'ids beyond the tokenizer',
    '–',
    'test_sampling.py::test_a_forbidden_id_never_comes, '
    'test_distribution.py::test_a_forbidden_id_has_no_probability, test_a_number_that_no_token_has_never_comes',
  )


def line(row: int, what: str, told: str, code: int | str, test: str) -> str:
  """One line of the table."""
  escaped = lambda text: text.replace('|', '\\|')
  row = 'start' if row == START_ROW else row
  shown = told if told == '–' else '`' + escaped(told.replace('`', "'")) + '`'
  return f'| {row} | {escaped(what)} | {shown} | {code} | {test} |'


def outcome(case: Case, folder: pathlib.Path, printed: io.StringIO) -> tuple[int, str]:
  """The exit code, and what was printed: the error, else the warnings and the last line."""
  folder.mkdir()
  launcher, *arguments = case.command(folder)
  module = runpy.run_path(str(ROOT / 'launch' / f'{launcher}.py'))
  code = command_line.run_main(module['main'], module['FLAGS'], '', [f'{launcher}.py', *arguments])
  lines = [line for line in printed.getvalue().replace('\r', '\n').splitlines() if line.strip()]
  told = [line for line in lines if line.startswith('error: ' if code else 'warning: ')]
  printed.seek(0)
  printed.truncate()
  shown = ' / '.join(told if code else [*told, lines[-1]])
  return code, shown.replace(f'{folder}/', '').replace(f'{folder.parent}/', '')


def main() -> int:
  """Prints the table's lines."""
  wrong, printed = 0, io.StringIO()  # one for all: the log writes to the stderr that it found first
  lines = [(row, line(row, what, told, '–', test)) for row, what, told, test in no_launcher()]
  with tempfile.TemporaryDirectory() as root, as_before():
    make_models(pathlib.Path(root))
    for number, case in enumerate(cases()):
      with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code, told = outcome(case, pathlib.Path(root) / f'case_{number}', printed)
      lines.append((case.row, line(case.row, case.what, told, code, case.test)))
      if code != case.code:
        wrong += 1
        print(f'case {number} must end with {case.code}', file=sys.stderr)
  print('\n'.join(text for _, text in sorted(lines, key=lambda numbered: numbered[0])))
  return int(wrong > 0)


if __name__ == '__main__':
  sys.exit(main())
