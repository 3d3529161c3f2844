"""The table of the quality flags is that of the wire format, and the page has every rule."""

from agent.metering.quality import FLAGS, RULES, page
from agent.reporting import batch


def test_every_flag_of_the_format_has_one_rule() -> None:
    assert sorted(each.name for each in FLAGS) == sorted(batch.FLAGS)
    assert [each.name for each in FLAGS] == sorted(each.name for each in FLAGS)
    assert all(each.rule and each.meaning for each in FLAGS)


def test_the_page_has_every_rule() -> None:
    text = page()
    assert all(f"| {each.what} |" in text for each in RULES)
    assert all(f"`{each.name}`" in text for each in FLAGS)
