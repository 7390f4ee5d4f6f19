"""Saves outputs in the notebooks by running them: `python tools/outputs.py [NOTEBOOK ...] [--flags slow gpu net]`

Cells with `#| eval: false` or a test flag keep the outputs they have, unless their flag is named.
With flags and without notebooks, those notebooks run that have a cell with such a flag.
"""
import argparse, re, sys
from pathlib import Path
from execnb.nbio import read_nb, write_nb
from nbdev.clean import nbdev_clean
import house, runner

address = re.compile(r' at 0x[0-9a-f]+')


def still(output):
    "An output without what changes from run to run; None for progress bars and warnings"
    if output.get('name') == 'stderr': return
    if 'text' in output: output['text'] = [address.sub('', line) for line in output['text']]
    for kind, data in output.get('data', {}).items():
        if kind.startswith('text/') and isinstance(data, list): output['data'][kind] = [address.sub('', line) for line in data]
    if 'execution_count' in output: output['execution_count'] = None
    return output


def save(path, flags=(), seconds=300):
    "Run one notebook and keep what its cells showed; a notebook that fails stays as it was"
    outcome = runner.run(path, seconds=seconds, flags=flags, online='net' in flags)
    if outcome.faults: return str(outcome)
    nb = read_nb(path)
    for cell in nb.cells:
        if cell.cell_type != 'code': continue
        cell.execution_count = None
        if cell.id in outcome.outputs: cell.outputs = [output for output in map(still, outcome.outputs[cell.id]) if output]
    write_nb(nb, path)
    nbdev_clean(str(path))


def flagged(path, flags):
    "Whether a notebook has a cell with one of the flags"
    return any(re.search(rf'^#\|\s*({"|".join(flags)})\s*$', cell.source, re.M) for cell in read_nb(path).cells if cell.cell_type == 'code')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', nargs='+', default=[], choices=house.settings['tst_flags'].split())
    args = parser.parse_args()
    chosen = args.notebooks or [path for path in house.notebooks() if not args.flags or flagged(path, args.flags)]
    faults = [fault for path in chosen if (fault := save(path, args.flags, None if args.flags else 300))]
    if faults: sys.exit('\n'.join(faults))


if __name__ == '__main__': main()
