"""What supervisord answers to getAllProcessInfo, read as a stream: two strings of each process, and nothing else kept.

    methodResponse
      params param value array data
        value struct                                one process
          member  name group       value string web
          member  name statename   value string RUNNING
          …
      or:  fault value struct
          member  name faultString value string UNKNOWN_METHOD
          …

xmlrpc.client builds all that an answer declares before anybody looks at it: 4 MiB of ``<base64/>`` are 80 MiB of
objects, and lists in lists end in a RecursionError when they are shown. Here depth and text are bounded, and names and
attributes that XML-RPC does not have are refused: expat keeps each name that it has met.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn
from xml.parsers.expat import ExpatError, ParserCreate

_LIST = "/methodResponse/params/param/value/array/data"
_PROCESS = f"{_LIST}/value/struct"
_FAULT = "/methodResponse/fault/value/struct"
_TAGS = frozenset((
    "methodResponse", "params", "param", "fault", "value", "array", "data", "struct", "member", "name",
    "string", "int", "i4", "i8", "boolean", "double", "nil", "base64", "dateTime.iso8601",
))  # fmt: skip
_WANTED = ("group", "statename", "faultString")

_MAX_DEPTH = 32  # of elements; supervisord's answer has 11
_MAX_TEXT = 2_000  # characters of a name or value that are kept; a label may have 1,000
_READ_BYTES = 65_536
_LONG_TAG = re.compile(rb"<[^>]{200}")  # with attributes or a comment: a MiB of either would be kept in one piece


def read_processes(reply: bytes) -> Iterator[tuple[str, str]]:
    """Group and state of each process. Raises ValueError where it is no such answer. Pure."""
    if _LONG_TAG.search(reply):
        raise ValueError("its answer is not XML-RPC (it has a tag of more than 200 bytes)")
    reader = _Reader()
    # UTF-8, whatever encoding the answer declares.
    parser = ParserCreate("utf-8")
    parser.buffer_text = True  # else each line end is a call
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        for begin in range(0, len(reply), _READ_BYTES):
            parser.Parse(reply[begin : begin + _READ_BYTES], False)
            yield from reader.take()
        parser.Parse(b"", True)
    except ExpatError as error:
        raise ValueError(f"its answer is not XML-RPC ({error!s:.200})") from None
    yield from reader.take()
    if not reader.listed:
        raise ValueError("its answer is not a list of processes")


def _refuse_doctype(*_: object) -> NoReturn:
    # No answer of XML-RPC has one; a hostile one declares entities there that unfold into gigabytes.
    raise ValueError("its answer has a document type declaration")


class _Reader:
    """Where in the answer the parser is, and what the struct that it is in has said so far."""

    def __init__(self) -> None:
        self.listed = False
        self._path = ""
        self._depth = 0
        self._text = ""
        self._name = ""
        self._typed = False
        self._members: dict[str, str] = {}
        self._found: list[tuple[str, str]] = []

    def take(self) -> list[tuple[str, str]]:
        """The processes that were read since it was called before."""
        found, self._found = self._found, []
        return found

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path += f"/{tag}"
        self._depth += 1
        self._text = ""
        if tag not in _TAGS or attributes or (self._depth == 1) != (tag == "methodResponse"):
            raise ValueError(f"its answer is not XML-RPC (it has <{tag:.100}> at {self._path:.200})")
        if self._depth > _MAX_DEPTH:
            raise ValueError("its answer is not XML-RPC (nested too deep)")
        self._typed = tag != "value"
        if self._path == _LIST:
            self.listed = True
        elif self._path in (_PROCESS, _FAULT):
            self._members = {}
        elif self._path.startswith(f"{_LIST}/") and not f"{self._path}/struct".startswith(_PROCESS):
            raise ValueError(f"its answer is not a list of processes but of <{tag}>")

    def text(self, text: str) -> None:
        if len(self._text) < _MAX_TEXT:
            self._text += text[:_MAX_TEXT]

    def end(self, tag: str) -> None:
        struct, _, member = self._path.rpartition("/member/")
        if struct in (_PROCESS, _FAULT):
            if member == "name":
                self._name = self._text
            # A value without a type is a string, too.
            elif self._name in _WANTED and (member == "value/string" or (member == "value" and not self._typed)):
                self._members[self._name] = self._text
        elif self._path == _PROCESS:
            self._process()
        elif self._path == _FAULT:
            raise ValueError(f"it refused: {self._members.get('faultString', 'without a reason'):.200}")
        self._path = self._path[: -len(tag) - 1]
        self._depth -= 1

    def _process(self) -> None:
        group, state = self._members.get("group"), self._members.get("statename")
        if not group or not state:
            raise ValueError(f"a process lacks group or statename, as strings: {self._members!r:.200}")
        self._found.append((group, state))
