"""generate.py: the field to complete, settings that reach the sampler, and what is refused."""

import json
import signal

import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.config import Sampling


@pytest.fixture
def calls(monkeypatch):
  """Every call of the model, which repeats the prompt in capitals."""
  seen = []

  def generate(path, prompts, sampling, seed, progress, first, chat):
    seen.append((path, prompts, sampling, seed))
    assert not chat
    return [' ' + prompt.upper() for prompt in prompts]

  monkeypatch.setattr(api, 'generate', generate)
  monkeypatch.setattr(loaded, 'fingerprint', lambda model: (model,))
  return seen


@pytest.fixture
def run(launch, tmp_path):
  """Runs generate.py on lines with arguments; returns its exit code and the written rows."""

  def start(lines, *arguments):
    source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    source.write_text(lines)
    code = launch('generate', '--model=M', f'--input={source}', f'--output={output}', *arguments)
    return code, [json.loads(line) for line in output.open()] if output.exists() else None

  return start


def test_prompt_else_text_is_completed(run, calls):
  code, rows = run('{"prompt": "a", "text": "b"}\n')
  assert (code, rows) == (0, [{'prompt': 'a', 'text': 'b', 'completion': ' A'}])
  assert run('{"text": "b"}\n')[1] == [{'text': 'b', 'completion': ' B'}]
  assert run('{"prompt": "a", "text": "b"}\n', '--field=text')[1][0]['completion'] == ' B'
  assert calls[0] == ('M', ['a'], Sampling(max_new_tokens=64, batch_size=32), 0)


@pytest.mark.slow
def test_conversations_and_messages_of_users_are_rendered(launch, chat_models, tmp_path):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  asked = {'role': 'user', 'content': 'abc'}
  rows = [
    {'messages': [asked, {'role': 'assistant', 'content': 'b'}]},
    {'prompt': {'text': 'abc', 'toxicity': 0.1}},
    {'prompt': [asked]},
  ]
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  arguments = [f'--model={chat_models["aligned"]}', f'--input={source}', f'--output={output}']
  arguments += ['--max_new_tokens=3', '--temperature=0']
  written = lambda: [json.loads(line)['completion'] for line in output.open()]
  assert launch('generate', *arguments) == 0
  first, plain, third = written()
  assert first == third
  assert launch('generate', *arguments, '--chat') == 0
  assert written() == [first] * 3 and plain != first


def test_a_conversation_without_a_template_is_refused(launch, chat_models, tmp_path, capsys):
  source = tmp_path / 'in.jsonl'
  source.write_text('{"prompt": [{"role": "user", "content": "a"}]}\n')
  arguments = [f'--input={source}', f'--output={tmp_path / "out.jsonl"}', '--max_new_tokens=3']
  assert launch('generate', f'--model={chat_models["base"]}', *arguments) == 3
  assert 'base: has no chat template; give plain prompts' in capsys.readouterr().err
  source.write_text('{"prompt": [{"role": "assistant", "content": "a"}]}\n')
  assert launch('generate', f'--model={chat_models["aligned"]}', *arguments) == 3
  assert "row 1: field 'prompt' has no user message before the" in capsys.readouterr().err


def test_settings_reach_the_sampler(run, calls):
  assert (
    run(
      '{"text": "b"}\n',
      '--max_new_tokens=5',
      '--min_new_tokens=2',
      '--temperature=0',
      '--top_k=3',
      '--top_p=.5',
      '--batch_size=8',
      '--seed=11',
    )[0]
    == 0
  )
  assert calls[0][2:] == (
    Sampling(max_new_tokens=5, min_new_tokens=2, temperature=0.0, top_k=3, top_p=0.5, batch_size=8),
    11,
  )


