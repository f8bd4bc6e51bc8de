"""What MkDocs calls while it builds the site."""

import re
import shutil

import jupytext
import latex2mathml.converter
from mkdocs.structure.files import File

from docs.generate import pages

# Where mkdocstrings reads the sources, laid as they are installed.
SOURCES = pages.ROOT / "build" / "docs" / "keras_en"


def filled(nav):
    """The navigation, with the pages of folders in the place of their names."""
    if isinstance(nav, list):
        return [filled(item) for item in nav]
    if isinstance(nav, dict):
        return {title: filled(item) for title, item in nav.items()}
    return pages.navigation(nav) if nav.endswith("/") else nav


def on_startup(command, dirty):
    # Before mkdocstrings looks for them.
    shutil.rmtree(SOURCES, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(pages.ROOT / "keras_en", SOURCES, ignore=ignored)
    for name in ("models", "export"):
        shutil.copytree(pages.ROOT / name, SOURCES / name, ignore=ignored)
    for package in pages.PACKAGES:
        path = SOURCES.parent.joinpath(*package.split("."), "__init__.py")
        if text := pages.remade(package):
            path.write_text(text, "utf-8")
    for path in SOURCES.rglob("*.py"):
        path.write_text(pages.fenced(path.read_text(encoding="utf-8")), "utf-8")


def on_config(config):
    config.nav = filled(config.nav)
    return config


def on_files(files, config):
    contents = {
        **{
            path: (pages.ROOT / source).read_text(encoding="utf-8")
            for path, source in pages.texts().items()
        },
        **pages.generated(),
        **{
            f"examples/{path.stem}.ipynb": jupytext.writes(
                jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent"),
                fmt="ipynb",
            )
            for path in sorted(pages.EXAMPLES.glob("*.py"))
        },
    }
    for path, content in contents.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    path = page.file.src_uri
    written = page.file.abs_src_path is not None or path in pages.texts()
    # What is made has the links of the site.
    if not written:
        return markdown
    return pages.relinked(markdown, pages.texts().get(path, f"docs/{path}"))


def on_page_content(html, page, config, files):
    """Formulas as MathML, which browsers draw without a script."""

    def formula(match):
        display = "block" if match[1] == "div" else "inline"
        latex = re.sub(r"^\\[(\[]|\\[)\]]$", "", match[2].strip())
        for escaped, sign in (("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            latex = latex.replace(escaped, sign)
        math = latex2mathml.converter.convert(latex, display=display)
        return f'<{match[1]} class="formula">{math}</{match[1]}>'

    pattern = r'<(div|span) class="arithmatex">(.*?)</\1>'
    return re.sub(pattern, formula, html, flags=re.S)
