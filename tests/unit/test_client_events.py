"""Server-sent events are read as the WHATWG's rules say, however the network cuts them up."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.client.errors import AnswerUnexpected
from builder.client.events import Logged, ServerSentEvent, StateChanged, StepChanged, meaning, read_events

LOG = b'event: log\nid: 7\ndata: {"step": "run", "text": "hi", "at": 1700000000.5}\n\n'


def events(*chunks: bytes) -> list[ServerSentEvent]:
    return list(read_events(chunks))


def cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(places))


line_text = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(st.tuples(line_text, line_text), max_size=6),
    st.lists(st.integers(min_value=0), max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_an_event_is_the_same_however_it_is_cut_and_whichever_line_ends_it_has(
    sent: list[tuple[str, str]], cuts: list[int], end: str
) -> None:
    stream = "".join(f"event: {name}{end}data: {data}{end}{end}" for name, data in sent).encode()
    read = list(read_events(cut(stream, cuts)))
    assert [(event.name, event.data) for event in read] == [(name or "message", data) for name, data in sent]


def test_a_log_line_may_hold_what_unicode_calls_a_line_end() -> None:
    text = "a\u2028b\u0085c\u000bd"
    stream = f"event: log\nid: 1\ndata: {json.dumps({'text': text}, ensure_ascii=False)}\n\n"
    assert json.loads(events(stream.encode())[0].data)["text"] == text


def test_lines_of_data_are_joined_comments_and_unknown_fields_are_passed_over() -> None:
    stream = b": still here\n\nretry: 5\nnonsense\ndata: one\ndata:two\n\n"
    assert events(stream) == [ServerSentEvent("message", "", "one\ntwo")]


def test_the_id_stays_until_another_comes() -> None:
    assert [one.id for one in events(b"id: 3\ndata: a\n\ndata: b\n\nid: 4\ndata: c\n\n")] == ["3", "3", "4"]


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert events(b"\xef\xbb\xbfdata: a\n\n") == [ServerSentEvent("message", "", "a")]


def test_an_event_that_was_cut_off_is_not_told() -> None:
    assert events(LOG, b"event: log\nid: 8\ndata: {}\n") == events(LOG)


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(AnswerUnexpected, match="more than"):
        events(*[b"data: " + b"x" * 1_000_000] * 9)
    with pytest.raises(AnswerUnexpected, match="more than"):
        events(*[b"data: " + b"x" * 1_000_000 + b"\n"] * 9)


def test_the_events_of_a_build_are_understood() -> None:
    told = [meaning(event) for event in events(LOG, b'event: state\nid: 7\ndata: {"state": "built"}\n\n')]
    assert isinstance(told[0], Logged)
    assert (told[0].line.number, told[0].line.step, told[0].line.text) == (7, "run", "hi")
    assert told[1] == StateChanged("built")


def test_an_event_of_a_newer_server_is_passed_over_and_its_new_fields_too() -> None:
    assert meaning(ServerSentEvent("weather", "1", "sunny")) is None
    step = meaning(
        ServerSentEvent("step", "1", '{"name": "run", "state": "running", "startedAt": "2026-01-01T00:00:00Z", "x": 1}')
    )
    assert isinstance(step, StepChanged)


@pytest.mark.parametrize("data", ["", "[]", "{", '"text"', '{"step": 1}', "null"])
@pytest.mark.parametrize("name", ["log", "step", "state", "end"])
def test_an_event_that_cannot_be_read_is_an_error_that_names_it(name: str, data: str) -> None:
    with pytest.raises(AnswerUnexpected, match=name):
        meaning(ServerSentEvent(name, "1", data))
