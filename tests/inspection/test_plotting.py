"""Names that are broken into lines."""

import pytest

from sklearn_ckm.inspection._plotting import text_size, wrap_text


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
