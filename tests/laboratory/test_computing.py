"""Variants in turn: from the same weights, on the same batches."""

from small_experiments import SMALL

from unet_lowlevel.laboratory.computing import plain


def test_book_and_fast_forms_learn_the_same():
    book, fast = plain(SMALL)
    assert (book["time"], book["x"]) == (1, [2, 4])
    assert fast["x"] == [round(2 * fast["time"], 1), round(4 * fast["time"], 1)]
    assert len(book["y"]) == 2 and book["y"][1] < book["y"][0]
    assert max(abs(one - other) for one, other in zip(book["y"], fast["y"], strict=True)) < 1e-4
