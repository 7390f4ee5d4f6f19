"Prints the table: `python bench/run.py [ROW ...]`. Exits with 1 where a mark is missed"
import os, sys
os.environ.update(OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', TOKENIZERS_PARALLELISM='false')
import alignment, architecture, data, evaluation, finetuning, imports, merging, quantization, training
from harness import measure, table

rows = [*imports.rows, *architecture.rows, *data.rows, *evaluation.rows, *quantization.rows, *finetuning.rows, *alignment.rows, *merging.rows, *training.rows]


def main(names):
    known = [row.name for row in rows]
    if unknown := set(names)-set(known): sys.exit(f"no row {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    lines = [measure(row) for row in rows if not names or row.name in names]
    print('best of five, one thread, in CPU-seconds; memory in megabytes')
    print(table(lines))
    return int(any(line['mark'] == 'missed' for line in lines))


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
