"Makes README.md from nbs/index.ipynb: `python tools/readme.py [--check]`"
import re, sys
import nbformat
from nbconvert import MarkdownExporter
import house

target = house.root/'README.md'


def shown(cell):
    "Whether a cell belongs in the README"
    return not re.match(rf'#\|\s*hide|{re.escape(house.setup_head)}', cell.source)


def render():
    "The home page as GitHub shows it: no setup cell, no directives, links that start at the repository"
    nb = nbformat.read(house.nbs/house.settings['readme_nb'], as_version=4)
    nb.cells = [cell for cell in nb.cells if shown(cell)]
    nb.metadata['language_info'] = dict(name='python')
    for cell in nb.cells:
        if cell.cell_type == 'code': cell.source = re.sub(r'^#\|.*\n', '', cell.source, flags=re.M)
    body, _ = MarkdownExporter().from_notebook_node(nb)
    body = re.sub(r'\]\((?!https?:|#|mailto:)(?:\.\./)?', lambda link: '](' if link[0].endswith('../') else '](nbs/', body)
    return re.sub(r'\n{3,}', '\n\n', body).strip() + '\n'


if __name__ == '__main__':
    if '--check' not in sys.argv: target.write_text(render(), encoding='utf-8')
    elif target.read_text(encoding='utf-8') != render(): sys.exit('README.md is stale, run `make readme`')
