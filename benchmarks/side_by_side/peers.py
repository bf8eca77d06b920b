"""The peers: transformers' models in torch, and the loops of the paper's released code.

torch is used as well as its documentation says: as many threads as cores, no gradients if none are
needed, scaled-dot-product attention. Random weights.

The authors' loops are rewritten as they run: one text or one pair at a time, nothing cached. Their
RLHF scores with a text-classification pipeline that pads each text to 512 tokens. Their IRL runs
the language model with its head over each text and puts a linear reward on the last state; after
every epoch it scores all texts with the learned reward and again with the true one. If the released
code leaves a choice, the cheaper way is taken: one optimiser step for 32 pairs, texts of the true
reward not padded, no gradients in the evaluation.
"""

from collections.abc import Callable
from collections.abc import Sequence
import tempfile

import torch
from torch.nn import functional
import transformers

from side_by_side import costs
from side_by_side import inputs
from side_by_side import turns

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SCORING_BATCHES = (16, 32, 64)  # texts in a batch; the fastest is taken
PAIRS_IN_A_STEP = 32  # pairs in a step of the authors' IRL
TOP_K = 30


def prepare() -> None:
  """Uses as many threads as cores, and prints no advice."""
  torch.set_num_threads(turns.cores())
  torch.manual_seed(0)
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()


def wait() -> None:
  """Waits until the device has done all."""
  if DEVICE == 'cuda':
    torch.cuda.synchronize()


def sizes_of(shape: costs.Shape) -> dict[str, int]:
  """A shape under transformers' names."""
  return dict(
    vocab_size=shape.vocabulary,
    hidden_size=shape.width,
    num_hidden_layers=shape.blocks,
    num_attention_heads=shape.heads,
    intermediate_size=shape.feed_forward,
  )


def language_model(shape: costs.Shape) -> transformers.GPTNeoXForCausalLM:
  """A Pythia of that shape."""
  prepare()
  config = transformers.GPTNeoXConfig(
    **sizes_of(shape),
    max_position_embeddings=2048,
    bos_token_id=0,
    eos_token_id=0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
  )
  return transformers.GPTNeoXForCausalLM(config).to(DEVICE)


def classifier(shape: costs.Shape) -> transformers.RobertaForSequenceClassification:
  """A RoBERTa of that shape."""
  prepare()
  config = transformers.RobertaConfig(
    **sizes_of(shape),
    max_position_embeddings=514,
    type_vocab_size=1,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
  )
  return transformers.RobertaForSequenceClassification(config).to(DEVICE).eval()


def ids_of(batch: int, tokens: int, shape: costs.Shape) -> torch.Tensor:
  """Random token ids [batch, tokens]."""
  return torch.tensor(inputs.random_ids(batch, tokens, shape.vocabulary), device=DEVICE)


@torch.inference_mode()
def generate(
  model: transformers.GPTNeoXForCausalLM, prompts: torch.Tensor, new: int
) -> torch.Tensor:
  """Samples `new` tokens after every prompt, with the cache."""
  return model.generate(
    prompts,
    attention_mask=torch.ones_like(prompts),
    do_sample=True,
    top_k=TOP_K,
    use_cache=True,
    max_new_tokens=new,
    min_new_tokens=new,
    pad_token_id=1,
  )


def decode(lap: turns.Lap, work: costs.Work) -> None:
  """`generate`: in float32, on a GPU in bfloat16, as ours."""
  dtype = torch.float32 if DEVICE == 'cpu' else torch.bfloat16
  model = language_model(work.shape).eval().to(dtype)
  prompts = ids_of(work.batch, work.prompt, work.shape)
  turns.repeat(lap, lambda: (generate(model, prompts, work.new), wait()))


def step(
  loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
) -> None:
  """Backward, clip, AdamW."""
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  torch.nn.utils.clip_grad_norm_(parameters, 1.0)
  optimizer.step()


def train(lap: turns.Lap, work: costs.Work, half: bool = False) -> None:
  """Steps of language modelling: the model's own loss, AdamW."""
  model = language_model(work.shape).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
  ids = ids_of(work.batch, work.tokens, work.shape)

  def one_step() -> None:
    with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
      loss = model(input_ids=ids, labels=ids).loss
    step(loss, optimizer, list(model.parameters()))
    wait()

  turns.repeat(lap, one_step)


def train_bfloat16(lap: turns.Lap, work: costs.Work) -> None:
  """The same in bfloat16, by autocast over float32 weights."""
  train(lap, work, half=True)