@pytest.mark.parametrize(
  'argument, message',
  [
    ('--temperature=nan', '--temperature = nan: must be >= 0'),
    ('--temperature=-1', '--temperature = -1.0: must be >= 0'),
    ('--top_p=0', '--top_p = 0.0: must be > 0 and <= 1'),
    ('--max_new_tokens=2.5', '--max_new_tokens=2.5: must be a whole number >= 1'),
    ('--min_new_tokens=65', '--min_new_tokens = 65: must be <= --max_new_tokens = 64'),
    ('--seed=-1', '--seed=-1'),
    ('stray', "unexpected argument 'stray'"),
  ],
)
def test_wrong_settings_name_the_flag_and_its_range(run, calls, capsys, argument, message):
  assert run('{"text": "b"}\n', argument) == (2, None)
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1 and not calls


def test_a_completion_that_is_there_is_not_overwritten(run, calls, capsys):
  assert run('{"text": "b", "completion": "c"}\n') == (3, None)
  assert "already has a field 'completion'" in capsys.readouterr().err and not calls


@pytest.mark.slow
def test_samples_of_a_prompt_are_a_list_in_its_row(launch, audited, tmp_path, monkeypatch):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  prompts = ['ab', 'b', None, 'ab', 'cab', '']
  source.write_text(''.join(json.dumps({'prompt': prompt}) + '\n' for prompt in prompts))
  model = f'--model={audited["base"]}'
  arguments = [model, f'--input={source}', f'--output={output}', '--bad_rows=skip']
  arguments += ['--max_new_tokens=4', '--samples=3']
  assert launch('generate', *arguments, '--batch_size=32') == 0
  written = output.read_bytes()
  rows = [json.loads(line) for line in written.splitlines()]
  assert [row['prompt'] for row in rows] == prompts and 'completion' not in rows[0]
  assert rows[2]['completions'] is None and 'why' in rows[2]
  samples = [row['completions'] for row in rows if row['completions']]
  assert [len(one) for one in samples] == [3] * 5
  assert samples[0] != samples[2] and len(set(samples[0] + samples[2])) > 3  # of one prompt
  direct = api.generate(
    audited['base'],
    [prompt for prompt in prompts if prompt is not None for _ in range(3)],
    Sampling(max_new_tokens=4),
  )
  assert [one for completions in samples for one in completions] == direct
  # Neither the batches nor an interruption change them.
  monkeypatch.setattr(files, 'COMPLETED', 6)
  monkeypatch.setattr(files, 'BATCHES', 0)
  generate, calls = api.generate, []

  def stopped(*arguments, **named):
    calls.append(named['first'])
    if len(calls) == 2:
      signal.raise_signal(signal.SIGINT)
    return generate(*arguments, **named)

  monkeypatch.setattr(api, 'generate', stopped)
  output.unlink()
  assert launch('generate', *arguments, '--batch_size=3') == 130
  assert launch('generate', *arguments, '--batch_size=1') == 0
  assert output.read_bytes() == written and calls == [0, 6, 6, 9]


def test_samples_that_would_be_equal_or_overwritten_are_refused(run, calls, capsys):
  assert run('{"text": "b"}\n', '--samples=2', '--temperature=0') == (2, None)
  assert '--samples=2: with --temperature=0, all samples of a' in capsys.readouterr().err
  assert run('{"text": "b"}\n', '--samples=0') == (2, None)
  assert run('{"text": "b", "completions": []}\n', '--samples=2') == (3, None)
  assert "already has a field 'completions'" in capsys.readouterr().err and not calls
  assert run('{"text": "b", "completion": ""}\n', '--samples=2')[0] == 0


@pytest.mark.slow
def test_real_model_completes_and_ends_within_its_length(run, shared):
  code, rows = run(
    '{"text": "You are"}\n{"text": ""}\n', f'--model={shared}/models/neox_14m', '--max_new_tokens=4'
  )
  assert code == 0 and all(isinstance(row['completion'], str) for row in rows)


def test_no_room_for_a_prompt_is_refused_before_weights_are_read(run, tmp_path, capsys):
  (tmp_path / 'config.json').write_text('{"max_position_embeddings": 32}')
  assert run('{"text": "b"}\n', f'--model={tmp_path}', '--max_new_tokens=32') == (2, None)
  assert 'max_new_tokens = 32: must be < 32' in capsys.readouterr().err
