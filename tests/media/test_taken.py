"""When a file was filmed, as its container says: dates of telephones and cameras, and clocks that were never set."""

from types import SimpleNamespace

import pytest

from reelseek.media.taken import taken_of


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([{"creation_time": "2019-07-04T10:30:15.000000Z"}], "2019-07-04T10:30:15"),
        (
            [{"creation_time": "2019-07-04T10:30:00Z", "com.apple.quicktime.creationdate": "2019-07-04T12:30:00+0200"}],
            "2019-07-04T12:30:00",
        ),
        ([{}, {"creation_time": "2019-07-04 10:30"}], "2019-07-04T10:30:00"),
        ([{"DATE_RECORDED": "2008-01-02"}], "2008-01-02T00:00:00"),
        ([{"date": "20190704"}], "2019-07-04T00:00:00"),
        ([{"date": "2019"}], None),
        ([{"creation_time": "1904-01-01T00:00:00Z"}, {"creation_time": "1970-01-01T00:00:00Z"}], None),
        ([{"creation_time": "2019-13-45T99:00:00Z"}], None),
        ([{"creation_time": "yesterday"}], None),
        ([{}], None),
    ],
)
def test_a_container_says_when(tables: list[dict[str, str]], expected: str | None) -> None:
    first, *others = tables
    streams = [SimpleNamespace(metadata=table) for table in others]
    assert taken_of(SimpleNamespace(metadata=first, streams=streams)) == expected
