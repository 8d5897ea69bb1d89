"""Data to be checked, ways to change it, and what the check reports of it."""

import json

import numpy as np
from PIL import Image

from unet_lowlevel.cli.check import main
from unet_lowlevel.data.phantoms.phantom import write_phantoms

GROUPS = ["--group-regex", r"patient-\d+"]


def write_clean(folder):
    """24 slices of 8 patients."""
    write_phantoms(folder, 24, (64, 64), slices_per_patient=3, seed=0)
    return folder


def report(capsys, data, *flags):
    """Exit code and findings {kind: finding} of the check, which must agree."""
    flags = flags if "--group-regex" in flags else (*GROUPS, *flags)
    code = main(["--data", str(data), "--json", *flags])
    output, error = capsys.readouterr()
    assert error == ""
    result = json.loads(output)
    found = {finding["kind"]: finding for finding in result["findings"]}
    assert len(found) == len(result["findings"])
    serious = any(finding["severity"] != "note" for finding in found.values())
    assert code == int(serious) and result["good"] == (not serious)
    return code, found


def path(data, kind, index):
    return sorted((data / kind).iterdir())[index]


def stem(data, index):
    return path(data, "images", index).stem


def read(file):
    return np.asarray(Image.open(file))


def change(file, function):
    """The pixels of a file, changed; the file is written anew."""
    Image.fromarray(function(read(file))).save(file)


def cut(data, kind, index):
    file = path(data, kind, index)
    file.write_bytes(file.read_bytes()[:100])
    return file.stem
