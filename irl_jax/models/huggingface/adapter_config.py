"""The settings of a LoRA adapter (adapter_config.json), and which of them can be merged."""

from collections.abc import Callable
from collections.abc import Mapping
import re
from typing import Any

from irl_jax.errors import InputError
from irl_jax.models.huggingface import weight_files

MERGE = 'merge it with PEFT (merge_and_unload), save the model, and pass that folder'
# Settings that the merge reads, and settings that do not change what is merged.
_READ = {'alpha_pattern', 'base_model_name_or_path', 'bias', 'init_lora_weights', 'lora_alpha'}
_READ |= {'modules_to_save', 'peft_type', 'r', 'rank_pattern', 'revision', 'task_type'}
_READ |= {'use_rslora'}
_WITHOUT_EFFECT = {'auto_mapping', 'corda_config', 'ensure_weight_tying', 'eva_config'}
_WITHOUT_EFFECT |= {'exclude_modules', 'inference_mode', 'layers_pattern', 'layers_to_transform'}
_WITHOUT_EFFECT |= {'loftq_config', 'lora_dropout', 'lora_ga_config', 'megatron_core'}
_WITHOUT_EFFECT |= {'peft_version', 'runtime_config', 'target_modules'}
# PEFT ignores it for torch.nn.Linear, which is all that our models consist of.
_WITHOUT_EFFECT |= {'fan_in_fan_out'}
# Other ways to begin (PiSSA, OLoRA, CorDA, LoftQ, …) change the base's weights as well.
_PLAIN_STARTS = (True, False, None, 'gaussian', 'orthogonal', 'eva')


def check(settings: Mapping[str, Any], where: str) -> None:
  """Refuses an adapter whose settings mean something else than W += scale · B A.

  Raises:
    InputError: names the setting.
  """

  def refuse(name: str, wanted: str) -> None:
    raise InputError(
      f'{where}: {weight_files.ADAPTER}: {name} = {settings.get(name)!r} is not supported; must be '
      f'{wanted}. Otherwise {MERGE}'
    )

  if settings.get('peft_type') != 'LORA':
    refuse('peft_type', "'LORA'")
  if settings.get('bias', 'none') != 'none':
    refuse('bias', "'none'")
  if settings.get('init_lora_weights') not in _PLAIN_STARTS:
    refuse('init_lora_weights', 'true, false, gaussian, orthogonal or eva, which keep the base')
  for name, value in settings.items():
    # Settings of features that are off are false, empty or numbers.
    if name not in _READ | _WITHOUT_EFFECT and value and type(value) not in (int, float):
      refuse(name, 'absent')
  _check_numbers(settings, refuse)


def _check_numbers(settings: Mapping[str, Any], refuse: Callable[[str, str], None]) -> None:
  """Refuses ranks, alphas, patterns and modules of another type, and patterns that do not parse."""
  is_rank = lambda value: type(value) is int and value > 0
  is_alpha = lambda value: type(value) in (int, float) and abs(value) < float('inf')
  for name, pattern, valid, wanted in (
    ('r', 'rank_pattern', is_rank, 'a whole number > 0'),
    ('lora_alpha', 'alpha_pattern', is_alpha, 'a number'),
  ):
    if not valid(settings.get(name)):
      refuse(name, wanted)
    patterns = settings.get(pattern) or {}
    if not isinstance(patterns, dict) or not all(map(valid, patterns.values())):
      refuse(pattern, f'an object of names to {wanted}')
    try:
      list(map(re.compile, patterns))
    except (re.error, RecursionError):
      refuse(pattern, 'an object of regular expressions')
  saved = settings.get('modules_to_save') or []
  if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
    refuse('modules_to_save', 'a list of names')
