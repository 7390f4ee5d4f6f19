"Ours against the peer: interleaved in one process, on one thread, best of five in CPU-seconds or megabytes, outputs compared"
import os, resource
from dataclasses import dataclass
from typing import Callable


def cpu():
    "CPU-seconds of this process and the children it has waited for"
    return sum(used.ru_utime+used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def timed(ready):
    "CPU-seconds and output of the function that `ready` prepares"
    work = ready()
    start = cpu()
    output = work()
    return cpu()-start, output


def grown(ready):
    "Megabytes that a forked process grows by at its peak, and the output of the function that `ready` prepares"
    work = ready()
    output = work() # in this process too: what is loaded once is not counted
    read, write = os.pipe()
    if not (child := os.fork()):
        before = int(open('/proc/self/statm').read().split()[1])*os.sysconf('SC_PAGE_SIZE')
        work()
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024-before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe: return int(pipe.read())/1e6, output


@dataclass(frozen=True)
class Row:
    "One comparison. `ours` and `peer` make ready and return what is measured; `same` says how far the outputs agree, or raises"
    name: str
    against: str
    ours: Callable
    peer: Callable
    same: Callable
    ratio: float = float('inf') # Highest cost, as a multiple of the peer's
    most: float = float('inf') # Highest cost at all
    cost: Callable = timed # CPU-seconds, or megabytes by `grown`


def measure(row, repeats=5):
    "One line of the table"
    pairs = [(row.cost(row.ours), row.cost(row.peer)) for _ in range(repeats)]
    ours, peer = (min(pair[side][0] for pair in pairs) for side in (0, 1))
    kept = ours <= row.ratio*peer and ours <= row.most
    agree = row.same(pairs[-1][0][1], pairs[-1][1][1])
    return dict(row=row.name, against=row.against, ours=f'{ours:.3f}', peer=f'{peer:.3f}', ratio=f'{ours/peer:.2f}', outputs=agree, mark='kept' if kept else 'missed')


def table(lines):
    "Lines of equal keys as aligned columns"
    texts = [list(lines[0]), *(list(line.values()) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*texts)]
    return '\n'.join('  '.join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in texts)
