"The architecture chapter against the libraries it is held to; one text, Python's own documentation and library"
import itertools, sysconfig
from functools import cache
from pathlib import Path
from harness import Row, grown

size = 5_000_000


@cache
def text():
    "The documents, five million characters of them"
    from llm_course.world import python_docs
    modules = sorted(path for path in Path(sysconfig.get_path('stdlib')).rglob('*.py') if 'site-packages' not in path.parts)
    found, total = [], 0
    for document in itertools.chain(python_docs(), (path.read_text(encoding='utf-8', errors='replace') for path in modules)):
        found.append(document[:size-total])
        total += len(found[-1])
        if total == size: return found


def train_ours():
    from llm_course.architecture.tokenizer import train_bpe
    documents = text()
    return lambda: train_bpe(documents, 4096)


def train_peer():
    "The library with the same cuts, every byte in its alphabet"
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from llm_course.architecture.tokenizer import GPT4
    documents, learner = text(), Tokenizer(models.BPE())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), 'isolated'), bytes_only])
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4096, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    def work():
        learner.train_from_iterator(documents, trainer)
        return learner
    return work


def same_vocabulary(ours, peer):
    "Ties are broken by ids that differ, so a few of the last entries may"
    from llm_course.architecture.tokenizer import from_tokenizers
    shared = len({*ours.vocab.values()} & {*from_tokenizers(peer).vocab.values()})/len(ours.vocab)
    assert shared > .99, f'only {shared:.1%} of the entries are the same'
    return f'{shared:.1%} of the entries'


@cache
def learner(): return train_peer()()


@cache
def ranks():
    from llm_course.architecture.tokenizer import from_tokenizers
    return {piece: i for i, piece in from_tokenizers(learner()).vocab.items()}


def encode_all(encode): return lambda: [encode(document) for document in text()]


def encode_like_tokenizers():
    from llm_course.architecture.tokenizer import from_tokenizers
    return encode_all(from_tokenizers(learner()).encode)


def encode_tokenizers():
    from tokenizers import Tokenizer
    fresh = Tokenizer.from_str(learner().to_str()) # an empty cache, like ours
    return encode_all(lambda document: fresh.encode(document).ids)


def encode_like_tiktoken():
    from llm_course.architecture.tokenizer import GPT4, from_tiktoken_ranks
    return encode_all(from_tiktoken_ranks(ranks(), GPT4).encode)


def encode_tiktoken():
    import tiktoken
    from llm_course.architecture.tokenizer import GPT4
    return encode_all(tiktoken.Encoding('ours', pat_str=GPT4, mergeable_ranks=ranks(), special_tokens={}).encode_ordinary)


def same_ids(ours, peer):
    assert ours == peer, 'the ids differ'
    return f'{sum(map(len, ours)):,} ids'


@cache
def heads(length=2048):
    "Queries, keys, values"
    import torch
    torch.set_num_threads(1)
    return torch.randn(3, 1, 8, length, 64, generator=torch.Generator().manual_seed(0)).unbind()


def tiled():
    from llm_course.architecture.attention import tiled_attention
    q, k, v = heads()
    return lambda: tiled_attention(q, k, v, causal=True)[0]


def naive():
    from llm_course.architecture.attention import attention
    q, k, v = heads()
    return lambda: attention(q, k, v, causal=True)


def sdpa():
    from torch.nn.functional import scaled_dot_product_attention
    q, k, v = heads()
    return lambda: scaled_dot_product_attention(q, k, v, is_causal=True)


def same_numbers(ours, peer):
    gap = (ours-peer).abs().max().item()
    assert gap < 1e-5, f'the outputs differ by {gap:.1g}'
    return f'within {gap:.0e}'


@cache
def pair(name):
    "A shipped model of transformers and the same as ours"
    import torch
    from llm_course.architecture.llama import Llama
    from llm_course.core import tiny
    torch.set_num_threads(1)
    theirs, tokenizer = tiny(name)
    return theirs, Llama.from_hf(theirs), tokenizer


def prompts(batch, length=16):
    "Beginnings of stories, (B,T)"
    import torch
    from llm_course.world import stories
    tokenizer = pair('base')[2]
    return torch.tensor([tokenizer(story)['input_ids'][:length] for story in stories(batch, seed=7)])


def generate_ours(batch, n=128):
    def ready():
        from llm_course.architecture.generation import generate
        model, ids = pair('base')[1], prompts(batch)
        return lambda: generate(model, ids, n)
    return ready


def generate_peer(batch, n=128):
    def ready():
        import torch
        model, ids = pair('base')[0], prompts(batch)
        how = dict(do_sample=False, eos_token_id=None, pad_token_id=0)
        return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n, **how)
    return ready


def same_tokens(ours, peer):
    assert ours.tolist() == peer.tolist(), 'the tokens differ'
    return f'{ours.numel():,} tokens'


@cache
def questions():
    "Tasks over stories as the chat model gets them"
    import torch
    from llm_course.world import tasks
    tokenizer = pair('chat')[2]
    chats = [[dict(role='user', content=task.prompt)] for task in tasks(20, 'summary', split='test', seed=1)]
    return [torch.tensor([tokenizer.apply_chat_template(chat, add_generation_prompt=True)['input_ids']]) for chat in chats]


def plain():
    from llm_course.architecture.generation import generate
    model, end = pair('chat')[1], pair('chat')[2].eos_token_id
    asked = questions()
    return lambda: [generate(model, ids, 48, stop=(end,)).tolist() for ids in asked]


def with_draft():
    from llm_course.architecture.generation import speculative
    model, draft, end = pair('chat')[1], pair('draft')[1], pair('chat')[2].eos_token_id
    asked = questions()
    return lambda: [speculative(model, draft, ids, 48, k=4, stop=(end,))[0].tolist() for ids in asked]


def same_answers(ours, peer):
    assert ours == peer, 'the answers differ'
    return f'{len(ours)} answers'


rows = [Row('bpe-training', 'tokenizers', train_ours, train_peer, same_vocabulary, ratio=2.5),
        Row('bpe-encoding', 'tokenizers', encode_like_tokenizers, encode_tokenizers, same_ids, ratio=1.),
        Row('bpe-encoding-ranks', 'tiktoken', encode_like_tiktoken, encode_tiktoken, same_ids, ratio=3.),
        Row('tiled-attention', 'torch SDPA', tiled, sdpa, same_numbers, ratio=2.5),
        Row('tiled-attention-memory', 'naive attention', tiled, naive, same_numbers, ratio=.1, cost=grown),
        *[Row(f'generation-{batch}', 'transformers.generate', generate_ours(batch), generate_peer(batch), same_tokens, ratio=1.) for batch in (1, 16)],
        Row('speculative', 'plain decoding', with_draft, plain, same_answers)]
