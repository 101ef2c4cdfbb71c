"""Facts of string operators against runs."""

from __future__ import annotations

import pytest

from tests.ir.facts.checking import check

SIZES = ({"N": 3}, {"N": 1})


def test_strings():
    check("StringConcat", ["string[N,1]", "string[2]"], *SIZES, opset=20, dims=("N, 2",))
    check("RegexFullMatch", ["string[N,2]"], *SIZES, opset=20, dims=("N, 2",), pattern="a.*")
    check("StringSplit", ["string[N,2]"], *SIZES, opset=20, outputs=2, exact=False, delimiter=" ")
    check("StringNormalizer", ["string[N]"], *SIZES, dims=("N",), case_change_action="UPPER", locale="C")
    stop = {
        "case_change_action": "LOWER",
        "stopwords": ["a", "d", "b c", ""],
        "is_case_sensitive": 1,
        "locale": "C",
    }
    check("StringNormalizer", ["string[N]"], *SIZES, exact=False, **stop)
    check("StringNormalizer", ["string[1,N]"], *SIZES, exact=False, **stop)


@pytest.mark.parametrize("given", ["int64[N,6]", "int64[6]"])
def test_counts_of_n_grams(given):
    attributes = {
        "mode": "TF",
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 0,
        "ngram_counts": [0, 2],
        "ngram_indexes": [0, 1, 3, 2],
        "pool_int64s": [1, 2, 1, 2, 2, 1],
    }
    check("TfIdfVectorizer", [given], SIZES[0], dims=("N, 4" if "N" in given else "4",), **attributes)
