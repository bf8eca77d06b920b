"""The chat templates of models: how they read conversations, and whether two read them alike."""

from collections.abc import Sequence

from irl_jax.data import chat
from irl_jax.data import chat_texts
from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models import pretrained

CHECKED = 20  # rendered texts that are compared


def chat_model(members: Sequence[pretrained.Pretrained], name: str) -> chat_texts.ChatModel:
  """Returns how a model, or an ensemble of several, reads conversations.

  Args:
    members: at least one; their weights are not read.
    name: that of the model, for messages.

  Raises:
    InputError: the members have different chat templates.
  """
  first = members[0]
  if len({str(getattr(one.tokenizer, 'chat_template', None)) for one in members}) > 1:
    raise InputError(f'{name}: its members have different chat templates; score one of them')
  return chat_texts.ChatModel(name, chat.template_of(first.tokenizer), first.kind == 'classifier')


def check_alike(models: Sequence[pretrained.Decoder], texts: Sequence[str], remedy: str) -> None:
  """Refuses a chat template that models tokenise differently.

  Args:
    models: two, for example.
    texts: the first of those that a template rendered are compared.
    remedy: what to do about it.

  Raises:
    InputError: the ids differ, because one of the models lacks the template's special tokens.
  """
  rendered = [one for one in texts if chat.is_marked(one)][:CHECKED]
  ids = [text.encode(model.tokenizer, rendered)[0] for model in models]
  if any(one != ids[0] for one in ids):
    raise InputError(
      f'{" and ".join(model.source for model in models)} read the chat template as different '
      f'tokens; one of them lacks its special tokens. {remedy}'
    )
