"""Topic names and filters (MQTT 5, section 4.7 and 4.8.2).

A filter may hold `+` for one level and `#` for the rest; `$share/GROUP/FILTER` is one subscription shared by a group.
Names that begin with `$` are never matched by a filter that begins with a wildcard.
"""

SHARE = "$share"


def matches(pattern: str, topic: str) -> bool:
    """Say whether a filter (without its share prefix) matches a topic name."""
    if pattern == topic:
        return True
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(given) or level not in ("+", given[position]):
            return False
    return len(wanted) == len(given)


def is_filter(pattern: str) -> bool:
    """Say whether a filter is well formed: `#` last and alone in its level, `+` alone in its level."""
    if not pattern or "\0" in pattern:
        return False
    levels = pattern.split("/")
    if any("+" in level and level != "+" for level in levels):
        return False
    return all(
        "#" not in level or (level == "#" and at == len(levels) - 1) for at, level in enumerate(levels)
    )


def is_name(topic: str) -> bool:
    """Say whether a message may be published to this name: not empty, no wildcard, no NUL."""
    return bool(topic) and not any(sign in topic for sign in "+#\0")


def split_share(pattern: str) -> tuple[str | None, str] | None:
    """Separate `$share/GROUP/FILTER` into group and filter; (None, filter) for a plain one, None for a bad one."""
    if not pattern.startswith(SHARE + "/"):
        return (None, pattern) if is_filter(pattern) else None
    parts = pattern.split("/", 2)
    if len(parts) < 3 or not parts[1] or any(sign in parts[1] for sign in "+#") or not is_filter(parts[2]):
        return None
    return parts[1], parts[2]
