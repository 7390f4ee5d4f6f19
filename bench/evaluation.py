"The evaluation chapter against the libraries it is held to"
import random
from functools import cache
from harness import Row


@cache
def pages():
    "Paragraphs of documentation, and the same with a fifth of the words knocked out"
    from llm_course.world import python_docs
    r = random.Random(0)
    wanted = [part for page in python_docs() for part in page.split('\n\n') if part.strip()][:4000]
    return [' '.join(word for word in text.split(' ') if r.random() > .2) for text in wanted], wanted


def bleu_ours():
    from llm_course.evaluation.overlap import bleu, cut
    hypotheses, references = pages()
    cut.cache_clear() # as cold as a fresh sacrebleu metric
    return lambda: bleu(hypotheses, references)


def bleu_peer():
    from sacrebleu.metrics import BLEU
    hypotheses, references = pages()
    metric = BLEU(force=True)
    return lambda: metric.corpus_score(hypotheses, [references]).score


def rouge_ours():
    from llm_course.evaluation.overlap import rouge_l, rouge_lsum, rouge_n
    pairs = list(zip(*pages()))
    return lambda: [(rouge_n(*pair, 1), rouge_n(*pair, 2), rouge_l(*pair), rouge_lsum(*pair)) for pair in pairs]


def rouge_peer():
    from rouge_score.rouge_scorer import RougeScorer
    pairs, scorer = list(zip(*pages())), RougeScorer(['rouge1', 'rouge2', 'rougeL', 'rougeLsum'])
    return lambda: [tuple(map(tuple, scorer.score(target, prediction).values())) for prediction, target in pairs]


def same_scores(ours, peer):
    import numpy as np
    gap = np.abs(np.array(ours)-np.array(peer)).max()
    assert gap < 1e-9, f'the scores differ by {gap:.1g}'
    return f'within {gap:.0e}'


rows = [Row('bleu', 'sacrebleu', bleu_ours, bleu_peer, same_scores, ratio=1.),
        Row('rouge', 'rouge-score', rouge_ours, rouge_peer, same_scores, ratio=1/3)]

