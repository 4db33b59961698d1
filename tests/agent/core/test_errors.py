"""What errors say: without our own frames, and cut where they say least."""

from __future__ import annotations

import pytest

from edgeflow_agent.core.errors import AuthorError, reason, shortened, trace_of


def fails() -> None:
    raise KeyError("gain")


def blamed() -> AuthorError:
    """Return the error of an author's function as a step raises it."""
    try:
        try:
            fails()
        except KeyError as error:
            raise AuthorError("f.py:3: KeyError: 'gain'") from error
    except AuthorError as error:
        return error


def test_an_authors_error_is_told_as_their_code_raised_it() -> None:
    error = blamed()
    assert reason(error) == "f.py:3: KeyError: 'gain'"
    lines = trace_of(error).splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "KeyError: 'gain'")
    assert [line.rpartition(" in ")[2] for line in lines if line.startswith("  File")] == ["fails"]


def test_any_other_error_is_told_with_its_kind_and_all_of_its_traceback() -> None:
    error = AuthorError("no cause")
    assert trace_of(error).endswith("AuthorError: no cause\n")
    with pytest.raises(KeyError) as found:
        fails()
    assert reason(found.value) == "KeyError: 'gain'"
    assert "in test_any_other_error" in trace_of(found.value)


@pytest.mark.parametrize("longest", [60, 150, 1200])
def test_a_long_traceback_keeps_its_first_and_its_last_lines(longest: int) -> None:
    text = "1 row dropped: boom\n)\n" + "  File, line\n" * 200 + "ValueError: boom\n)"
    cut = shortened(text, longest)
    assert len(cut) <= longest
    lines = cut.splitlines()
    assert (lines[0], lines[-2:]) == ("1 row dropped: boom", ["ValueError: boom", ")"])
    assert "…" in lines
    assert all(line in text.splitlines() for line in lines if line != "…")


def test_a_long_line_keeps_its_beginning_and_its_end() -> None:
    cut = shortened("begin" + "x" * 1000 + "end", 100)
    assert (cut[:5], cut[-3:], len(cut) <= 100) == ("begin", "end", True)
    assert shortened("as it is", 8) == "as it is"
