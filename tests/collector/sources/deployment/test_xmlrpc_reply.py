"""Of an answer two strings of each process are read, where XML-RPC has them and nowhere else."""

from __future__ import annotations

import pytest

from collector.sources.deployment.xmlrpc_reply import _PLAIN_MEMBER, read_processes


def answer(*structs: str) -> bytes:
    values = "".join(f"<value><struct>{one}</struct></value>" for one in structs)
    listed = f"<params><param><value><array><data>{values}</data></array></value></param></params>"
    return f"<methodResponse>{listed}</methodResponse>".encode()


def member(name: str, value: str) -> str:
    return f"<member><name>{name}</name><value>{value}</value></member>"


STATE = member("statename", "<string>RUNNING</string>")
WEB = member("group", "<string>web</string>")


def read(*structs: str) -> list[tuple[str, str]]:
    return list(read_processes(answer(*structs)))


def test_members_come_in_any_order_with_any_others_between() -> None:
    other = member("x", "<array><data><value><struct>" + member("group", "inner") + "</struct></value></data></array>")
    assert read(WEB + STATE, other + STATE + other + WEB + other) == [("web", "RUNNING")] * 2
    assert read() == []


def test_text_comes_whole_whatever_it_is_made_of() -> None:
    assert read(member("group", "<string>a&amp;b &#252;<![CDATA[<c>]]></string>") + STATE) == [
        ("a&b \u00fc<c>", "RUNNING")
    ]


# As supervisord writes them, which is read over.
PLAIN = [
    f"<member>\n<name>{name}</name>\n<value><{kind}>{value}</{kind}></value>\n</member>\n"
    for name, kind, value in (
        ("pid", "int", "-1"),
        ("description", "string", "pid 42, uptime 0:00:01"),
        ("x_", "string", ""),
    )
]


def test_members_that_are_plain_are_read_over_and_none_that_is_wanted() -> None:
    wanted = "".join(
        f"<member>\n<name>{name}</name>\n<value><string>{value}</string></value>\n</member>\n"
        for name, value in (("group", "web"), ("statename", "RUNNING"))
    )
    whole = answer(PLAIN[0] + wanted + PLAIN[1], wanted + "".join(PLAIN))
    assert _PLAIN_MEMBER.sub(b"", whole) == answer(wanted, wanted)
    assert list(read_processes(whole)) == [("web", "RUNNING")] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pid 42", "\xff"),
        ("pid 42", "\0"),
        ("pid 42", "&a;"),
        ("pid 42", "]]>"),
        ("pid 42", "<i4>1</i5>"),
        ("<int>-1</int>", "<int>-1</string>"),
        ("<int>-1</int>", "<int>-1<x/></int>"),
        ("<name>pid</name>", "<name a='1'>pid</name>"),
    ],
)
def test_a_member_that_is_not_plain_is_the_parsers_to_refuse(old: str, new: str) -> None:
    text = answer(WEB + STATE + "".join(PLAIN)).decode().replace(old, new).encode("latin-1")
    with pytest.raises(ValueError, match="not XML-RPC"):
        list(read_processes(text))


@pytest.mark.parametrize(
    "group",
    [
        "",
        member("group", "<int>7</int>"),
        member("group", "we<int>7</int>b"),
        member("group", "<string>we<int></int>b</string>"),
        member("group", "<array><data><value>web</value></data></array>"),
        member("x<int></int>group", "web"),
        "<member><name>group</name></member><member><value>web</value></member>",
        "<member><value>web</value><name>group</name></member>",
    ],
)
def test_what_is_no_string_of_that_name_is_not_taken_for_one(group: str) -> None:
    with pytest.raises(ValueError, match="lacks group or statename"):
        read(group + STATE)


def test_what_one_process_lacks_is_not_taken_from_the_one_before() -> None:
    with pytest.raises(ValueError, match="lacks group or statename"):
        read(WEB + STATE, STATE)


def test_a_text_is_cut_where_no_label_is_as_long() -> None:
    """The whole answer could be one name, and that name a key of ours."""
    [(group, _)] = read(member("group", f"<string>{'x' * 1_000_000}</string>") + member("y" * 1_000_000, "1") + STATE)
    assert group.startswith("x" * 2000)
    assert len(group) < 4000
