"""Flags made from the settings, and errors of one line."""

import shlex
from pathlib import Path

import pytest

from unet_lowlevel import settings as cfg
from unet_lowlevel.cli import arguments
from unet_lowlevel.errors import UserError


def full_parser() -> arguments.Parser:
    parser = arguments.Parser("A test.")
    arguments.add_settings(parser)
    return parser


def resolved(*argv: str) -> cfg.Config:
    return arguments.resolved_config(full_parser().parse_args(list(argv)))


def value_of(config: cfg.Config, name: str):
    return getattr(getattr(config, cfg.settings()[name][0]), name)


def example(name: str) -> tuple[str, object]:
    """A text for the flag of a setting that is not its default, and the value that it stands for."""
    special = {
        "kernel_size": ("5", 5), "classes": ("2", 2), "class_weights": ("1,5.5", (1.0, 5.5)),
        "normalization_range": ("-1000,400", (-1000.0, 400.0)),
    }  # fmt: skip
    if name in special:
        return special[name]
    item = cfg.settings()[name][1]
    if item.metadata["choices"]:
        return item.metadata["choices"][-1], item.metadata["choices"][-1]
    return {int: ("3", 3), float: ("0.25", 0.25), str: ("some text", "some text")}[item.type]


BOOLEANS = [name for name, (_, item) in cfg.settings().items() if item.type is bool]


@pytest.mark.parametrize("name", [name for name in cfg.settings() if name not in BOOLEANS])
def test_every_setting_has_a_flag(name):
    text, value = example(name)
    parsed = full_parser().parse_args([f"{cfg.flag(name)}={text}"])
    assert arguments.given_settings(parsed) == {name: value}
    if not text.startswith("-"):
        assert arguments.given_settings(full_parser().parse_args([cfg.flag(name), text])) == {name: value}


@pytest.mark.parametrize("name", BOOLEANS)
def test_every_switch_goes_both_ways(name):
    assert value_of(resolved(cfg.flag(name)), name) is True
    assert value_of(resolved(cfg.flag(name).replace("--", "--no-", 1)), name) is False


def test_no_flips():
    assert resolved().augmentation.flips is True
    assert resolved("--no-flips").augmentation.flips is False


def test_without_flags_the_defaults():
    parsed = full_parser().parse_args([])
    assert arguments.given_settings(parsed) == {}
    assert arguments.resolved_config(parsed) == cfg.Config()


def test_precedence(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"training": {"epochs": 7, "patience": 3}}')
    config = resolved("--preset", "original", "--config", str(file), "--epochs", "9")
    assert (config.training.epochs, config.training.patience, config.model.dropout_rate) == (9, 3, 0.2)


