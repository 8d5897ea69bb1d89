"""The command pack: what it prints, and how it ends."""

from conftest import refused

from unet_lowlevel.cli import pack
from unet_lowlevel.data.packed import is_packed


def test_it_says_where_the_data_is_and_how_it_is_used(place, capsys):
    assert pack.main(["--data", "data", "--output", "packed", "--images-per-shard", "5"]) == 0
    assert capsys.readouterr() == ("packed data into packed: use it as --data packed\n", "")
    assert is_packed("packed") and len(list((place / "packed").iterdir())) == 4


def test_after_an_interruption_it_says_how_to_go_on(place, capsys, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(pack, "pack", interrupted)
    assert pack.main(["--data", "data", "--output", "packed"]) == 130
    assert capsys.readouterr().err == "interrupted; finished files are kept; the same command goes on\n"


def test_mistakes_are_one_sentence(place, capfd):
    for flags, words in (
        ("--output packed", ["--data is not given"]),
        ("--data data", ["required", "--output"]),
        ("--data data --output run", ["--output run is not empty", "choose another name"]),
        ("--data data --output packed --images-per-shard 0", ["--images-per-shard is 0"]),
        ("--data data --output packed --epochs 3", ["--epochs is no flag"]),
        ("--data data --output packed --mask-values 0:0,1", ["--mask-values", "pairs"]),
    ):
        refused(pack, flags.split(), words, place, capfd)
