"""The notes of an unfinished prediction: what they vouch for, and who may go on with them."""

import pytest
from conftest import sentence

from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.images import Shard
from unet_lowlevel.inference.unfinished import Before, Note, begun, end, goes_on, note_of, notes_in


def written(folder, shard=Shard(), weights="w", name="a.png", **settings):  # noqa: B008
    """Begins a prediction that writes one file."""
    with begun(folder, {"weights": weights, "shards": shard.count, **settings}, shard) as note:
        (folder / name).write_text(f"{name} by {weights}")
        note.wrote(name)
        note.wrote("missing.png")


def test_a_file_is_finished_as_long_as_it_is_what_was_written(tmp_path):
    written(tmp_path)
    before = goes_on(tmp_path, {"weights": "w", "shards": 1}, True)
    assert before.finished("a.png") and not before.finished("missing.png")
    for content in ("a.png by", "a.png by x", ""):
        (tmp_path / "a.png").write_text(content)
        assert not before.finished("a.png")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (tmp_path / "b.png").write_text("a.png by w")
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert not before.finished("a.png")


def test_of_another_network_it_is_removed_and_anything_else_kept(tmp_path):
    written(tmp_path)
    before = goes_on(tmp_path, {"weights": "other", "shards": 1}, True)
    assert not before.finished("a.png") and before.make_room("a.png") is None and not (tmp_path / "a.png").exists()
    for name, kept in (("a.png", "a.png.before"), ("a.png", "a.png.before1"), ("c.png", "c.png.before")):
        (tmp_path / name).write_text(f"mine, {kept}")
        assert before.make_room(name) == tmp_path / kept
        assert (tmp_path / kept).read_text() == f"mine, {kept}" and not (tmp_path / name).exists()


def test_the_network_that_wrote_last_counts(tmp_path):
    written(tmp_path)
    written(tmp_path, weights="other", name="b.png")
    for weights, names in (("w", ["a.png"]), ("other", ["b.png"])):
        before = goes_on(tmp_path, {"weights": weights, "shards": 1}, True)
        assert [name for name in ("a.png", "b.png") if before.finished(name)] == names


def test_a_line_that_was_cut_off_loses_itself_only(tmp_path):
    written(tmp_path)
    note = note_of(tmp_path)
    note.write_text(note.read_text() + '{"file": "b.png", "sha')
    assert goes_on(tmp_path, {"weights": "w", "shards": 1}, True).finished("a.png")
    written(tmp_path, name="c.png", weights="other")
    for weights, name in (("w", "a.png"), ("other", "c.png")):
        assert goes_on(tmp_path, {"weights": weights, "shards": 1}, True).finished(name)


@pytest.mark.parametrize("content", ["[", "[]", '{"settings": 1}', '{"settings": {}}\n{"file": [], "sha256": ""}'])
def test_a_file_that_is_no_note_is_refused(content, tmp_path):
    note_of(tmp_path).write_text(content)
    with pytest.raises(UserError) as caught:
        goes_on(tmp_path, {}, True)
    sentence(caught, tmp_path / "predict.jsonl")


def test_shards_and_workers_have_notes_of_their_own_and_the_whole_reads_all(tmp_path):
    for index in range(2):
        written(tmp_path, Shard(index, 12), name=f"{index}.png", collection="2 images")
    Note(tmp_path / "predict_1_of_12_ab.jsonl", {"weights": "w", "shards": 12, "collection": "2 images"})
    assert [path.name for path in notes_in(tmp_path, Shard(1, 12))] == [
        "predict_1_of_12.jsonl",
        "predict_1_of_12_ab.jsonl",
    ]
    assert notes_in(tmp_path, Shard(1, 1200)) == []
    now = {"weights": "w", "shards": 12, "collection": "2 images"}
    assert goes_on(tmp_path, now, False, Shard(5, 12)) is None
    assert goes_on(tmp_path, now, True, Shard(0, 12)).files.keys() == {"0.png"}
    assert goes_on(tmp_path, {"weights": "w", "shards": 1}, True).files.keys() == {"0.png", "1.png"}
    for shard, settings, words in (
        (Shard(0, 12), now, "add --resume"),
        (Shard(5, 6), {**now, "shards": 6}, "shards 12, but now it is 6"),
        (Shard(5, 12), {**now, "collection": "3 images"}, "collection '2 images', but now it is '3 images'"),
        (Shard(), {"weights": "w", "shards": 1}, "add --resume"),
    ):
        with pytest.raises(UserError) as caught:
            goes_on(tmp_path, settings, False, shard)
        sentence(caught, f"--output {tmp_path}", words)
    end(tmp_path, Shard(1, 12))
    assert [path.name for path in notes_in(tmp_path)] == ["predict_0_of_12.jsonl"]


def test_shards_write_side_by_side_but_nobody_beside_the_whole(tmp_path):
    with begun(tmp_path, {}, Shard(0, 2)), begun(tmp_path, {}, Shard(1, 2)) as note:
        (tmp_path / "a.png").touch()
        note.wrote("a.png")
        for shard in (Shard(0, 2), Shard()):
            with pytest.raises(UserError) as caught, begun(tmp_path, {}, shard):
                pass
            sentence(caught, f"--output {tmp_path} is in use")


def test_notes_of_nothing_are_removed(tmp_path):
    with begun(tmp_path, {}):
        assert note_of(tmp_path).is_file()
    assert list(tmp_path.iterdir()) == []
    assert Before(tmp_path).finished("a.png") is False
