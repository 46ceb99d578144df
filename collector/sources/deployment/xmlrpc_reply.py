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
from typing import Final, NoReturn
from xml.parsers.expat import ExpatError, ParserCreate

_TAGS: Final = frozenset((
    "methodResponse", "params", "param", "fault", "value", "array", "data", "struct", "member", "name",
    "string", "int", "i4", "i8", "boolean", "double", "nil", "base64", "dateTime.iso8601",
))  # fmt: skip
_WANTED: Final = frozenset(("group", "statename", "faultString"))

_MAX_DEPTH: Final = 32  # of elements; supervisord's answer has 11
_MAX_TEXT: Final = 2_000  # characters of a name or value that are kept; a label may have 1,000
_READ_BYTES: Final = 65_536
_LONG_TAG: Final = re.compile(
    rb"<[^>]{200}"
)  # with attributes or a comment: a MiB of either would be kept in one piece
# A member that nobody wants, as supervisord writes it: 12 of the 14 of a process. To take them out takes 0.01 ms, and
# the parser then 0.07 where it took 0.25. Only what is plain beyond doubt: all else is the parser's to read or refuse.
_PLAIN_MEMBER: Final = re.compile(
    rb"<member>\n<name>(?!(?:%b)<)[a-z_]++</name>\n"
    rb"<value>(?:<int>-?[0-9]++</int>|<string>[ -%%'-;=?-~]*+</string>)</value>\n</member>\n"
    % "|".join(sorted(_WANTED)).encode()
)

# Where in the answer the parser is. The places by which a process or a fault is read come last.
(OUTSIDE, ELSEWHERE, RESPONSE, PARAMS, PARAM, RESULT, ARRAY, LIST, ITEM, FAULT, FAULT_VALUE,
 PROCESS, FAULT_STRUCT, MEMBER, NAME, VALUE, STRING) = range(17)  # fmt: skip
# The place that a tag leads to, by the place that it is in; ELSEWHERE where there is none.
_BELOW: Final[tuple[dict[str, int], ...]] = (
    {"methodResponse": RESPONSE},
    {},
    {"params": PARAMS, "fault": FAULT},
    {"param": PARAM},
    {"value": RESULT},
    {"array": ARRAY},
    {"data": LIST},
    {"value": ITEM},
    {"struct": PROCESS},
    {"value": FAULT_VALUE},
    {"struct": FAULT_STRUCT},
    {"member": MEMBER},
    {"member": MEMBER},
    {"name": NAME, "value": VALUE},
    {},
    {"string": STRING},
    {},
)


def read_processes(reply: bytes) -> Iterator[tuple[str, str]]:
    """Group and state of each process. Raises ValueError where it is no such answer. Pure."""
    if _LONG_TAG.search(reply):
        raise ValueError("its answer is not XML-RPC (it has a tag of more than 200 bytes)")
    reply = _PLAIN_MEMBER.sub(b"", reply)
    reader = _Reader()
    # UTF-8, whatever encoding the answer declares.
    parser = ParserCreate("utf-8")
    parser.buffer_text = True  # else each line end is a call
    parser.ordered_attributes = True  # an empty list for each element, not an empty dictionary
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
        self._place = OUTSIDE
        self._places: list[int] = []  # around it
        self._text = ""
        self._reads_text = False
        self._name = ""
        self._members: dict[str, str] = {}
        self._found: list[tuple[str, str]] = []

    def take(self) -> list[tuple[str, str]]:
        """The processes that were read since it was called before."""
        found, self._found = self._found, []
        return found

    def start(self, tag: str, attributes: list[str]) -> None:
        around = self._place
        place = _BELOW[around].get(tag, ELSEWHERE)
        self._places.append(around)
        self._place = place
        if attributes or place <= ITEM:
            self._check(tag, attributes, around)
        if place >= NAME:
            self._text = ""
            self._reads_text = place == NAME or self._name in _WANTED
        elif place == MEMBER:
            self._name = ""
        elif place in (PROCESS, FAULT_STRUCT):
            self._members = {}
        elif place == LIST:
            self.listed = True

    def _check(self, tag: str, attributes: list[str], around: int) -> None:
        """Of the elements that are no part of a process that is read."""
        depth = len(self._places)
        if tag not in _TAGS or attributes or (depth == 1) != (tag == "methodResponse"):
            raise ValueError(f"its answer is not XML-RPC (it has <{tag:.100}> at depth {depth})")
        if depth > _MAX_DEPTH:
            raise ValueError("its answer is not XML-RPC (nested too deep)")
        if self._place == ELSEWHERE:
            if around in (LIST, ITEM):
                raise ValueError(f"its answer is not a list of processes but of <{tag}>")
            if around >= NAME:  # then it is neither a name nor a string
                self._reads_text = False
                self._text = self._name = ""

    def text(self, text: str) -> None:
        if self._reads_text and len(self._text) < _MAX_TEXT:
            self._text += text[:_MAX_TEXT]

    def end(self, tag: str) -> None:
        place = self._place
        self._place = self._places.pop()
        if place < PROCESS:
            return
        if place == NAME:
            self._name = self._text
            self._reads_text = False
        elif place >= VALUE:
            # A value without a type is a string, too.
            if self._name in _WANTED:
                self._members[self._name] = self._text
                self._name = ""
            self._reads_text = False
        elif place == PROCESS:
            self._process()
        elif place == FAULT_STRUCT:
            raise ValueError(f"it refused: {self._members.get('faultString', 'without a reason'):.200}")

    def _process(self) -> None:
        group, state = self._members.get("group"), self._members.get("statename")
        if not group or not state:
            raise ValueError(f"a process lacks group or statename, as strings: {self._members!r:.200}")
        self._found.append((group, state))
