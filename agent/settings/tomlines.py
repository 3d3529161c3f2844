"""Where each key of a TOML file stands, so that a fault can name its line.

`tomllib` gives values without places. This scanner reads the same text a second time and notes only keys and lines:
it parses no number, no date and no string, it steps over them. Before it comes `tomllib`, which has already refused
everything that is not TOML; after it come the readers of site files and profiles, which turn a path such as
`("meters", 3, "address")` into a line number.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]
"""Keys and, within arrays, zero-based positions, as one walks down the loaded values."""

_BARE_KEY_ENDS = frozenset(" \t\r\n.=]")
_VALUE_ENDS = frozenset(",]}#\r\n")


def locate(text: str) -> dict[KeyPath, int]:
    """The 1-based line of every key, table, table of an array and array element of a valid TOML text.

    A table that is only named on the way to another one (`[a.b]` without `[a]`, `a.b = 1`) stands where it is named
    first. A table of an array (`[[meters]]`) stands at its header, an element of an array at its first character.

    Raises:
        tomllib.TOMLDecodeError: not TOML; its message names line and column.
    """
    tomllib.loads(text)
    # tomllib takes "\r\n" for "\n" as well, so that lines are counted alike.
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a path or, where that key is missing, of the nearest table around it; None at the top level."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return None


@dataclass(slots=True)
class _Scanner:
    """One pass over a text that `tomllib` accepted; `at` is the next character, `line` its 1-based line."""

    text: str
    at: int = 0
    line: int = 1
    lines: dict[KeyPath, int] = field(default_factory=dict)
    table_counts: dict[KeyPath, int] = field(default_factory=dict)

    def document(self) -> None:
        """Headers and key/value lines until the text ends."""
        table: KeyPath = ()
        while self._skip_blank():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; returns the path of the table it opens."""
        is_array = self.text.startswith("[[", self.at)
        self._step(2 if is_array else 1)
        line = self.line
        *parents, last = self._keys()
        self._step(2 if is_array else 1)
        path: KeyPath = ()
        for key in parents:
            path = self._enter(path, key, line)
        if not is_array:
            return self._enter(path, last, line)
        path = (*path, last)
        self.lines.setdefault(path, line)
        index = self.table_counts.get(path, 0)
        self.table_counts[path] = index + 1
        self.lines[(*path, index)] = line
        return (*path, index)

    def _enter(self, path: KeyPath, key: str, line: int) -> KeyPath:
        """Down one key of a header: into the last table where the key names an array of tables."""
        path = (*path, key)
        self.lines.setdefault(path, line)
        count = self.table_counts.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: KeyPath) -> None:
        """`a.b = value`."""
        line = self.line
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._step(1)
        self._skip_spaces()
        self._value(path)

    def _keys(self) -> list[str]:
        """A dotted key, up to the sign after it."""
        keys = []
        while True:
            self._skip_spaces()
            keys.append(self._key())
            self._skip_spaces()
            if self._peek() != ".":
                return keys
            self._step(1)

    def _key(self) -> str:
        start = self.at
        if self._peek() in "\"'":
            self._string()
            unquoted = tomllib.loads("key = " + self.text[start : self.at])["key"]
            return str(unquoted)
        while self.at < len(self.text) and self.text[self.at] not in _BARE_KEY_ENDS:
            self.at += 1
        return self.text[start : self.at]

    def _value(self, path: KeyPath) -> None:
        sign = self._peek()
        if sign in "\"'":
            self._string()
        elif sign == "[":
            self._array(path)
        elif sign == "{":
            self._inline_table(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in _VALUE_ENDS:
                self.at += 1

    def _array(self, path: KeyPath) -> None:
        self._step(1)
        index = 0
        while self._skip_blank() and self._peek() != "]":
            self.lines[(*path, index)] = self.line
            self._value((*path, index))
            index += 1
            self._skip_blank()
            if self._peek() == ",":
                self._step(1)
        self._step(1)

    def _inline_table(self, path: KeyPath) -> None:
        self._step(1)
        while self._skip_blank() and self._peek() != "}":
            self._pair(path)
            self._skip_blank()
            if self._peek() == ",":
                self._step(1)
        self._step(1)

    def _string(self) -> None:
        """Over a string of any of the four kinds, counting the lines inside."""
        quote = self.text[self.at]
        ends = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self._step(len(ends))
        while not self.text.startswith(ends, self.at):
            escaped = quote == '"' and self.text[self.at] == "\\"
            self._step(2 if escaped else 1)
        self._step(len(ends))
        # Up to two quotes may stand directly before the three that close.
        while len(ends) == 3 and self._peek() == quote:
            self._step(1)

    def _peek(self) -> str:
        """The next character, a line feed where the text is over."""
        return self.text[self.at] if self.at < len(self.text) else "\n"

    def _step(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _skip_blank(self) -> bool:
        """Over white space, line ends and comments; False where the text is over."""
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif sign in " \t\r\n":
                self._step(1)
            else:
                return True
        return False
