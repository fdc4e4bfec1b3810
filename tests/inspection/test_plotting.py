"""Names that are broken into lines."""

import pytest

from sklearn_ckm.inspection._plotting import shorten_names, text_size, wrap_text


@pytest.mark.parametrize(
    "name, text",
    [
        ("dog", "dog"),
        (7, "7"),
        ("", ""),
        ("two words", "two words"),
        ("three short words", "three\nshort\nwords"),
        ("Genus_species_sub", "Genus_\nspecies_\nsub"),
        ("kingdom/phylum", "kingdom/\nphylum"),
        ("left-handed one", "left-\nhanded\none"),
        ("abcdefghijklmn", "abcdefghi\njklmn"),
        ("of two\nlines", "of two\nlines"),
    ],
)
def test_words_stay_whole_where_they_can(name, text):
    assert wrap_text(name, 9) == text


def test_size_is_that_of_the_longest_line_and_the_most_lines():
    assert text_size(["abc\nde", "fghij", ""]) == (5, 2)
    assert text_size([""]) == (0, 0)


def test_shortened_names_keep_their_beginning_and_their_end():
    assert shorten_names([7, "two words", "one two three eleven five"], 9) == [
        "7",
        "two words",
        "one two…\nfive",
    ]


def test_names_that_would_be_the_same_when_shortened_stay_whole():
    names = ["isolate of ward 17, clinic B", "isolate of ward 18, clinic B", "x y"]
    assert shorten_names(names, 10) == [
        "isolate of\nward 17,\nclinic B",
        "isolate of\nward 18,\nclinic B",
        "x y",
    ]
    assert shorten_names(["a long name of three"] * 2, 8) == ["a long…\nthree"] * 2
