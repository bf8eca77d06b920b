"""Every bad input of the table of faults ends its launcher with the code that the table says, in one line."""

import pathlib
import re
import runpy

from irl_jax.runtime import hub_limits

ROOT = pathlib.Path(__file__).parents[2]


def test_every_case_ends_as_the_table_says(monkeypatch, tmp_path, capsys):
  monkeypatch.chdir(tmp_path)  # a pickle that ran would leave a file here
  monkeypatch.setattr(hub_limits, 'SILENCE', 0.2)
  assert runpy.run_path(str(pathlib.Path(__file__).with_name('input_faults.py')))['main']() == 0
  lines = capsys.readouterr().out.splitlines()
  told = {re.sub(r'(?<!\\)\|.*', '', line[1:]).strip() for line in lines}
  assert told == {*map(str, range(15, 28)), '30', 'start'} and not list(tmp_path.iterdir())
  documented = (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8')
  for line in lines:
    row, what = re.split(r' (?<!\\)\| ', line[2:])[:2]
    if 'devices' not in what:  # it says how many
      assert f'| {row} | {what} | ' in documented
