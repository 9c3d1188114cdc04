"""Signed files as strict structs: a refusal gives the key's path, and the bytes have one reading."""

import pytest

from homeplate.errors import TrustError
from homeplate.trust.reasons import UNACCEPTABLE, NamedTrustError, naming, reason_of
from homeplate.trust.schema import AllowlistFile, RulesFile, decode, encode, why
from tests.trust.saying import says

GOOD = b'{"format":1,"hold_keys":[],"purposes":["p"],"rules":[]}'


def test_a_file_is_read_and_written_in_its_one_form():
    file = decode(GOOD, RulesFile, "rules.json")
    assert file.purposes == ["p"]
    assert encode(AllowlistFile(grants=[])) == b'{"format":1,"grants":[]}\n'
    assert decode(encode(file), RulesFile, "rules.json") == file


def test_a_refusal_names_the_file_and_the_keys_path_and_no_pattern():
    begins = "rules.json is not what it should be: "
    with says(f"{begins}Expected `str` written as such a thing is written - at `$.hold_keys[0]`"):
        decode(GOOD.replace(b"[]", b'["xy"]', 1), RulesFile, "rules.json")
    with says(f"{begins}Object contains unknown field `more`"):
        decode(GOOD.replace(b"{", b'{"more":1,', 1), RulesFile, "rules.json")
    assert why(ValueError("a matching regex 'b' c")) == "a written as such a thing is written c"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (GOOD.replace(b"{", b'{"rules":[],', 1), "rules"),
        (GOOD.replace(b"{", b'{"rules":[],"purposes":[],', 1), "purposes"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_by_name(data, key):
    message = f"the key {key} is there twice in one object; say which value is meant"
    with says(f"rules.json is not what it should be: {message}"):
        decode(data, RulesFile, "rules.json")


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b'{"purposes":"\xff"}', b"null"])
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(TrustError, match=r"^rules\.json is not what it should be: ."):
        decode(data, RulesFile, "rules.json")


def test_a_refusal_keeps_its_own_name_and_gets_one_where_it_has_none():
    assert reason_of(TrustError("x")) == UNACCEPTABLE == "unacceptable"
    assert reason_of(NamedTrustError("altered", "x")) == "altered"
    with says("x", "contents"), naming("contents"):
        raise TrustError("x")
    with says("x", "altered"), naming("contents"):
        raise NamedTrustError("altered", "x")
    with pytest.raises(ValueError, match="x"), naming("contents"):
        raise ValueError("x")
