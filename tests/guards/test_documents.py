"""Every link between our documents leads somewhere."""

import re
from pathlib import Path

import pytest

from benchmarks.house import LONG_FILE

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What headings are called in a link, as the usual renderers have it."""
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = _LINK.findall(_FENCED.sub("", document.read_text(encoding="utf-8")))

    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_there_are_links_to_check() -> None:
    assert sum(len(_LINK.findall(document.read_text(encoding="utf-8"))) for document in DOCUMENTS) > 20


def test_every_test_that_a_document_names_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    there = {path.stem for path in (ROOT / "tests").rglob("*.py")} | set(re.findall(r"def (test_\w+)", code))

    named = {name for document in DOCUMENTS for name in re.findall(r"`(test_\w+)`", document.read_text("utf-8"))}

    assert len(named) > 20
    assert named - there == set()


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name[:4] for page in (ROOT / "docs" / "decisions").glob("*.md")]
    titled = [page.read_text().removeprefix("# ")[:4] for page in (ROOT / "docs" / "decisions").glob("*.md")]

    assert sorted(numbers) == sorted(set(numbers))
    assert titled == numbers


def test_every_long_file_is_named_and_excused_in_the_house_measured_and_no_other() -> None:
    page = (ROOT / "docs" / "decisions" / "0016-the-house-measured.md").read_text(encoding="utf-8")
    said = page.partition("Left, as one story each:")[2].partition("\nThe longest function")[0]
    excused = sorted(re.findall(r"`([\w/]+)`", said))

    long = [path for path in (ROOT / "app").rglob("*.py") if len(path.read_text("utf-8").splitlines()) > LONG_FILE]

    names = sorted(path.relative_to(ROOT / "app").with_suffix("").as_posix() for path in long)
    assert len(names) == len(excused), sorted(names)
    for name in names:
        assert any(f"/{name}".endswith(f"/{one}") for one in excused), name
