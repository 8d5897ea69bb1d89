"""`python -m unet_lowlevel COMMAND`: the same as the command `unet-lowlevel COMMAND`."""

from unet_lowlevel.cli.process import run


def main() -> None:
    """The command `unet-lowlevel`; ends the process."""
    run("unet_lowlevel.cli.main")


if __name__ == "__main__":
    main()
