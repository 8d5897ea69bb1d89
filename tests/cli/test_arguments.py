"""Flags made from the settings, and errors of one line."""

import sys
from pathlib import Path

import pytest

from unet_lowlevel import settings as cfg
from unet_lowlevel.cli import arguments
from unet_lowlevel.config import Config
from unet_lowlevel.errors import UserError


def full_parser() -> arguments.Parser:
    parser = arguments.Parser("A test.", "train")
    arguments.add_settings(parser)
    return parser


def resolved(*argv: str) -> Config:
    return arguments.resolved_config(full_parser().parse_args(list(argv)))


def example(name: str) -> tuple[str, object]:
    """A text for the flag of a setting that is not its default, and the value that it stands for."""
    special = {
        "kernel_size": ("5", 5), "classes": ("2", 2), "class_weights": ("1,5.5", (1.0, 5.5)),
        "ignore_value": ("254,-1", (254.0, -1.0)), "normalization_range": ("-1000,400", (-1000.0, 400.0)),
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
    assert cfg.value_of(resolved(cfg.flag(name)), name) is True
    assert cfg.value_of(resolved(cfg.flag(name).replace("--", "--no-", 1)), name) is False


def test_no_flips():
    assert resolved().augmentation.flips is True
    assert resolved("--no-flips").augmentation.flips is False


def test_without_flags_the_defaults():
    parsed = full_parser().parse_args([])
    assert arguments.given_settings(parsed) == {}
    assert arguments.resolved_config(parsed) == Config()


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
        (
            ["--preset", "best"],
            "--preset is 'best', but needs one of default, original, paper, light_augmentation, strong_augmentation.",
        ),
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

    def interrupted_with_a_remedy(parsed):
        raise KeyboardInterrupt("go on with --resume")

    assert arguments.run_command(interrupted_with_a_remedy, full_parser(), []) == 130
    assert capfd.readouterr().err == "interrupted; go on with --resume\n"
    # Our own mistakes are not passed off as the user's.
    with pytest.raises(ZeroDivisionError):
        arguments.run_command(broken, full_parser(), [])


def test_arguments_come_from_the_command_line(monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["train.py", "--epochs", "5"])
    assert arguments.run_command(lambda parsed: parsed.epochs, full_parser(), None) == 5
    monkeypatch.setattr("sys.argv", ["train.py", "--qqq", "--debug"])
    assert arguments.run_command(lambda parsed: 0, full_parser(), None) == 2
    assert "Traceback" in capfd.readouterr().err


def help_of(parser: arguments.Parser, flag: str, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        parser.parse_args([flag])
    assert end.value.code == 0
    return capsys.readouterr().out


def without_breaks(text: str) -> str:
    """A help without its blanks: argparse breaks lines after hyphens, too."""
    return "".join(text.split())


def test_help_all_names_every_flag_its_help_and_its_default(capsys):
    text = help_of(full_parser(), "--help-all", capsys)
    for name, (_, item) in cfg.settings().items():
        assert cfg.flag(name) in text
        assert without_breaks(item.metadata["help"]) in without_breaks(text)
    joined = " ".join(text.split())
    for part in ("(default: 0.001)", "(default: dice_cross_entropy)", "(default: on)", "(default: off)"):
        assert part in joined
    assert "default, original, paper" in joined
    assert "==SUPPRESS==" not in text
    for kind in cfg.sections().values():  # what each group of flags is for
        assert without_breaks(kind.__doc__.splitlines()[0]) in without_breaks(text)


EVERYDAY = {
    *("classes", "precision", "loss", "learning_rate", "data", "images", "masks", "stream", "group_regex", "epochs"),
    *("steps_per_epoch", "batch_size", "crop_size", "patience", "overfit_one_batch", "plan", "minutes"),
}


def test_help_has_the_everyday_settings_only(capsys):
    text = help_of(full_parser(), "--help", capsys)
    assert {name for name, (_, item) in cfg.settings().items() if item.metadata["everyday"]} == EVERYDAY
    words = text.replace(",", " ").split()
    for name, (_, item) in cfg.settings().items():
        assert (cfg.flag(name) in words) == (name in EVERYDAY)
        assert (without_breaks(item.metadata["help"]) in without_breaks(text)) == (name in EVERYDAY)
    for flag in ("--help-all", "--preset", "--config", "--debug", "--version"):
        assert flag in words
    assert "==SUPPRESS==" not in text and "default, original, paper" in " ".join(text.split())
    # No group of flags stands there without a flag.
    assert cfg.sections()["augmentation"].__doc__.splitlines()[0] not in text and "augmentation:" not in text


def test_hidden_flags_work_all_the_same():
    assert resolved("--dropout-rate", "0.25", "--no-flips").model.dropout_rate == 0.25


def test_there_is_no_more_help_where_nothing_is_hidden(capsys):
    parser = arguments.Parser("A test.", "evaluate")
    arguments.add_settings(parser, "data", "threshold")
    text = help_of(parser, "--help", capsys)
    assert "--threshold" in text and "--help-all" not in text
    assert help_of(parser, "--help-all", capsys) == text


def test_only_some_settings():
    parser = arguments.Parser("A test.", "evaluate")
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


PYTHON = arguments.show_path(sys.executable)


@pytest.mark.parametrize(
    ("called", "command", "this", "expected"),
    [
        ("{bin}/unet-lowlevel", "predict", False, "unet-lowlevel predict"),
        ("{bin}/unet-lowlevel", "train", True, "unet-lowlevel train"),
        ("{elsewhere}/unet-lowlevel", "predict", False, "elsewhere/unet-lowlevel predict"),
        ("/site-packages/unet_lowlevel/__main__.py", "predict", False, f"{PYTHON} -m unet_lowlevel predict"),
        ("/site-packages/unet_lowlevel/__main__.py", "train", True, f"{PYTHON} -m unet_lowlevel train"),
        ("scripts/train_keras.py", "predict", False, f"{PYTHON} scripts/predict_lowlevel.py"),
        ("scripts/train_keras.py", "train", True, f"{PYTHON} scripts/train_keras.py"),
        ("my scripts/train_lowlevel.py", "evaluate", False, f"{PYTHON} 'my scripts/evaluate_lowlevel.py'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_to_type_next_is_called_as_this_was(called, command, this, expected, tmp_path, monkeypatch):
    """By name where the name is found, as a module, or as a script."""
    monkeypatch.chdir(tmp_path)
    for folder in ("bin", "elsewhere"):
        Path(folder).mkdir()
        Path(folder, "unet-lowlevel").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    places = {folder: str(tmp_path / folder) for folder in ("bin", "elsewhere")}
    monkeypatch.setattr("sys.argv", [called.format(**places)])
    assert arguments.to_type(command, this=this) == expected


def test_a_console_script_that_is_not_on_the_path_is_named_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "venv" / "bin" / "unet-lowlevel")])
    assert arguments.to_type("predict") == "venv/bin/unet-lowlevel predict"


def test_a_console_script_of_windows_is_found_by_its_name(monkeypatch, tmp_path):
    """The launcher is unet-lowlevel.exe, and its program hears of unet-lowlevel."""
    monkeypatch.setattr(arguments.shutil, "which", lambda name: str(tmp_path / f"{name}.exe"))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "unet-lowlevel")])
    assert arguments.to_type("predict") == "unet-lowlevel predict"


@pytest.mark.parametrize("command", arguments.SCRIPTS)
def test_every_command_has_a_script(command):
    assert (Path(__file__).parents[2] / "scripts" / arguments.SCRIPTS[command]).is_file()


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("/venv/bin/unet-lowlevel", "unet-lowlevel train [flags]"),
        ("/site-packages/unet_lowlevel/__main__.py", "unet-lowlevel train [flags]"),
        ("scripts/train_lowlevel.py", "train_lowlevel.py [flags]"),
    ],
)
def test_help_begins_with_the_name_of_the_command(called, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", [called])
    assert full_parser().format_usage().split(maxsplit=1)[1].strip() == expected
