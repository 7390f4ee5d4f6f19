"""Stamps every notebook with the setup cell, the Colab badge and the wish for a T4: `python tools/stamp.py [--check]`

Owner, repository and branch come from settings.ini alone.
"""
import hashlib, json, sys
import house

user, repo, branch = (house.settings[key] for key in ('user', 'repo', 'branch'))
colab = 'https://colab.research.google.com'
metadata = {'accelerator': 'GPU', 'colab': {'gpuType': 'T4'}}
setup = f'''{house.setup_head}
import sys
if 'google.colab' in sys.modules:
    %pip install -q "llm_course[colab] @ git+https://github.com/{user}/{repo}@{branch}"'''


def badge(topic):
    "The link that opens a notebook in Colab; raw HTML, since as a markdown image it becomes a captioned figure"
    return (f'<a href="{colab}/github/{user}/{repo}/blob/{branch}/nbs/{topic}.ipynb">'
            f'<img alt="Open in Colab" src="{colab}/assets/colab-badge.svg"></a>')


def put(cells, text, kind, head, after):
    "Replace the one cell that begins with `head`, or insert it behind the cell for which `after` holds"
    sources = [''.join(cell['source']) for cell in cells]
    where = next((i for i, source in enumerate(sources) if source.startswith(head)), None)
    if where is None:
        where = 1 + next(i for i, cell in enumerate(cells) if after(cell, sources[i]))
        extra = dict(execution_count=None, outputs=[]) if kind == 'code' else {}
        cells.insert(where, dict(cell_type=kind, id=hashlib.sha256(text.encode()).hexdigest()[:8], metadata={}, source=[], **extra))
    if ''.join(cells[where]['source']) != text: cells[where]['source'] = text.splitlines(keepends=True)


def stamped(nb, topic):
    "The notebook with its three stamps"
    nb = json.loads(json.dumps(nb))
    title = lambda cell, source: cell['cell_type'] == 'markdown' and source.startswith('# ')
    put(nb['cells'], badge(topic), 'markdown', f'<a href="{colab}', title)
    put(nb['cells'], setup, 'code', house.setup_head, lambda cell, source: source.startswith(f'<a href="{colab}'))
    nb['metadata'].update(metadata)
    return nb


def text(nb): return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'


def stale():
    "The notebooks whose stamps are not those of settings.ini, with what they should read"
    old = {path: path.read_text(encoding='utf-8') for path in house.notebooks()}
    new = {path: text(stamped(json.loads(source), house.topic(path))) for path, source in old.items()}
    return {path: new[path] for path in old if json.loads(old[path]) != json.loads(new[path])}


if __name__ == '__main__':
    wrong = stale()
    if '--check' in sys.argv and wrong: sys.exit('not stamped, run `make stamp`: ' + ', '.join(map(house.topic, wrong)))
    for path, source in wrong.items(): path.write_text(source, encoding='utf-8')
