"""A machine that has little memory, as far as it tells."""

from unet_lowlevel import machine


def memory_information(monkeypatch, tmp_path, kilobytes):
    """So many KiB are available."""
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal:       9999999 kB\nMemFree:            1 kB\nMemAvailable:   {kilobytes} kB\n")
    monkeypatch.setattr(machine, "MEMORY_INFORMATION", file)
