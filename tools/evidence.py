"""Rebuilds nbs/evidence.ipynb from the ledger of a test run: `python tools/evidence.py FOLDER`

The page must read the same wherever the tests ran. A parity stores its tolerance and the word `holds`; an effect stores
its figure to two significant digits, and a figure already on the page stays while the new one is within a quarter of it.
"""
import json, re, sys
from pathlib import Path
import house

page = house.nbs/'evidence.ipynb'
columns = ['claim or check', 'against', 'figure', 'bound']


def read(ledger):
    "The rows of a ledger folder, one for each topic, kind and name"
    lines = (line for path in sorted(Path(ledger).glob('*.jsonl')) for line in path.read_text(encoding='utf-8').splitlines())
    rows = {(row['topic'], row['kind'], row['name']): row for row in map(json.loads, lines) if row['topic'] != 'evidence'}
    return [rows[key] for key in sorted(rows, key=lambda key: (house.place(key[0]), *key[1:]))]


def digits(figure):
    "A number to two significant digits; anything else as it is"
    if isinstance(figure, bool) or not isinstance(figure, (int, float)): return str(figure)
    rounded = float(f'{figure:.2g}')
    return str(int(rounded)) if rounded == int(rounded) and 1 <= abs(rounded) < 1e6 else f'{figure:.2g}'


def close(old, new):
    "Whether two printed figures differ by less than a quarter"
    try: old, new = float(old), float(new)
    except (TypeError, ValueError): return False
    return abs(old-new) <= .25*max(abs(old), abs(new))


def cells(row, earlier):
    "One row of the table; `earlier` holds the figures already on the page"
    parity = row['kind'] == 'parity'
    what = row['name'] if parity or not row['claim'] else f"{row['name']}: {row['claim']}"
    against = row['reference'] if parity else row['source']
    figure = 'holds' if parity else digits(row['figure'])
    bound = 'equal' if parity and row['bound'] == 'at most 0' else row['bound']
    old = earlier.get((row['topic'], plain(what)))
    return [plain(what), plain(against), old if close(old, figure) else figure, plain(bound)]


def plain(text): return re.sub(r'\s+', ' ', str(text)).replace('|', '\\|').strip()


def table(rows): return '\n'.join('| ' + ' | '.join(row) + ' |' for row in [columns, ['---']*len(columns), *rows])


def figures(nb):
    "The figures on the page by topic and first column"
    found, topic = {}, ''
    for line in '\n'.join(''.join(cell['source']) for cell in nb['cells'] if cell['cell_type'] == 'markdown').splitlines():
        if match := re.match(r'## \[.*\]\((.*)\.ipynb\)$', line): topic = match[1]
        row = [part.strip() for part in re.split(r'(?<!\\)\|', line)[1:-1]]
        if len(row) == len(columns): found[topic, row[0]] = row[2]
    return found


def sections(rows, earlier):
    "One markdown cell a topic, in reading order"
    topics = dict.fromkeys(row['topic'] for row in rows)
    for topic in topics:
        mine = [cells(row, earlier) for row in rows if row['topic'] == topic]
        yield f'## [{house.module(topic)}]({topic}.ipynb)\n\n{table(mine)}'


def rebuild(ledger):
    "Write the ledger's table below the page's head; the page stays untouched where nothing changed"
    nb = json.loads(page.read_text(encoding='utf-8'))
    head = [cell for cell in nb['cells'] if not ''.join(cell['source']).startswith('## [')]
    texts = sections(read(ledger), figures(nb))
    new = [dict(cell_type='markdown', id=f'topic-{i:02}', metadata={}, source=text.splitlines(keepends=True)) for i, text in enumerate(texts)]
    page.write_text(json.dumps(dict(nb, cells=head+new), sort_keys=True, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__': rebuild(sys.argv[1])
