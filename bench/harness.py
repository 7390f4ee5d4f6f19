"Ours against the peer: interleaved in one process, on one thread, best of five in CPU-seconds, outputs compared"
import resource
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Row:
    "One comparison. `ours` and `peer` make ready and return what is timed; `same` says how far the outputs agree, or raises"
    name: str
    against: str
    ours: Callable
    peer: Callable
    same: Callable
    ratio: float = float('inf') # Most CPU-seconds, as a multiple of the peer's
    seconds: float = float('inf') # Most CPU-seconds at all


def cpu():
    "CPU-seconds of this process and the children it has waited for"
    return sum(used.ru_utime+used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def timed(ready):
    "CPU-seconds and output of the function that `ready` prepares"
    work = ready()
    start = cpu()
    output = work()
    return cpu()-start, output


def measure(row, repeats=5):
    "One line of the table"
    pairs = [(timed(row.ours), timed(row.peer)) for _ in range(repeats)]
    ours, peer = (min(pair[side][0] for pair in pairs) for side in (0, 1))
    kept = ours <= row.ratio*peer and ours <= row.seconds
    agree = row.same(pairs[-1][0][1], pairs[-1][1][1])
    return dict(row=row.name, against=row.against, ours=f'{ours:.3f}', peer=f'{peer:.3f}', ratio=f'{ours/peer:.2f}', outputs=agree, mark='kept' if kept else 'missed')


def table(lines):
    "Lines of equal keys as aligned columns"
    texts = [list(lines[0]), *(list(line.values()) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*texts)]
    return '\n'.join('  '.join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in texts)
