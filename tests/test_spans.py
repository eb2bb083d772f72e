from __future__ import annotations

import threading

import pytest

from model_forensics import spans


def test_spans_are_told_when_they_end_the_inner_one_first():
    told = []
    with spans.heard_by(lambda *span: told.append(span)), spans.span("outer"), spans.span("inner", "operation"):
        pass
    (inner, kind, began, ended), outer = told
    assert (inner, kind, outer[:2]) == ("inner", "operation", ("outer", "stage"))
    assert outer[2] <= began <= ended <= outer[3]


def test_a_span_that_raises_ends():
    told = []
    with spans.heard_by(lambda *span: told.append(span)), pytest.raises(ZeroDivisionError), spans.span("stage"):
        raise ZeroDivisionError
    assert [span[0] for span in told] == ["stage"]


def test_without_a_listener_no_clock_is_read():
    assert spans.now() == 0


def test_a_span_that_began_before_anyone_listened_is_not_told():
    told = []
    began = spans.now()
    with spans.heard_by(lambda *span: told.append(span)):
        spans.ended("stage", "stage", began)
    assert not told


def test_other_threads_are_not_heard():
    told = []
    with spans.heard_by(lambda *span: told.append(span)):
        thread = threading.Thread(target=lambda: spans.ended("elsewhere", "stage", spans.now()))
        thread.start()
        thread.join()
    assert not told
