"""The peers: transformers' models in torch, used as well as its documentation says, and plain training loops on them.

Two threads on two cores; no gradients where none are needed; scaled-dot-product attention. Random weights.
"""

from collections.abc import Callable
from collections.abc import Sequence
import tempfile

import torch
from torch.nn import functional
import transformers

from side_by_side import inputs
from side_by_side import limits
from side_by_side import turns

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SCORING_BATCHES = (16, 32, 64)  # texts in a batch; the fastest is taken


def prepare() -> None:
  """As many threads as there are cores, and no advice on the terminal."""
  torch.set_num_threads(turns.cores())
  torch.manual_seed(0)
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()


def wait() -> None:
  """Until the device has done all."""
  if DEVICE == 'cuda':
    torch.cuda.synchronize()


def language_model(shape: limits.Shape) -> transformers.GPTNeoXForCausalLM:
  """A Pythia of that shape."""
  prepare()
  return transformers.GPTNeoXForCausalLM(
    transformers.GPTNeoXConfig(
      vocab_size=shape.vocabulary,
      hidden_size=shape.width,
      num_hidden_layers=shape.blocks,
      num_attention_heads=shape.heads,
      intermediate_size=shape.feed_forward,
      max_position_embeddings=2048,
      bos_token_id=0,
      eos_token_id=0,
      hidden_dropout=0.0,
      attention_dropout=0.0,
    )
  ).to(DEVICE)


def classifier(shape: limits.Shape) -> transformers.RobertaForSequenceClassification:
  """A RoBERTa of that shape."""
  prepare()
  return (
    transformers.RobertaForSequenceClassification(
      transformers.RobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
      )
    )
    .to(DEVICE)
    .eval()
  )


def ids_of(batch: int, tokens: int, shape: limits.Shape) -> torch.Tensor:
  """Random token ids [batch, tokens]."""
  return torch.tensor(inputs.random_ids(batch, tokens, shape.vocabulary), device=DEVICE)


@torch.inference_mode()
def generate(
  model: transformers.GPTNeoXForCausalLM, prompts: torch.Tensor, new: int, top_k: int
) -> torch.Tensor:
  """Samples `new` tokens after every prompt, with the cache."""
  return model.generate(
    prompts,
    attention_mask=torch.ones_like(prompts),
    do_sample=True,
    top_k=top_k,
    use_cache=True,
    max_new_tokens=new,
    min_new_tokens=new,
    pad_token_id=1,
  )


def decode(
  lap: turns.Lap, *, shape: limits.Shape, batch: int, prompt: int, new: int, top_k: int
) -> None:
  """`generate`: in float32, on a GPU in bfloat16, as ours."""
  model = language_model(shape).eval().to(torch.float32 if DEVICE == 'cpu' else torch.bfloat16)
  prompts = ids_of(batch, prompt, shape)
  turns.repeat(lap, lambda: (generate(model, prompts, new, top_k), wait()))


def step(
  loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
) -> None:
  """Backward, clip, AdamW."""
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  torch.nn.utils.clip_grad_norm_(parameters, 1.0)
  optimizer.step()


def train(lap: turns.Lap, *, shape: limits.Shape, batch: int, tokens: int, dtype: str) -> None:
  """Steps of language modelling: the model's own loss, AdamW; bfloat16 by autocast over float32 weights."""
  model = language_model(shape).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
  ids = ids_of(batch, tokens, shape)

  def work() -> None:
    with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == 'bfloat16'):
      loss = model(input_ids=ids, labels=ids).loss
    step(loss, optimizer, list(model.parameters()))
    wait()

  turns.repeat(lap, work)


@torch.inference_mode()
def logits(model, tokenizer, texts: Sequence[str], batch: int, longest: int) -> torch.Tensor:
  """Logits of texts: sorted by length, batched, each batch padded to its longest text."""
  rows = tokenizer(list(texts), truncation=True, max_length=longest)['input_ids']
  order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
  out = torch.empty(len(rows), model.num_labels)
  for start in range(0, len(order), batch):
    picked = order[start : start + batch]
    padded = tokenizer.pad({'input_ids': [rows[row] for row in picked]}, return_tensors='pt').to(
      DEVICE
    )
    out[picked] = model(**padded).logits.float().cpu()
  return out


def score(lap: turns.Lap, *, shape: limits.Shape, texts: Sequence[str], models: str) -> None:
  """Logits of texts, in batches of the size that was fastest when it was tried."""
  model, tokenizer = classifier(shape), inputs.roberta_tokenizer(models)
  run = lambda batch: logits(model, tokenizer, texts, batch, 512)
  run(max(SCORING_BATCHES))
  best = min(SCORING_BATCHES, key=lambda batch: _seconds(lap, lambda: run(batch)))
  turns.repeat(lap, lambda: run(best))


def _seconds(lap: turns.Lap, work: Callable[[], object]) -> float:
  start = lap.elapsed()
  work()
  return lap.elapsed() - start


