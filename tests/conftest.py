"Fast tests first; the slowest notebooks and one last line at the end"
import pytest

slowest = pytest.StashKey()


def pytest_configure(config): config.stash[slowest] = []


def pytest_collection_modifyitems(items): items.sort(key=lambda item: item.get_closest_marker('slow') is not None)


def pytest_terminal_summary(terminalreporter, config):
    outcomes = sorted(config.stash[slowest], key=lambda outcome: -outcome.seconds)[:10]
    if outcomes: terminalreporter.section('slowest notebooks')
    for outcome in outcomes: terminalreporter.line(f'{outcome.seconds:6.1f} s  {outcome.notebook.stem}')


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is None: return
    count = lambda *kinds: sum(len(reporter.stats.get(kind, [])) for kind in kinds)
    skipped = count('skipped')
    print(f"{count('passed')} passed, {count('failed', 'error')} failed" + (f', {skipped} skipped' if skipped else ''))
