"The tools that write into the checkout, on copies"
import json, re, shutil, subprocess, sys
import nbformat, pytest
import evidence, house, oldest, outputs

row = dict(kind='effect', topic='pretraining/02_train', name='speed', reference='', claim='faster | so', source='a paper', figure=1.2345, bound='at least 1')
check = dict(kind='parity', topic='data/05_template', name='ids', reference='transformers', claim='', source='', figure=3e-9, bound='at most 1e-06')


def write(path, rows): path.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')


@pytest.fixture
def page(tmp_path, monkeypatch):
    "A copy of the page of evidence without its table"
    nb = nbformat.read(evidence.page, as_version=4)
    nb.cells = [cell for cell in nb.cells if not cell.source.startswith('## [')]
    nbformat.write(nb, tmp_path/'evidence.ipynb')
    monkeypatch.setattr(evidence, 'page', tmp_path/'evidence.ipynb')
    return tmp_path/'evidence.ipynb'


def tables(page): return [cell.source for cell in nbformat.read(page, as_version=4).cells if cell.source.startswith('## [')]


def test_evidence_in_reading_order(page, tmp_path):
    write(tmp_path/'b.jsonl', [row, dict(row, topic='evidence')])
    write(tmp_path/'a.jsonl', [check, check])
    evidence.rebuild(tmp_path)
    data, training = tables(page)
    assert data.startswith('## [data.template](data/05_template.ipynb)') and data.splitlines()[-1] == '| ids | transformers | holds | at most 1e-06 |'
    assert training.splitlines()[-1] == '| speed: faster \\| so | a paper | 1.2 | at least 1 |'


@pytest.mark.parametrize('figure, shown', [(1.5, '1.2'), (1.7, '1.7'), (.95, '1.2'), (.5, '0.5')])
def test_evidence_reads_the_same_elsewhere(page, tmp_path, figure, shown):
    write(tmp_path/'a.jsonl', [row])
    evidence.rebuild(tmp_path)
    before = page.read_bytes()
    evidence.rebuild(tmp_path)
    assert page.read_bytes() == before
    write(tmp_path/'a.jsonl', [dict(row, figure=figure)])
    evidence.rebuild(tmp_path)
    assert f'| {shown} |' in tables(page)[0] and (page.read_bytes() == before) == (shown == '1.2')


@pytest.mark.parametrize('figure, shown', [(0., '0'), (.98765, '0.99'), (12.345, '12'), (98765, '99000'), (1.2e-7, '1.2e-07'), (-3.14159, '-3.1'), (2e9, '2e+09')])
def test_digits(figure, shown): assert evidence.digits(figure) == shown


def test_outputs(tmp_path):
    "Executed cells get outputs that do not change from run to run, skipped ones keep theirs"
    kept = nbformat.v4.new_code_cell('#| slow\n1/0', outputs=[nbformat.v4.new_output('stream', text='measured once\n')])
    plot = "fig, ax = plt.subplots(figsize=(1, 1))\nax.plot([1, 2]);"
    noise = "import sys\nprint(object())\nprint('a bar', file=sys.stderr)\nobject()"
    sources = ['# Installs the course on Colab, does nothing elsewhere', 'import matplotlib.pyplot as plt', plot, noise]
    path, seen = tmp_path/'n.ipynb', []
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources] + [kept]), path)
    for _ in range(2):
        assert outputs.save(path) is None
        seen.append(path.read_bytes())
    nb = nbformat.read(path, as_version=4)
    assert seen[0] == seen[1] and nb.cells[-1].outputs[0].text == 'measured once\n'
    assert 'image/png' in nb.cells[2].outputs[0].data and not re.search('0x|a bar', str(nb.cells[3].outputs))
    assert nb.cells[3].outputs[-1].data['text/plain'] == '<object>' and all(cell.execution_count is None for cell in nb.cells)


def test_failed_notebook_stays_as_it_was(tmp_path):
    path = tmp_path/'n.ipynb'
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1'), nbformat.v4.new_code_cell('1/0')]), path)
    before = path.read_bytes()
    assert 'n.ipynb: a cell failed' in outputs.save(path) and path.read_bytes() == before


def test_flagged(tmp_path):
    path = tmp_path/'n.ipynb'
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('#| export\n#| slow\n1')]), path)
    assert outputs.flagged(path, ['slow', 'net']) and not outputs.flagged(path, ['gpu'])


def test_oldest():
    "Every bound is tested at its lowest, each package at one version"
    names = [bound.split('==')[0] for bound in oldest.bounds()]
    assert len(names) == len(set(names)) and {'torch', 'transformers', 'trl'} < set(names) and 'nbdev' not in names


@pytest.mark.parametrize('source, last, code', [
    ('def test_a(): pass', '1 passed, 0 failed', 0),
    ('import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(x): pass\ndef test_d(): pytest.skip()', '1 passed, 2 failed, 1 skipped', 1),
    ('import nothing_of_that_name', '0 passed, 1 failed', 2)])
def test_last_line(tmp_path, source, last, code):
    shutil.copy(house.root/'tests'/'conftest.py', tmp_path)
    (tmp_path/'pytest.ini').write_text('[pytest]\nmarkers = slow: late')
    (tmp_path/'test_it.py').write_text(source)
    found = subprocess.run([sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider'], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == last and found.returncode == code


def test_fast_tests_come_first(tmp_path):
    shutil.copy(house.root/'tests'/'conftest.py', tmp_path)
    (tmp_path/'pytest.ini').write_text('[pytest]\nmarkers = slow: late')
    (tmp_path/'test_it.py').write_text('import pytest\n@pytest.mark.slow\ndef test_a(): pass\ndef test_b(): pass')
    found = subprocess.run([sys.executable, '-m', 'pytest', '-v', '-p', 'no:cacheprovider'], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.index('test_b') < found.stdout.index('test_a')
