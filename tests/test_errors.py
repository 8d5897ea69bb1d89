"""What a message shows of names, values and reasons."""

from unet_lowlevel.errors import UserError, listed, reason, shown, what_and_remedy


def test_listed():
    assert listed([]) == ""
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert listed([1, 2, 3], 2) == "1, 2 and 1 more"


def test_long_things_are_cut():
    assert listed(["x" * 1000]) == "x" * 297 + "..."
    assert len(shown("x" * 10**6)) <= 300 and len(shown({"a": ["b" * 10**6] * 99})) < 3000
    assert shown("a\n") == r"'a\n'"
    assert reason(ValueError("x" * 1000)) == "x" * 297


def test_a_reason_is_one_line_without_a_full_stop():
    assert reason(OSError(28, "No space left on device", "a.png")) == "No space left on device"
    assert reason(ValueError("two\n  lines.")) == "two lines"
    assert reason(KeyError()) == "KeyError"


def test_parts_are_what_is_wrong_and_the_remedy():
    assert what_and_remedy(UserError("a: b.png is no image: replace it.")) == ("a: b.png is no image", "replace it")
