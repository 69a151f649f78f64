"""Every link of the documents to a file of this project, and to a heading in it, leads somewhere.

    build/venv/bin/python tests/lint/document_links.py
"""
import functools
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"```.*?```", re.DOTALL)


def documents():
    folders = [ROOT / "docs", ROOT / "deploy", ROOT / "tests"]
    return [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]


@functools.cache
def anchors(path):
    """As GitHub makes them of headings, and those that are written out."""
    text = CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))
    found = set(re.findall(r'<a name="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def problems(document):
    for link in LINK.findall(CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists():
            yield f"{document.relative_to(ROOT)}: {link}: there is no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{document.relative_to(ROOT)}: {link}: {target.name} has no such heading"


def main():
    found = [problem for document in documents() for problem in problems(document)]
    if found:
        sys.exit("\n".join(found))
    print(f"links of {len(documents())} documents lead somewhere")


main()
