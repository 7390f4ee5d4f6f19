"The architecture chapter against the libraries it is held to; one text, Python's own documentation and library"
import itertools, sysconfig
from functools import cache
from pathlib import Path
from harness import Row

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


rows = [Row('bpe-training', 'tokenizers', train_ours, train_peer, same_vocabulary, ratio=2.5),
        Row('bpe-encoding', 'tokenizers', encode_like_tokenizers, encode_tokenizers, same_ids, ratio=1.),
        Row('bpe-encoding-ranks', 'tiktoken', encode_like_tiktoken, encode_tiktoken, same_ids, ratio=3.)]
