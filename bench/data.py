"The data chapter against the libraries it is held to"
import random
from functools import cache
from harness import Row

count, threshold = 20_000, .8


@cache
def documents():
    "Pages of the village, a tenth of them again with a few words changed"
    from llm_course.world import corpus
    pages, r = corpus(6_000_000), random.Random(0)
    fresh = pages[:count*9//10]
    return fresh + [' '.join(r.choice(['other', word]) if r.random() < .03 else word for word in page.split()) for page in fresh[:count-len(fresh)]]


@cache
def shingled():
    from llm_course.data.filter import shingles
    return [shingles(page) for page in documents()]


@cache
def truth():
    "Pairs of a page and its changed copy that are really alike"
    from llm_course.data.filter import jaccard
    first = count*9//10
    sets = shingled()
    return {(i, first+i) for i in range(count-first) if jaccard(sets[i], sets[first+i]) >= threshold}


def near_ours():
    from llm_course.data.filter import near_duplicates
    texts = documents()
    return lambda: near_duplicates(texts, threshold)


def near_peer():
    "Signatures, index, questions; its candidates are not verified"
    from datasketch import MinHash, MinHashLSH
    from llm_course.data.filter import shingles
    texts = documents()
    def work():
        index, signatures = MinHashLSH(threshold=threshold, num_perm=128), []
        for text in texts:
            signatures.append(MinHash(num_perm=128))
            signatures[-1].update_batch([shingle.encode() for shingle in shingles(text)])
        with index.insertion_session() as session:
            for i, signature in enumerate(signatures): session.insert(i, signature)
        return [{i, *index.query(signature)} for i, signature in enumerate(signatures)]
    return work


def recall(ours, peer):
    "Ours must find no fewer of the planted pairs"
    cluster = {i: n for n, found in enumerate(ours) for i in found}
    mine = sum(cluster.get(i, -1) == cluster.get(j, -2) for i, j in truth())/len(truth())
    theirs = sum(j in peer[i] for i, j in truth())/len(truth())
    assert mine >= theirs, f'recall {mine:.3f}, the peer has {theirs:.3f}'
    return f'recall {mine:.3f}, peer {theirs:.3f}'


@cache
def sizes():
    "Tokens a document, skewed as real ones are"
    r = random.Random(1)
    return [min(2048, 1+int(r.lognormvariate(5.5, 1))) for _ in range(count)]


def plan_ours():
    from llm_course.data.template import best_fit
    lengths = sizes()
    return lambda: len(best_fit(lengths, 2048))


def plan_peer():
    "It plans and packs in one"
    import datasets
    from trl.data_utils import pack_dataset
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict(dict(input_ids=[[0]*n for n in sizes()]))
    return lambda: len(pack_dataset(data, 2048, 'bfd', dict(load_from_cache_file=False, keep_in_memory=True)))


def fill(ours, peer):
    "The fewer rows, the fuller"
    assert ours <= peer, f'{ours} rows, the peer needs {peer}'
    mine, theirs = (sum(sizes())/2048/rows for rows in (ours, peer))
    return f'{mine:.1%} full, peer {theirs:.1%}'


@cache
def exercises():
    "2,000 known instructions of the village and 300 new ones"
    from llm_course.world import tasks
    return [t.prompt for t in tasks(2000)], [t.prompt for t in tasks(300, split='test', seed=5)]


def novelty_ours():
    "The pool is built inside what is timed"
    from llm_course.data.instruct import Pool
    known, new = exercises()
    def work():
        pool = Pool(known)
        return [pool.scores(text).max() for text in new]
    return work


def novelty_peer():
    "As the programs of self-instruct and Alpaca do: known texts tokenized once, its LCS for every pair"
    from rouge_score.rouge_scorer import RougeScorer, _score_lcs
    known, new = exercises()
    def work():
        tokenize = RougeScorer(['rougeL'])._tokenizer.tokenize
        pool = [tokenize(text) for text in known]
        return [max(_score_lcs(words, tokens).fmeasure for words in pool) for tokens in map(tokenize, new)]
    return work


def equal(ours, peer):
    worst = max(abs(a-b) for a, b in zip(ours, peer, strict=True))
    assert worst <= 1e-9, f'scores differ by {worst}'
    return f'largest difference {worst:.1e}'


rows = [Row('near-duplicates', 'datasketch', near_ours, near_peer, recall, ratio=1/1.5),
        Row('packing-plan', 'trl', plan_ours, plan_peer, fill, most=.2),
        Row('novelty', 'rouge-score', novelty_ours, novelty_peer, equal, ratio=1/3)]
