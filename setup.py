from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']
name = settings['lib_name']
ending = '_requirements'
extras = {key.removesuffix(ending): settings[key].split() for key in settings if key.endswith(ending)}
extras['all'] = sorted({need for extra, needs in extras.items() if extra not in ('colab', 'dev', 'distributed') for need in needs})

setup(name=name, version=settings['version'], description=settings['description'], license=settings['license'].upper(),
      license_files=['LICENSE'], author=settings['author'], author_email=settings['author_email'], url=settings['git_url'],
      project_urls={'Documentation': settings['doc_host'] + settings['doc_baseurl']}, keywords=settings['keywords'].split(),
      long_description=(root/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
      python_requires='>=' + settings['min_python'], install_requires=settings['requirements'].split(), extras_require=extras,
      packages=find_packages(include=[name, f'{name}.*']), package_data={name: ['assets/**']}, zip_safe=False,
      entry_points={'console_scripts': settings['console_scripts'].split(), 'nbdev': [f'{name}={name}._modidx:d']},
      classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: ' + settings['audience'],
                   'Natural Language :: ' + settings['language'], 'Programming Language :: Python :: 3'])
