"""Weights, configs and tokenizers of models that are hostile, damaged or do not fit."""

from collections.abc import Callable
import io
import json
import os
import pathlib
import pickle
import shutil
import zipfile

import commands
import numpy as np
import pytest
import safetensors.numpy

LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14\n'
HTML = '<!DOCTYPE html>\n<html>503 Service Unavailable</html>'


class Hostile:
  """Pickles as a call of os.system."""

  def __reduce__(self):
    return os.system, ('touch executed',)


def change_json(path: pathlib.Path, **changes) -> None:
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def hostile_pickle(model: pathlib.Path) -> None:
  (model / 'model.safetensors').unlink()
  with zipfile.ZipFile(model / 'pytorch_model.bin', 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({'w': Hostile()}, protocol=2))


def code_in_config(model: pathlib.Path) -> None:
  change_json(model / 'config.json', auto_map={'AutoModel': 'evil.Model'})


def code_in_tokenizer(model: pathlib.Path) -> None:
  auto_map = {'AutoTokenizer': ['evil.Tokenizer', None]}
  change_json(model / 'tokenizer_config.json', auto_map=auto_map)


def index_outside(model: pathlib.Path) -> None:
  write_weights('model.safetensors.index.json', '{"weight_map": {"w": "../x.safetensors"}}')(model)


def wrong_weights(model: pathlib.Path) -> None:
  tensors = safetensors.numpy.load_file(model / 'model.safetensors')
  del tensors['gpt_neox.final_layer_norm.bias']
  tensors['gpt_neox.layers.0.mlp.dense_h_to_4h.bias'] = np.zeros(3, np.float32)
  tensors['gpt_neox.layers.2.mlp.dense_h_to_4h.bias'] = np.zeros(32, np.float32)
  safetensors.numpy.save_file(tensors, model / 'model.safetensors')


def rewrite_weights(model: pathlib.Path, rename: Callable[[str], str], **added: np.ndarray) -> None:
  """Renames all weights of a model, and adds others."""
  tensors = safetensors.numpy.load_file(model / 'model.safetensors')
  tensors = {rename(name): array for name, array in tensors.items()} | added
  safetensors.numpy.save_file(tensors, model / 'model.safetensors')


def wrapped_weights(model: pathlib.Path) -> None:
  head = {'v_head.0.weight': np.zeros((32, 16), np.float32)}
  rewrite_weights(model, 'base_model.{}'.format, **head)


def unmerged_weights(model: pathlib.Path) -> None:
  adapted = '.layers.0.attention.dense.'
  rename = lambda name: name.replace(f'{adapted}weight', f'{adapted}base_layer.weight')
  lora = {f'gpt_neox{adapted}lora_A.default.weight': np.zeros((4, 16), np.float32)}
  rewrite_weights(model, rename, **lora)


def adapter(**settings) -> Callable[[pathlib.Path], None]:
  """Makes the model an adapter of its former self, which is named base."""

  def edit(model: pathlib.Path) -> None:
    model.rename(model.parent / 'base')
    model.mkdir()
    named = {'peft_type': 'LORA', 'base_model_name_or_path': '../base', 'r': 2, 'lora_alpha': 4}
    (model / 'adapter_config.json').write_text(json.dumps(named | settings))
    module = 'base_model.model.gpt_neox.layers.0.attention.dense'
    factors = {f'{module}.lora_A.weight': (2, 16), f'{module}.lora_B.weight': (16, 2)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in factors.items()}
    safetensors.numpy.save_file(tensors, model / 'adapter_model.safetensors')

  return edit


def other_adapter(model: pathlib.Path) -> None:
  """Makes the model an adapter whose modules the base does not have."""
  adapter()(model)
  file = model / 'adapter_model.safetensors'
  renamed = lambda name: name.replace('gpt_neox.layers', 'model.layers')
  tensors = {renamed(name): array for name, array in safetensors.numpy.load_file(file).items()}
  safetensors.numpy.save_file(tensors, file)


def adapter_without_weights(model: pathlib.Path) -> None:
  adapter()(model)
  (model / 'adapter_model.safetensors').unlink()


def no_tokenizer(model: pathlib.Path) -> None:
  for file in model.glob('tokenizer*.json'):
    file.unlink()


def two_ends(model: pathlib.Path) -> None:
  change_json(model / 'config.json', eos_token_id=[0, 5])


