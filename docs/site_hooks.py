"""MkDocs hooks: pages of the root join the site; links between files become links between pages.

GitHub and the site then show the same sources. A link to a file that is not a page (code, a config)
keeps its text and loses its target, unless `repo_url` is set in mkdocs.yml.
"""

import pathlib
import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
ROOT_PAGES = {  # file in the root: page of the site
  'README.md': 'index.md',
  'BENCHMARKS.md': 'BENCHMARKS.md',
  'BUILD.md': 'BUILD.md',
  'CHANGELOG.md': 'CHANGELOG.md',
  'CONTRIBUTING.md': 'CONTRIBUTING.md',
  'SECURITY.md': 'SECURITY.md',
}
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the root's pages."""
  for source, page in ROOT_PAGES.items():
    content = (ROOT / source).read_text(encoding='utf-8')
    files.append(File.generated(config, page, content=content))
  return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Points the links of a page at pages of the site."""
  sources = {page: source for source, page in ROOT_PAGES.items()}
  source = sources.get(page.file.src_uri, f'docs/{page.file.src_uri}')
  return LINK.sub(lambda match: _link(match, source, config, files), markdown)


def _link(match: re.Match, source: str, config: MkDocsConfig, files: Files) -> str:
  """Rewrites one link; `source` is the file that contains it, from the repository's root."""
  image, text, target = match.groups()
  path, hash_sign, anchor = target.partition('#')
  if not path or re.match(r'[a-z]+:', target):
    return match.group(0)
  path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
  page = ROOT_PAGES.get(path, path.removeprefix('docs/'))
  if files.get_file_from_path(page):
    return f'{image}[{text}]({page}{hash_sign}{anchor})'
  if not (ROOT / path).exists():
    return match.group(0)  # MkDocs reports it
  return f'[{text}]({config.repo_url.rstrip("/")}/blob/main/{path})' if config.repo_url else text
