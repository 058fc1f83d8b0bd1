"""Films whose truth is known are the same films on every machine."""

from dataclasses import replace

from reelseek.studio import plan_films


def test_a_machine_that_cannot_speak_plans_the_same_films_without_their_lines() -> None:
    speaking, silent = (plan_films(40, seed=3, speech=speech) for speech in (True, False))
    assert any(film.line for film in speaking)
    assert any(film.subtitled for film in speaking)
    assert not any(film.line or film.subtitled for film in silent)
    assert [replace(film, line="", subtitled=False, captions=()) for film in speaking] == [
        replace(film, captions=()) for film in silent
    ]
