"""`irl-jax env`: what a bug report needs, no secrets, and an answer if JAX cannot start."""

import numpy
import pytest

from irl_jax.command_line import console
from irl_jax.command_line import env


def shown(capsys):
  assert console.main(['irl-jax', 'env']) == 0
  return capsys.readouterr().out


def test_versions_devices_and_the_cache_are_named(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path))
  (tmp_path / 'compiled').write_bytes(b'0' * 2**20)
  text = shown(capsys)
  assert f'\n  numpy {numpy.__version__}\n' in text and '\n  python 3.' in text
  assert text.count(': cpu, cpu\n') == 4 and 'XLA_FLAGS=--xla_force_host' in text
  assert f'compilation cache:\n  {tmp_path}: 1 file, 1 MiB\n' in text


def test_a_secret_is_only_said_to_be_set(capsys, monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'hf_aSecret')
  monkeypatch.setenv('JAX_SOMETHING', 'Bearer hf_aSecret\x1b[2J')
  monkeypatch.delenv('WANDB_API_KEY', raising=False)
  text = shown(capsys)
  assert 'hf_aSecret' not in text and '\x1b' not in text
  assert 'HF_TOKEN: set\n' in text and 'WANDB_API_KEY: not set\n' in text


def test_jax_that_cannot_start_is_said_with_the_reason(capsys, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'abacus')
  text = shown(capsys)
  assert 'JAX does not start (exit code 1): ' in text and "'abacus'" in text
  assert 'compilation cache:' in text


@pytest.mark.parametrize(
  'code, seconds, reason',
  [
    ('import os; os.abort()', 60, 'JAX does not start (exit code -6): it printed nothing'),
    ('import time; time.sleep(60)', 0.5, 'JAX does not start: no answer within 0.5 s'),
  ],
)
def test_jax_that_aborts_or_hangs_is_survived(code, seconds, reason):
  assert env.devices(code, seconds) == [reason]