def two_ends_of_generation(model: pathlib.Path) -> None:
  (model / 'generation_config.json').write_text('{"eos_token_id": [0, 5]}')


def chat_token(model: pathlib.Path) -> None:
  """Adds a special token in a spare row of the embeddings."""
  words = json.loads((model / 'tokenizer.json').read_text())
  added = words['added_tokens'][-1] | {'content': '<|assistant|>', 'special': True}
  added['id'] = max(words['model']['vocab'].values()) + 1
  words['added_tokens'].append(added)
  (model / 'tokenizer.json').write_text(json.dumps(words))


def lossy_tokenizer(model: pathlib.Path) -> None:
  """Every word is unknown to it."""
  vocabulary = {'<|endoftext|>': 0, '<|padding|>': 1}
  words = {'type': 'WordLevel', 'vocab': vocabulary, 'unk_token': '<|endoftext|>'}
  change_json(model / 'tokenizer.json', model=words)


def write_weights(name: str, content: str | bytes) -> Callable[[pathlib.Path], None]:
  """Replaces the weights of a model by one file."""

  def edit(model: pathlib.Path) -> None:
    (model / 'model.safetensors').unlink()
    (model / name).write_bytes(content if isinstance(content, bytes) else content.encode())

  return edit


def half_of_safetensors(model: pathlib.Path) -> None:
  whole = (model / 'model.safetensors').read_bytes()
  (model / 'model.safetensors').write_bytes(whole[: len(whole) // 2])


def half_of_torch() -> bytes:
  """The first half of an archive as torch.save writes it."""
  whole = io.BytesIO()
  with zipfile.ZipFile(whole, 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({}, protocol=2))
    archive.writestr('x/data/0', bytes(1000))
  return whole.getvalue()[: len(whole.getvalue()) // 2]


FAULTS: dict[str, Callable[[pathlib.Path], None]] = {
  'a pickle that calls os.system': hostile_pickle,
  'auto_map in config.json': code_in_config,
  'auto_map in tokenizer_config.json': code_in_tokenizer,
  'model.safetensors: truncated': half_of_safetensors,
  'pytorch_model.bin: truncated': write_weights('pytorch_model.bin', half_of_torch()),
  'model.safetensors.index.json: truncated': write_weights(
    'model.safetensors.index.json', '{"weight_map": {'
  ),
  '../x in a safetensors index': index_outside,
  'a weight missing, one of another shape, one too many': wrong_weights,
  'a tokenizer that loses text': lossy_tokenizer,
  'special tokens of its own': chat_token,
  'several ends in config.json': two_ends,
  'several ends in generation_config.json': two_ends_of_generation,
  'no tokenizer': no_tokenizer,
  'a value head, and a prefix before all names': wrapped_weights,
  'a LoRA adapter': adapter(),
  'an adapter with DoRA': adapter(use_dora=True),
  'an adapter that is not LoRA': adapter(peft_type='IA3'),
  'an adapter that began with PiSSA': adapter(init_lora_weights='pissa'),
  'an adapter that names no base': adapter(base_model_name_or_path=None),
  'an adapter whose base is elsewhere': adapter(base_model_name_or_path='/models/other'),
  'an adapter of another kind of model': adapter(task_type='SEQ_CLS'),
  'an adapter of another base': other_adapter,
  'an adapter without weights': adapter_without_weights,
  'weights with a LoRA adapter that is not merged': unmerged_weights,
  'a checkpoint of DeepSpeed': write_weights('zero_to_fp32.py', ''),
}
DOWNLOADS = {
  'model.safetensors: empty': '',
  'model.safetensors: HTML': HTML,
  'model.safetensors: a Git LFS pointer': LFS,
  'pytorch_model.bin: empty': '',
  'pytorch_model.bin: HTML': HTML,
  'pytorch_model.bin: a Git LFS pointer': LFS,
  'model.safetensors.index.json: empty': '',
  'model.safetensors.index.json: HTML': HTML,
  'model.safetensors.index.json: a Git LFS pointer': LFS,
}
for fault, content in DOWNLOADS.items():
  FAULTS[fault] = write_weights(fault.partition(': ')[0], content)


@pytest.mark.parametrize('fault', FAULTS)
def test_a_bad_model_is_refused(fault, folder, ends_as_documented, monkeypatch, tmp_path):
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  FAULTS[fault](folder / 'model')
  ends_as_documented(fault, 'score', commands.score(folder))
  # A pickle that ran would leave a file here.
  assert not list((tmp_path / 'elsewhere').iterdir())


def test_a_member_of_an_ensemble_lies_in_its_folder(folder, ends_as_documented):
  (folder / 'irl').mkdir()
  settings = {'model_type': 'irl_jax_ensemble', 'members': ['../../model']}
  (folder / 'irl' / 'config.json').write_text(json.dumps(settings))
  ends_as_documented(
    'an ensemble with a member outside its folder',
    'score',
    commands.score(folder, model=folder / 'irl'),
  )


def name_labels(folder: pathlib.Path, *names: str, **changes) -> None:
  """Renames the labels of classifier/."""
  id2label = {str(index): name for index, name in enumerate(names)}
  label2id = {name: index for index, name in enumerate(names)}
  change_json(
    folder / 'classifier' / 'config.json', id2label=id2label, label2id=label2id, **changes
  )


@pytest.mark.parametrize(
  'fault, names, flag',
  [
    ('labels of which one means toxic', ('hate', 'nothate'), ''),
    ('labels that do not say which is toxic', ('NEGATIVE', 'POSITIVE'), ''),
    ('--label=hat', ('hate', 'nothate'), '--label=hat'),
    ('--prompt_field without --reference', ('neutral', 'toxic'), '--prompt_field=prompt'),
  ],
)
def test_labels_are_told_when_texts_are_scored(fault, names, flag, folder, ends_as_documented):
  name_labels(folder, *names)
  flags = [flag] if flag else []
  command = commands.score(folder, model=folder / 'classifier', flags=flags)
  ends_as_documented(fault, 'score', command)


@pytest.mark.parametrize(
  'fault, names, changes, flag',
  [
    ('a run with labels that do not say which is toxic', ('NEGATIVE', 'POSITIVE'), {}, ''),
    ('--config.models.label=hat', ('hate', 'nothate'), {}, '--config.models.label=hat'),
    (
      'probabilities of a regression',
      ('neutral', 'toxic'),
      {'problem_type': 'regression'},
      '--config.ppo.reward=probability',
    ),
  ],
)
def test_a_run_needs_a_toxic_label(fault, names, changes, flag, folder, ends_as_documented):
  name_labels(folder, *names, **changes)
  ends_as_documented(fault, 'train', commands.train(folder, *([flag] if flag else [])))


def aligned_model(folder: pathlib.Path) -> list[str]:
  """Writes aligned/, the model with other weights; returns the arguments of an audit."""
  shutil.copytree(folder / 'model', folder / 'aligned')
  file = folder / 'aligned' / 'model.safetensors'
  tensors = safetensors.numpy.load_file(file)
  safetensors.numpy.save_file({name: 1.5 * array for name, array in tensors.items()}, file)
  return [
    f'--config={commands.ROOT / "configs" / "smoke.py"}',
    f'--workdir={folder / "run"}',
    '--config.stages=data,demos',
    f'--config.models.base={folder / "model"}',
    f'--config.models.aligned={folder / "aligned"}',
  ]


def test_an_audit_of_other_ids_ends_before_it_starts(folder, ends_as_documented):
  arguments = aligned_model(folder)
  words = json.loads((folder / 'aligned' / 'tokenizer.json').read_text())
  vocabulary = words['model']['vocab']
  vocabulary['a'], vocabulary['b'] = vocabulary['b'], vocabulary['a']
  (folder / 'aligned' / 'tokenizer.json').write_text(json.dumps(words))
  ends_as_documented('an audit of models with other ids for one text', 'train', arguments)
  assert not (folder / 'run' / 'data').exists()


@pytest.mark.slow
def test_an_audit_tells_of_what_is_not_training(folder, ends_as_documented):
  arguments = aligned_model(folder)
  chat_token(folder / 'aligned')
  rope = json.loads((folder / 'aligned' / 'config.json').read_text())['rope_parameters']
  rope['partial_rotary_factor'] = 1.0
  change_json(folder / 'aligned' / 'config.json', rope_parameters=rope)
  ends_as_documented(
    'an audit of models with another rotary share and a special token more', 'train', arguments
  )