@torch.inference_mode()
def logits(model, tokenizer, texts: Sequence[str], batch: int, longest: int) -> torch.Tensor:
  """Logits of texts: sorted by length, batched, each batch padded to its longest text."""
  rows = tokenizer(list(texts), truncation=True, max_length=longest)['input_ids']
  order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
  out = torch.empty(len(rows), model.num_labels)
  for start in range(0, len(order), batch):
    picked = order[start : start + batch]
    padded = tokenizer.pad({'input_ids': [rows[row] for row in picked]}, return_tensors='pt')
    out[picked] = model(**padded.to(DEVICE)).logits.float().cpu()
  return out


def score(lap: turns.Lap, work: costs.Work) -> None:
  """Logits of texts, in batches of the size that was fastest when it was tried."""
  model, tokenizer = classifier(work.scorer), inputs.tokenizer('roberta_tokenizer')
  run = lambda batch: logits(model, tokenizer, work.texts, batch, 512)
  run(max(SCORING_BATCHES))
  best = min(SCORING_BATCHES, key=lambda batch: seconds_of(lap, lambda: run(batch)))
  turns.repeat(lap, lambda: run(best))


def seconds_of(lap: turns.Lap, work: Callable[[], object]) -> float:
  """Returns the seconds that some work takes."""
  start = lap.elapsed()
  work()
  wait()
  return lap.elapsed() - start


def load(lap: turns.Lap, work: costs.Work) -> None:
  """Reads a Hugging Face folder: weights and tokenizer."""

  def read(folder: str) -> None:
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    transformers.AutoTokenizer.from_pretrained(folder)

  with tempfile.TemporaryDirectory() as folder:
    language_model(work.shape).save_pretrained(folder)
    inputs.tokenizer('pythia_tokenizer').save_pretrained(folder)
    turns.repeat(lap, lambda: read(folder))


def save(lap: turns.Lap, work: costs.Work) -> None:
  """Writes a Hugging Face folder."""
  model, tokenizer = language_model(work.shape), inputs.tokenizer('pythia_tokenizer')
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: (model.save_pretrained(folder), tokenizer.save_pretrained(folder)))


def trained(shape: costs.Shape) -> dict[str, dict]:
  """State of a model and its AdamW after one step."""
  model = language_model(shape)
  optimizer = torch.optim.AdamW(model.parameters())
  ids = ids_of(1, 2, shape)
  step(model(input_ids=ids, labels=ids).loss, optimizer, list(model.parameters()))
  return {'model': model.state_dict(), 'optimizer': optimizer.state_dict()}


def checkpoint_save(lap: turns.Lap, work: costs.Work) -> None:
  """torch.save of parameters and both moments."""
  state = trained(work.shape)
  with tempfile.TemporaryDirectory() as folder:
    turns.repeat(lap, lambda: torch.save(state, f'{folder}/checkpoint.pt'))


def checkpoint_load(lap: turns.Lap, work: costs.Work) -> None:
  """torch.load of the same."""
  with tempfile.TemporaryDirectory() as folder:
    torch.save(trained(work.shape), f'{folder}/checkpoint.pt')
    turns.repeat(lap, lambda: torch.load(f'{folder}/checkpoint.pt', weights_only=True))


