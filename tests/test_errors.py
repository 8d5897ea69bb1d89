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


def test_of_tensorflow_only_what_the_system_says_is_a_reason():
    operation = "{{function_node __wrapped__SaveV2_dtypes_3_device_/job:localhost/device:CPU:0}}"
    file = "/mnt/my runs/a/checkpoints/ckpt-1_temp/part-00000-of-00001.data-00000-of-00001.tempstate12"
    for text in ("No space left on device", "Read-only file system", "Input/output error"):
        assert reason(ValueError(f"{operation} {file}; {text} [Op:SaveV2]")) == text
        assert reason(ValueError(f"{file}; {text}")) == text
        done = f"\n\tFailed to flush 3 events to {file}\n\tCould not flush events file."
        assert reason(ValueError(f"{operation} {file}; {text}{done} [Op:FlushSummaryWriter]")) == text
    assert reason(ValueError("weights in /a/b; see C: 5")) == "weights in /a/b; see C: 5"


def test_parts_are_what_is_wrong_and_the_remedy():
    assert what_and_remedy(UserError("a: b.png is no image: replace it.")) == ("a: b.png is no image", "replace it")