def test_an_empty_list_takes_back_the_list(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"loss": {"class_weights": [1, 5]}}')
    assert resolved("--config", str(file)).loss.class_weights == (1.0, 5.0)
    assert resolved("--config", str(file), "--class-weights", "").loss.class_weights == ()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epoch", "3"], "--epoch is no flag of this command: did you mean --epochs?"),
        (["--learning_rate", "3"], "--learning_rate is no flag of this command: did you mean --learning-rate?"),
        (["--batchsize=3"], "--batchsize is no flag of this command: did you mean --batch-size?"),
        (["--no-flip"], "--no-flip is no flag of this command: did you mean --no-flips?"),
        (["--qqq"], "--qqq is no flag of this command: see --help."),
        (["lung-7.tif"], "lung-7.tif is no flag of this command: see --help."),
        (["--epochs", "many"], "--epochs is 'many', but needs a whole number."),
        (["--epochs", "2.5"], "--epochs is '2.5', but needs a whole number."),
        (["--epochs", "-1"], "--epochs is -1, but must be at least 1."),
        (["--epochs"], "Argument --epochs: expected one argument: see --help."),
        # argparse takes -1000,400 for a flag; the help shows the form with "=".
        (["--normalization-range", "-1000,400"], "Argument --normalization-range: expected one argument: see --help."),
        (["--learning-rate", "fast"], "--learning-rate is 'fast', but needs a number."),
        (["--learning-rate", "nan"], "--learning-rate is nan, but needs a number."),
        (["--learning-rate", "inf"], "--learning-rate is inf, but needs a number."),
        (["--dropout-rate", "1"], "--dropout-rate is 1.0, but must be below 1.0."),
        (["--class-weights", "1,a"], "--class-weights is 'a', but needs a number."),
        (["--class-weights", "1,-5"], "--class-weights is -5.0, but must be at least 0.0."),
        (["--class-weights", "1,2,3"], "--class-weights has 3 weights, but needs one for each of 2 classes"),
        (["--activation", "gelu"], "--activation is 'gelu', but needs one of elu, relu."),
        (["--preset", "best"], "--preset is 'best', but needs one of default, original, paper."),
        (["--config", "none.json"], "none.json does not exist: name an existing JSON file."),
        (["--flips=yes"], "Argument --flips/--no-flips: ignored explicit argument 'yes': see --help."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, message, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = arguments.run_command(lambda parsed: arguments.resolved_config(parsed) and 0, full_parser(), argv)
    output = capfd.readouterr()
    assert code == 2 and output.out == ""
    assert output.err.startswith(f"error: {message}")
    assert output.err.count("\n") == 1 and "Traceback" not in output.err


def test_debug_shows_the_traceback(capfd):
    def work(parsed):
        raise UserError("a.png is dark: use another.")

    assert arguments.run_command(work, full_parser(), []) == 2
    assert capfd.readouterr().err == "error: a.png is dark: use another.\n"
    assert arguments.run_command(work, full_parser(), ["--debug"]) == 2
    error = capfd.readouterr().err
    assert "Traceback" in error and error.endswith("error: a.png is dark: use another.\n")
    # Also when the arguments themselves are wrong.
    assert arguments.run_command(work, full_parser(), ["--debug", "--qqq"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_exit_codes(capfd):
    def interrupted(parsed):
        raise KeyboardInterrupt

    def broken(parsed):
        raise ZeroDivisionError

    assert arguments.run_command(lambda parsed: None, full_parser(), []) == 0
    assert arguments.run_command(lambda parsed: 3, full_parser(), []) == 3
    assert arguments.run_command(interrupted, full_parser(), []) == 130
    assert capfd.readouterr().err == "interrupted\n"
    # Our own mistakes are not passed off as the user's.
    with pytest.raises(ZeroDivisionError):
        arguments.run_command(broken, full_parser(), [])


def test_arguments_come_from_the_command_line(monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["train.py", "--epochs", "5"])
    assert arguments.run_command(lambda parsed: parsed.epochs, full_parser(), None) == 5
    monkeypatch.setattr("sys.argv", ["train.py", "--qqq", "--debug"])
    assert arguments.run_command(lambda parsed: 0, full_parser(), None) == 2
    assert "Traceback" in capfd.readouterr().err


def test_help_names_every_flag_its_help_and_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        full_parser().parse_args(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, (_, item) in cfg.settings().items():
        assert cfg.flag(name) in text
        # argparse breaks lines after hyphens, too
        assert item.metadata["help"].replace(" ", "") in text.replace(" ", "")
    for part in ("(default: 0.001)", "(default: dice_cross_entropy)", "(default: on)", "(default: off)"):
        assert part in text
    assert "default, original, paper" in text
    assert "==SUPPRESS==" not in text


def test_only_some_settings():
    parser = arguments.Parser("A test.")
    arguments.add_settings(parser, "data", "threshold")
    parsed = parser.parse_args(["--threshold", "0.3"])
    assert arguments.given_settings(parsed) == {"threshold": 0.3}
    for other in ("--epochs", "--preset", "--config"):
        with pytest.raises(UserError, match="no flag"):
            parser.parse_args([f"{other}=1"])


def test_flags_are_not_abbreviated():
    """What is short for one flag today might be short for two tomorrow."""
    with pytest.raises(UserError, match="--batch is no flag"):
        full_parser().parse_args(["--batch", "3"])


def test_show_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert arguments.show_path(tmp_path / "runs" / "a") == str(Path("runs", "a"))
    assert arguments.show_path("runs/a") == "runs/a"
    assert shlex.split(arguments.show_path("my runs/a")) == ["my runs/a"]
    assert arguments.show_path(tmp_path.parent) == str(tmp_path.parent)


def test_progress_is_silent_without_a_terminal(capfd):
    assert list(arguments.progress("reading")([1, 2, 3])) == [1, 2, 3]
    assert capfd.readouterr().err == ""