class ActorCritic(torch.nn.Module):
  """A policy and its values, two dense layers on the last states."""

  def __init__(self, shape: costs.Shape):
    super().__init__()
    self.policy = language_model(shape)
    self.value = torch.nn.Sequential(
      torch.nn.Linear(shape.width, 2 * shape.width),
      torch.nn.ReLU(),
      torch.nn.Linear(2 * shape.width, 1),
    ).to(DEVICE)

  def forward(self, ids: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and values [B, T] of the last `new` tokens; logits at their positions only."""
    hidden = self.policy.gpt_neox(ids).last_hidden_state[:, -new - 1 : -1]
    return log_probs(self.policy, hidden, ids[:, -new:]), self.value(hidden)[..., 0]


def log_probs(
  model: transformers.GPTNeoXForCausalLM, hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
  """Log-probability [B, T] of each target."""
  flat = model.get_output_embeddings()(hidden).flatten(0, 1)
  return -functional.cross_entropy(flat, targets.flatten(), reduction='none').view_as(targets)


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
  new: tuple, old: tuple, advantages: torch.Tensor, returns: torch.Tensor
) -> torch.Tensor:
  """Clipped losses of policy and values."""
  (log_prob, value), (old_log_prob, old_value) = new, old
  ratio = torch.exp(log_prob - old_log_prob)
  policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
  clipped = old_value + (value - old_value).clamp(-0.2, 0.2)
  squared = torch.maximum((value - returns) ** 2, (clipped - returns) ** 2)
  return policy.mean() + 0.5 * squared.mean()


def ppo(lap: turns.Lap, work: costs.Work) -> None:
  """Iterations of PPO, everything trained: rollout, score and epochs as ours."""
  shape, new = work.shape, work.new
  model, reference, judge = (
    ActorCritic(shape),
    language_model(shape).eval(),
    classifier(work.scorer),
  )
  reference.load_state_dict(model.policy.state_dict())
  words, judge_words = inputs.tokenizer('pythia_tokenizer'), inputs.tokenizer('roberta_tokenizer')
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-6, betas=(0.9, 0.95), weight_decay=1e-6)
  prompts = ids_of(work.batch, work.prompt, shape)

  def iteration() -> dict[str, float]:
    ids = generate(model.policy, prompts, new).clone()
    rollout = lap.elapsed()
    texts, longest = words.batch_decode(ids), work.prompt + new
    score = -logits(judge, judge_words, texts, work.batch, longest)[:, 1].to(DEVICE)
    scored = lap.elapsed()
    with torch.no_grad():
      old = model(ids, new)
      hidden = reference.gpt_neox(ids).last_hidden_state[:, -new - 1 : -1]
      rewards = -0.035 * (old[0] - log_probs(reference, hidden, ids[:, -new:]))
      rewards[:, -1] += score
      targets = advantages_and_returns(rewards, old[1])
    for _ in range(work.epochs):
      step(ppo_loss(model(ids, new), old, *targets), optimizer, list(model.parameters()))
    wait()
    return {'rollout': rollout, 'score': scored - rollout, 'update': lap.elapsed() - scored}

  while True:
    lap(iteration())


def authors_score(lap: turns.Lap, work: costs.Work) -> None:
  """Scores one text at a time, padded to 512."""
  model, tokenizer = classifier(work.scorer), inputs.tokenizer('roberta_tokenizer')
  padded = dict(padding='max_length', truncation=True, max_length=512, return_tensors='pt')

  @torch.inference_mode()
  def score_all() -> None:
    for text in work.texts:
      model(**tokenizer(text, **padded).to(DEVICE))
    wait()

  turns.repeat(lap, score_all)


class Reward(torch.nn.Module):
  """The authors': linear on the last state of a language model, whose head is run with it."""

  def __init__(self, shape: costs.Shape):
    super().__init__()
    self.model = language_model(shape)
    self.head = torch.nn.Linear(shape.width, 2, bias=False).to(DEVICE)

  def forward(self, ids: torch.Tensor) -> torch.Tensor:
    """Reward [B] of texts of one length."""
    states = self.model(ids, output_hidden_states=True).hidden_states
    return -self.head(states[-1][:, -1])[:, -1]


def authors_irl(lap: turns.Lap, work: costs.Work) -> None:
  """Trains on `pairs` pairs per turn, one at a time, with its share of a step; then evaluates.

  The parts: `training`, `evaluation` with the learned reward, and `true_rewards`.
  """
  words, judge_words = inputs.tokenizer('pythia_tokenizer'), inputs.tokenizer('roberta_tokenizer')
  reward, judge = Reward(work.shape), classifier(work.scorer)
  optimizer = torch.optim.Adam(reward.parameters(), lr=1e-4)
  texts = inputs.texts_of(words, 2 * work.pairs, work.tokens)

  def read(tokenizer, text: str) -> torch.Tensor:
    encoded = tokenizer(text, truncation=True, max_length=512, return_tensors='pt')
    return encoded.to(DEVICE)['input_ids']

  def train_pairs() -> None:
    for aligned, base in zip(texts[::2], texts[1::2]):
      margin = reward(read(words, aligned)) - reward(read(words, base))
      torch.where(margin > 0, -margin, -2 * margin).sum().backward()

  @torch.no_grad()
  def evaluate(model, tokenizer) -> None:
    for text in texts:
      model(read(tokenizer, text))

  while True:
    training = seconds_of(lap, train_pairs)
    share = work.pairs / PAIRS_IN_A_STEP
    parts = {
      'training': training + share * seconds_of(lap, optimizer.step),
      'evaluation': seconds_of(lap, lambda: evaluate(reward, words)),
      'true_rewards': seconds_of(lap, lambda: evaluate(judge, judge_words)),
    }
    lap(parts, seconds=sum(parts.values()))
