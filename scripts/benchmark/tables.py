"""The benchmark's results as Markdown."""

import itertools

from benchmark.peers import PEERS
from unet_lowlevel.markdown import markdown_table

PRODUCTS = {"ours": "tf.matmul", "torch": "torch.mm"}
SLOW_PATH = 0.8  # of the other product's speed: below, it says nothing of what the machine can do
ALONE = "step / its convolutions alone"
FEEDS = {"memory": "from memory", "files": "streamed from files of 4096x4096 (`--stream`), none of them cached"}


def shown(figure: dict[str, float], digits: int) -> str:
    return f"{figure['median']:.{digits}f} ({figure['min']:.{digits}f} to {figure['max']:.{digits}f})"


def verdict(row: dict) -> str:
    """The speed of ours relative to a peer, in bold if ours is slower."""
    figure = row["speed_of_ours"]
    if row["peer"] == "ours" or figure is None:
        return ""
    text = shown(figure, 2)
    return text if figure["median"] >= 1 else f"**{text}: slower**"


def table(title: str, header: list[str], rows: list[list[str]]) -> str:
    """A table, without the columns in which nothing stands."""
    filled = [any(column) for column in zip(*rows, strict=True)]
    head, *body = (list(itertools.compress(line, filled)) for line in (header, *rows))
    return f"### {title}\n\n{markdown_table(head, body)}\n"


def report(results: dict) -> str:
    """The results as Markdown: the tables, then where ours loses and who was left out."""
    plan, versions = results["settings"], results["machine"]["versions"]
    titles = {name: peer.title for name, peer in PEERS.items()}
    tables = [
        table(
            f"Training, batch {plan['batch_size']} of {plan['size']}x{plan['size']}",
            ["", "precision", "images per second", "share of the peak", ALONE, "speed of ours, this peer = 1"],
            [
                [
                    titles[row["peer"]],
                    row["precision"],
                    shown(row["images_per_second"], 2),
                    f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else "",
                    shown(row["convolutions_alone"], 2) if row.get("convolutions_alone") else "",
                    verdict(row),
                ]
                for row in results["training"]
            ],
        ),
        table(
            f"Inference, one image of {plan['picture_size']}x{plan['picture_size']}",
            ["", "precision", "milliseconds", "speed of ours, this peer = 1", "difference of the output"],
            [
                [
                    titles[row["peer"]],
                    row["precision"],
                    shown(row["milliseconds"], 1),
                    verdict(row),
                    f"{row['difference']:.1e}",
                ]
                for row in results["inference"]
            ],
        ),
        *([throughput_table(plan, results["throughput"])] if "throughput" in results else []),
        table(
            "Peak: the product of two large square matrices",
            ["", "precision", "GFLOP/s"],
            [[product(row, results["peak"]), row["precision"], shown(row["gflops"], 0)] for row in results["peak"]],
        ),
        table(
            "Memory of training and start-up",
            ["", "precision", "peak memory above the imports, MiB", "seconds from start to the end of the first step"],
            [
                [
                    titles[row["peer"]],
                    row["precision"],
                    f"{row['peak_bytes'] / 2**20:.0f}",
                    f"{row['seconds_to_first_step']:.1f}",
                ]
                for row in results["training"]
            ],
        ),
        table(
            "Memory of training with recomputed activations (`--recompute`)",
            ["precision", "peak memory above the imports, MiB", "saved", "time of a step, without = 1"],
            [
                [row["precision"], f"{row['peak_bytes'] / 2**20:.0f}", f"{row['saved']:.0%}", shown(row["time"], 2)]
                for row in results["recompute"]
            ],
        ),
        table(
            f"Tile by tile: {plan['large_size']}x{plan['large_size']}, beside {plan['large_size'] // 4}x"
            f"{plan['large_size'] // 4} whole",
            ["precision", "whole, megapixels per second", "tiled", "share", "peak memory whole, MiB", "tiled"],
            [
                [
                    row["precision"],
                    shown(row["whole"], 2),
                    shown(row["tiled"], 2),
                    shown(row["share"], 3),
                    f"{row['whole_peak_bytes'] / 2**20:.0f}",
                    f"{row['tiled_peak_bytes'] / 2**20:.0f}",
                ]
                for row in results["tiling"]
            ],
        ),
        *([forms_table(results["forms"])] if "forms" in results else []),
        table(
            "Input pipeline with the default augmentation, float32",
            ["batches", "images per second", "share"],
            [
                ["constant", shown(results["pipeline"]["constant"], 2), ""],
                *(
                    [title, shown(results["pipeline"][name], 2), shown(results["pipeline"][f"{name}_share"], 3)]
                    for name, title in FEEDS.items()
                ),
            ],
        ),
    ]
    head = (
        f"Base {plan['base_channels']}, depth {plan['depth']}, batch normalization, {plan['activation']}, Dice, Adam: "
        f"{results['gflop_of_a_step']:.1f} GFLOP in the convolutions of a training step. {plan['threads']} threads; "
        f"{plan['rounds']} turns of {plan['steps']} each, median (least to greatest) of the turns.{restless(results)}"
        f"\n\n{results['machine']['processor']}, {results['machine']['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".\n"
    )
    lines = [*losses_of_ours(results), *lines_of_convolutions(results), *lines_of_left_out(results)]
    lines += [f"- {titles[name]}: {how}." for name, how in results.get("how", {}).items()]
    return "\n".join([head, *tables, "\n".join(lines) + "\n"])