def load(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Reads a Hugging Face folder: weights and tokenizer."""
  with tempfile.TemporaryDirectory() as folder:
    language_model(shape).save_pretrained(folder)
    inputs.pythia_tokenizer(models).save_pretrained(folder)
    turns.repeat(
      lap,
      lambda: (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        transformers.AutoTokenizer.from_pretrained(folder),
      ),
    )


def save(lap: turns.Lap, *, shape: limits.Shape, models: str) -> None:
  """Writes a Hugging Face folder."""
  model, tokenizer = language_model(shape), inputs.pythia_tokenizer(models)
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: (model.save_pretrained(folder), tokenizer.save_pretrained(folder)))


def _trained(shape: limits.Shape) -> dict[str, dict]:
  """State of a model and its AdamW after one step."""
  model = language_model(shape)
  optimizer = torch.optim.AdamW(model.parameters())
  ids = ids_of(1, 2, shape)
  step(model(input_ids=ids, labels=ids).loss, optimizer, list(model.parameters()))
  return {'model': model.state_dict(), 'optimizer': optimizer.state_dict()}


def checkpoint_save(lap: turns.Lap, *, shape: limits.Shape) -> None:
  """torch.save of parameters and both moments."""
  state = _trained(shape)
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: torch.save(state, f'{folder}/checkpoint.pt'))


def checkpoint_load(lap: turns.Lap, *, shape: limits.Shape) -> None:
  """torch.load of the same."""
  with tempfile.TemporaryDirectory() as folder:
    torch.save(_trained(shape), f'{folder}/checkpoint.pt')
    turns.repeat(lap, lambda: torch.load(f'{folder}/checkpoint.pt', weights_only=True))


class ActorCritic(torch.nn.Module):
  """A policy and its values, two dense layers on the last states."""

  def __init__(self, shape: limits.Shape):
    super().__init__()
    self.policy = language_model(shape)
    self.value = torch.nn.Sequential(
      torch.nn.Linear(shape.width, 2 * shape.width),
      torch.nn.ReLU(),
      torch.nn.Linear(2 * shape.width, 1),
    ).to(DEVICE)

  def forward(self, ids: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and values [B, T] of the last `new` tokens; logits at their positions only."""
    hidden = self.policy.gpt_neox(ids).last_hidden_state[:, -new - 1 : -1]
    return log_probs(self.policy, hidden, ids[:, -new:]), self.value(hidden)[..., 0]


def log_probs(
  model: transformers.GPTNeoXForCausalLM, hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
  """Log-probability [B, T] of each target."""
  return -functional.cross_entropy(
    model.get_output_embeddings()(hidden).flatten(0, 1), targets.flatten(), reduction='none'
  ).view_as(targets)


def advantages_and_returns(
  rewards: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
  """Generalised advantage estimation, discount 1, lambda .95; advantages whitened."""
  advantages, carried = torch.zeros_like(values), torch.zeros_like(values[:, 0])
  for position in reversed(range(values.shape[1])):
    following = values[:, position + 1] if position + 1 < values.shape[1] else 0.0
    carried = rewards[:, position] + following - values[:, position] + 0.95 * carried
    advantages[:, position] = carried
  return (advantages - advantages.mean()) / (advantages.std() + 1e-8), advantages + values


def ppo_loss(
  found: tuple, old: tuple, advantages: torch.Tensor, returns: torch.Tensor
) -> torch.Tensor:
  """Clipped losses of policy and values."""
  (log_prob, value), (old_log_prob, old_value) = found, old
  ratio = torch.exp(log_prob - old_log_prob)
  policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
  clipped = old_value + (value - old_value).clamp(-0.2, 0.2)
  return (
    policy.mean() + 0.5 * torch.maximum((value - returns) ** 2, (clipped - returns) ** 2).mean()
  )


def ppo(
  lap: turns.Lap,
  *,
  shape: limits.Shape,
  scorer: limits.Shape,
  batch: int,
  prompt: int,
  new: int,
  epochs: int,
  top_k: int,
  models: str,
) -> None:
  """Iterations of PPO, everything trained: the same rollout, score and epochs as ours, each epoch one minibatch."""
  model, reference, judge = ActorCritic(shape), language_model(shape).eval(), classifier(scorer)
  reference.load_state_dict(model.policy.state_dict())
  words, judge_words = inputs.pythia_tokenizer(models), inputs.roberta_tokenizer(models)
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-6, betas=(0.9, 0.95), weight_decay=1e-6)
  prompts = ids_of(batch, prompt, shape)

  def work() -> dict[str, float]:
    ids = generate(model.policy, prompts, new, top_k).clone()
    rollout = lap.elapsed()
    score = -logits(judge, judge_words, words.batch_decode(ids), batch, prompt + new)[:, 1].to(
      DEVICE
    )
    scored = lap.elapsed()
    with torch.no_grad():
      old = model(ids, new)
      kept = log_probs(
        reference, reference.gpt_neox(ids).last_hidden_state[:, -new - 1 : -1], ids[:, -new:]
      )
      rewards = -0.035 * (old[0] - kept)
      rewards[:, -1] += score
      targets = advantages_and_returns(rewards, old[1])
    for _ in range(epochs):
      step(ppo_loss(model(ids, new), old, *targets), optimizer, list(model.parameters()))
    wait()
    return {'rollout': rollout, 'score': scored - rollout, 'update': lap.elapsed() - scored}

  while True:
    lap(work())
