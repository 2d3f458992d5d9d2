from hypothesis import given
from hypothesis import strategies as st

from polyana.serve.until import Until

letters = st.text("abc", max_size=12)
stops = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


@given(st.lists(letters, max_size=8), stops)
def test_text_ends_before_the_first_stop_however_it_comes(pieces, stops):
    until, whole = Until(stops), "".join(pieces)
    shown = "".join(until.add(piece) for piece in pieces) + until.rest()
    places = [whole.find(stop) for stop in stops if stop in whole]
    assert until.found == bool(places)
    # one that is complete sooner ends the text, though another begins earlier and would have been completed later
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    first = min((place for place, end in zip(places, ends, strict=True) if end <= _cut(pieces, ends)), default=None)
    assert shown == (whole if first is None else whole[:first])


def _cut(pieces, ends):
    """Where the piece ends in which the first stop is complete."""
    at = 0
    for piece in pieces:
        at += len(piece)
        if any(end <= at for end in ends):
            break
    return at


@given(letters, stops)
def test_nothing_is_held_back_that_can_be_no_beginning(text, stops):
    until = Until(stops)
    shown = until.add(text)
    held = until.rest()
    assert until.found or shown + held == text
    assert not held or any(stop.startswith(held) and stop != held for stop in stops)