def restless(results: dict) -> str:
    """How many rounds of each part were not quiet."""
    if "rounds" not in results:
        return ""
    noisy = {part: sum(not row["quiet"] for row in rounds) for part, rounds in results["rounds"].items()}
    found = [f"{count} of {len(results['rounds'][part])} ({part})" for part, count in noisy.items() if count]
    return (
        " In each round the peers come in another order. Rounds in which the machine changed its speed are repeated, "
        f"half as many at most, and left out where at least as many remain: {', '.join(found) or 'none'}."
    )


def product(row: dict, peak: list[dict]) -> str:
    """The name of a product of matrices, and whether another library shows that it is no limit."""
    best = max(other["gflops"]["median"] for other in peak if other["precision"] == row["precision"])
    slow = row["gflops"]["median"] < SLOW_PATH * best
    return PRODUCTS[row["peer"]] + (", a slow BLAS path and no limit" if slow else "")


def throughput_table(plan: dict, rows: list[dict]) -> str:
    """Images per second of many images."""
    return table(
        f"Many images of {plan['size']}x{plan['size']}, {plan['images']} in a turn",
        [
            *["", "precision", "images in a batch", "images per second"],
            *["speed of ours, this peer = 1", "difference of the output"],
        ],
        [
            [
                PEERS[row["peer"]].title,
                row["precision"],
                str(row["batch_size"]),
                shown(row["images_per_second"], 1),
                verdict(row),
                f"{row['difference']:.1e}",
            ]
            for row in rows
        ],
    )


def forms_table(rows: list[dict]) -> str:
    """Milliseconds without and with each form of `core/fast.py`."""
    return table(
        "What each fast form gains",
        ["fast form", "precision", "milliseconds of", "without it", "with it", "without / with"],
        [
            [
                row["form"],
                row["precision"],
                {"training": "a step", "inference": "an image"}[row["work"]],
                shown(row["without"], 1),
                shown(row["with"], 1),
                shown(row["gain"], 2),
            ]
            for row in rows
        ],
    )


def losses_of_ours(results: dict) -> list[str]:
    """A line for each comparison, with the peers that are better than ours in the same precision, or none."""
    lines = []
    for work, what, figure, better in (
        ("training", "slower to train", lambda row: row["images_per_second"]["median"], max),
        ("inference", "slower to predict", lambda row: row["milliseconds"]["median"], min),
        ("throughput", "slower to predict many images", lambda row: row["images_per_second"]["median"], max),
        ("training", "larger in memory", lambda row: row["peak_bytes"], min),
        ("training", "slower to start", lambda row: row["seconds_to_first_step"], min),
    ):
        if work not in results:
            continue
        ours = {row["precision"]: figure(row) for row in results[work] if row["peer"] == "ours"}
        ahead = [
            f"{PEERS[row['peer']].title} ({row['precision']})"
            for row in results[work]
            if row["precision"] in ours
            and figure(row) != ours[row["precision"]]
            and better(figure(row), ours[row["precision"]]) == figure(row)
        ]
        lines.append(f"- Ours is {what} than {', '.join(ahead) or 'none of them'}.")
    return lines


def lines_of_convolutions(results: dict) -> list[str]:
    found = [f"{shown(row['milliseconds'], 1)} ms ({row['precision']})" for row in results.get("convolutions", [])]
    return [f"- The convolutions of our step alone take oneDNN {', '.join(found)}."] if found else []


def lines_of_left_out(results: dict) -> list[str]:
    return [
        f"- Left out: {PEERS[entry['peer']].title}, {entry['work']}, {entry['precision']}: {entry['reason']}."
        for entry in results["left_out"]
    ]
