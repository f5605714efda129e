"""docs/settings.md and docs/redis.md are what `make docs` writes now."""

from pathlib import Path

import pytest

from app.redis.fields import FIELDS
from app.redis.keys import DECLARED
from app.settings import Settings
from docs.generate import _docstrings, pages


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: path.name)
def test_a_generated_page_is_current(path: Path) -> None:
    assert path.read_text() == pages()[path], "run `make docs`"


def test_every_setting_is_explained() -> None:
    assert _docstrings().keys() >= Settings.model_fields.keys()


def test_fields_are_of_declared_hashes() -> None:
    assert {name for name in FIELDS if "hash" not in DECLARED[name].kind} == set()
