"The bench measures what it says"
import pytest
import harness, imports
from harness import Row, measure, table


def busy(n): return lambda: lambda: sum(range(n))


def test_slower_is_missed():
    same = lambda ours, peer: 'not compared'
    marks = [measure(Row('row', 'peer', busy(a), busy(b), same, ratio=2), repeats=2)['mark'] for a, b in ((4_000_000, 400_000), (400_000, 4_000_000))]
    assert marks == ['missed', 'kept']
    assert measure(Row('row', 'peer', busy(10_000_000), busy(10), same, most=.001), repeats=1)['mark'] == 'missed'


def test_different_outputs_stop_the_bench():
    def same(ours, peer): assert ours == peer, 'outputs differ'
    with pytest.raises(AssertionError, match='outputs differ'): measure(Row('row', 'peer', busy(1), busy(3), same), repeats=1)


def test_preparation_is_not_timed():
    def slow():
        sum(range(20_000_000))
        return lambda: None
    assert harness.timed(slow)[0] < .05


def test_table(): assert table([dict(a='1', bb='2'), dict(a='333', bb='4')]) == 'a    bb\n1    2\n333  4'


def test_import_is_light():
    "No torch, under 0.3 CPU-seconds"
    ours = imports.rows[0]
    seconds, heavy = min(harness.timed(ours.ours) for _ in range(3))
    assert seconds < ours.most and not heavy


def test_memory_is_measured(): assert 45 < harness.grown(lambda: lambda: len(b'x'*50_000_000))[0] < 60
