"""Shell parts that keep checkouts apart and say what is not there; the engine is made up, in tests/stack it is real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = """#!/bin/bash
# What a docker client would answer, from files beside this one; what it is asked goes to `asked`.
here=$(dirname "$0")
echo "$*" >>"$here/asked"
case $1 in
    ps) cat "$here/containers" ;;
    image) [[ -e $here/built ]] ;;
    version) [[ ! -e $here/version ]] || cat "$here/version" ;;
    compose) [[ $2 == version ]] || env >"$here/environment" ;;
    exec) "$here/console" "$@" ;;
esac
"""
COMMANDS = (
    "batch",
    "rollback",
    "audit",
    "query",
    "status",
    "psql",
    "logs",
    "replay LOG=Makefile",
    "follow LOG=Makefile",
    "sources",
)


@dataclass(frozen=True)
class Checkout:
    """A folder with Braid's scripts, and a docker client on its PATH that answers what a test wants."""

    folder: Path
    bin: Path

    def contains(self, *containers: str, built: bool = True) -> None:
        """What the engine has of the project: state, one-off, folder."""
        (self.bin / "containers").write_text("".join(f"{line}\n" for line in containers))
        if built:
            (self.bin / "built").touch()

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the folder."""
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "BRAID_INSTALL_ENGINE": "no", **variables}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, input=""
        )

    def refusal(self, *command: str, **variables: str) -> str:
        """The one line that a refused command says, which asked the engine for nothing but its lists."""
        done = self.run(*command, **variables)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
        assert (done.returncode != 0, done.stdout, len(lines)) == (True, "", 1), done
        assert [line for line in self.asked() if not re.match("ps|image inspect|version|compose version", line)] == []
        assert not (self.folder / "build" / "ca").exists()
        return lines[0]

    def asked(self) -> list[str]:
        """What the engine was asked for."""
        return (self.bin / "asked").read_text().splitlines() if (self.bin / "asked").exists() else []

    def environment(self) -> dict[str, str]:
        """With what compose was called."""
        return dict(line.split("=", 1) for line in (self.bin / "environment").read_text().splitlines() if "=" in line)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """With a blank in its name, secrets made, and nothing built or running."""
    folder, binaries = tmp_path / "a checkout", tmp_path / "bin"
    shutil.copytree(ROOT / "compose", folder / "compose", ignore=shutil.ignore_patterns(".env"))
    shutil.copy(ROOT / "Makefile", folder)
    binaries.mkdir()
    (binaries / "docker").write_text(ANSWERS)
    (binaries / "docker").chmod(0o755)
    made = Checkout(folder, binaries)
    made.contains(built=False)
    subprocess.run(["compose/secrets"], cwd=folder, check=True)
    return made


@pytest.mark.parametrize("command", [*COMMANDS, "up", "deploy", "down", "clean YES=1", "ps"])
def test_another_folders_project_is_named_and_left_alone(checkout: Checkout, tmp_path: Path, command: str):
    other = tmp_path / "first checkout" / "compose"
    other.mkdir(parents=True)
    (other / "compose.yaml").touch()
    # Stopped ones too: the engine may have been started anew.
    checkout.contains(f"{'exited' if command == 'up' else 'running'} False {other}")
    said = checkout.refusal("make", *command.split())
    assert f"project 'braid' belongs to another folder, {other.parent}:" in said
    assert "COMPOSE_PROJECT_NAME=braid-2" in said
    settings = re.findall(r"^#(BRAID_PORT_\w+)=", (ROOT / "compose" / ".env.example").read_text(), re.MULTILINE)
    assert len(settings) == 7
    assert [name for name in settings if not re.search(rf"{name}=\d+", said)] == []


def test_a_folder_that_is_gone_owns_nothing_and_a_link_is_its_folder(checkout: Checkout, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(checkout.folder)
    checkout.contains(
        "running False /no/such/folder/compose",
        f"running False {link}/compose",
        f"running False {checkout.folder}/compose",
        "running False ",
    )
    for command in ("down", "query"):
        assert checkout.run("make", command).returncode == 0
    assert [line.split()[-1] for line in checkout.asked() if line.startswith("compose -f")][:1] == ["--remove-orphans"]


@pytest.mark.parametrize("command", COMMANDS)
def test_before_anything_is_there_each_command_says_what_makes_it(checkout: Checkout, command: str):
    assert "nothing is built here: 'make up' builds and starts everything" in checkout.refusal("make", *command.split())


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "logs"])
def test_where_nothing_runs_each_command_says_so(checkout: Checkout, command: str):
    for container in ("exited False", "running True"):  # what is left of a stack, or runs only for a command
        checkout.contains(f"{container} {checkout.folder}/compose")
        assert "project 'braid' does not run: 'make up' starts it" in checkout.refusal("make", *command.split())


def test_what_needs_no_stack_runs_without_one(checkout: Checkout):
    checkout.contains()
    for command in ("build", "up -d timescaledb", "down", "ps", "run --rm tools -m ingest --help", "--profile x config"):
        assert checkout.run("compose/engine", "compose", *command.split()).returncode == 0, command
    checkout.contains(f"exited False {checkout.folder}/compose")
    assert checkout.run("make", "logs").returncode == 0


def test_passwords_that_are_not_there_are_said(checkout: Checkout):
    checkout.contains("running False /gone/compose")
    shutil.rmtree(checkout.folder / "build" / "secrets")
    for command in ("query", "psql"):
        assert "there are no passwords in build/secrets: 'make up' makes them" in checkout.refusal("make", command)


_HOST_TOOLS = ("bash", "make", "sh", "dirname", "sed", "tail", "env", "timeout", "stat", "readlink")


def folder_of(tools: Iterable[str], folder: Path) -> str:
    """A PATH that has these and no others."""
    folder.mkdir()
    for name in tools:
        (folder / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    return str(folder)


def test_without_a_docker_client_no_question_installs_one(checkout: Checkout, tmp_path: Path):
    said = checkout.refusal("make", "query", PATH=folder_of(_HOST_TOOLS, tmp_path / "alone"), BRAID_INSTALL_ENGINE="yes")
    assert "nothing is built here" in said


@pytest.mark.parametrize("missing", ["timeout", "readlink", "stat"])
def test_a_machine_without_gnu_tools_is_told_what_to_install(checkout: Checkout, tmp_path: Path, missing: str):
    path = folder_of({*_HOST_TOOLS} - {missing}, tmp_path / "alone")
    if missing == "stat":
        # One that is there and does not know the option, as that of macOS.
        (tmp_path / "alone" / "stat").write_text("#!/bin/sh\necho 'stat: illegal option -- c' >&2\nexit 1\n")
        (tmp_path / "alone" / "stat").chmod(0o755)
    said = checkout.refusal("make", "up", PATH=path)
    assert "GNU's timeout, stat and readlink are needed" in said
    assert "brew install bash coreutils" in said


def test_podman_is_refused_before_anything_is_built(checkout: Checkout):
    (checkout.bin / "version").write_text("Podman Engine Conmon Engine\n")
    said = checkout.refusal("make", "up")
    assert "the engine that answers is Podman" in said
    assert "https://docs.docker.com/engine/security/rootless" in said


def test_the_project_of_env_is_the_one_that_is_looked_for(checkout: Checkout):
    for line in ("COMPOSE_PROJECT_NAME=mine", 'COMPOSE_PROJECT_NAME="mine" # second', "export COMPOSE_PROJECT_NAME='mine'"):
        (checkout.folder / "compose" / ".env").write_text(f"BRAID_BOLTS=2\n{line}\n")
        assert checkout.run("compose/engine", "compose", "ps").returncode == 0
        assert "label=com.docker.compose.project=mine " in checkout.asked()[-3]
        assert checkout.environment()["COMPOSE_PROJECT_NAME"] == "mine"
    assert checkout.run("compose/engine", "compose", "ps", COMPOSE_PROJECT_NAME="shell").returncode == 0
    assert checkout.environment()["COMPOSE_PROJECT_NAME"] == "shell"


def test_a_name_that_compose_would_change_is_refused(checkout: Checkout):
    for name in ("Braid", "braid 2", "-2", "../x"):
        assert f"COMPOSE_PROJECT_NAME={name} is no name" in checkout.refusal("make", "down", COMPOSE_PROJECT_NAME=name)


def test_the_shells_choice_of_files_services_and_builder_is_not_ours(checkout: Checkout):
    foreign = {"COMPOSE_FILE": "x", "COMPOSE_PROFILES": "x", "COMPOSE_ENV_FILES": "x", "DOCKER_BUILDKIT": "0"}
    assert checkout.run("compose/engine", "compose", "build", **foreign).returncode == 0
    assert {name: checkout.environment().get(name) for name in foreign} == {
        **dict.fromkeys(foreign), "DOCKER_BUILDKIT": "1"
    }  # fmt: skip
    # A home that cannot be written does not matter.
    assert checkout.environment()["BUILDX_CONFIG"] == f"{checkout.folder}/build/buildx"


@pytest.fixture
def drill(checkout: Checkout) -> Checkout:
    """With tests/run, whose virtual environment has a Python that tells its environment."""
    (checkout.folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "run", checkout.folder / "tests")
    shutil.copy(ROOT / "requirements-dev.lock", checkout.folder)
    venv = checkout.folder / "build" / "venv"
    (venv / "bin").mkdir(parents=True)
    digest = subprocess.run(["sha256sum", ROOT / "requirements-dev.lock"], capture_output=True, text=True, check=True).stdout
    (venv / digest[:16]).touch()
    (venv / "bin" / "python").write_text("#!/bin/sh\nenv\n")
    (venv / "bin" / "python").chmod(0o755)
    return checkout


@pytest.mark.parametrize(("number", "project", "port"), [("", "braid-drill", "39092"), ("2", "braid-drill-2", "39292")])
def test_tests_have_a_project_of_their_own_whatever_the_shell_says(drill: Checkout, number: str, project: str, port: str):
    mine = {
        "COMPOSE_PROJECT_NAME": "mine", "BRAID_PORT_KAFKA": "1", "BRAID_BOLTS": "9", "PYTEST_ADDOPTS": "-x",
        "PYTHONPATH": "/", "PYTHONOPTIMIZE": "1", "PGHOSTADDR": "1.2.3.4", "SITE": "x", "no_proxy": "example.com",
    }  # fmt: skip
    (drill.folder / "compose" / ".env").write_text("COMPOSE_PROJECT_NAME=mine\n")
    done = drill.run("tests/run", "drill", TEST_STACK=number, **mine)
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert (environment["COMPOSE_PROJECT_NAME"], environment["BRAID_PORT_KAFKA"]) == (project, port), done
    assert environment["BRAID_ENV_FILE"] == "/dev/null"
    assert environment["no_proxy"] == "127.0.0.1,localhost,example.com"
    assert not {"BRAID_BOLTS", "PYTEST_ADDOPTS", "PYTHONPATH", "PYTHONOPTIMIZE", "PGHOSTADDR", "SITE"} & environment.keys()


def test_another_checkouts_tests_are_not_stopped(drill: Checkout, tmp_path: Path):
    other = tmp_path / "first" / "compose"
    other.mkdir(parents=True)
    (other / "compose.yaml").touch()
    drill.contains(f"running False {other}")
    said = drill.run("tests/run", "simulate").stderr.splitlines()[-1]
    assert f"project 'braid-simulate' belongs to another folder, {other.parent}" in said
    assert "TEST_STACK=1" in said
    assert [line for line in drill.asked() if " down " in line] == []


def test_what_images_copy_does_not_depend_on_the_clones_umask():
    lines = (ROOT / "compose" / "images" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line for line in lines if line.startswith("COPY ") and not line.startswith("COPY --from=")]
    assert len(copies) > 10
    assert [line for line in copies if not line.startswith("COPY --chmod=0755 ")] == []


@pytest.fixture
def console(checkout: Checkout) -> Callable[[str], None]:
    """A stack with a container that stays, in which Python does what is said."""

    def stays(python: str) -> None:
        checkout.contains(
            f"running False {checkout.folder}/compose\tkafka\tb1", f"running False {checkout.folder}/compose\tconsole\tc1"
        )
        (checkout.bin / "console").write_text(f'#!/bin/bash\nhere=$(dirname "$0")\n{python}\n')
        (checkout.bin / "console").chmod(0o755)

    return stays


def test_a_question_starts_no_container(checkout: Checkout, console: Callable[[str], None]):
    console("cat; echo answer; exit 7")
    done = subprocess.run(
        ["compose/engine", "ask", "-m", "serving", "query", "select 'a  b'"], cwd=checkout.folder, input="in\n", text=True,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}", "BRAID_TOPIC": "mine"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\nanswer\n", "")
    lists, asked = checkout.asked()
    assert lists.startswith("ps --all ")
    # What this shell sets wins, as it does for a container that is started.
    assert re.fullmatch(r"exec --interactive (--env \w+ )+c1 python -X call=[\d-]+ -m serving query select 'a  b'", asked)
    assert "--env BRAID_TOPIC " in asked
    # A name that is not set would be taken out of the container's own.
    assert "SPARK_MASTER" not in asked
    checkout.run("compose/engine", "ask", "-c", "", SPARK_MASTER="")
    assert "--env SPARK_MASTER " in checkout.asked()[-1]


def test_an_answer_that_does_not_fit_into_memory_is_told(checkout: Checkout, console: Callable[[str], None]):
    console("echo half; exit 137  # as the kernel ends it")
    done = checkout.run("make", "--silent", "query", SQL="select 1")
    assert done.stdout == "half\n"
    said = done.stderr.splitlines()[0]
    assert "the container 'console' has no memory for so much at once, or was ended. Ask for less" in said
    assert "tools -m serving …' has twice as much" in said


def test_without_a_container_that_stays_one_is_started(checkout: Checkout):
    folder = f"{checkout.folder}/compose"
    for others in ("", f"exited False {folder}\tconsole\tc1\n", f"running True {folder}\tconsole\tc1\n"):
        checkout.contains(*f"{others}running False {folder}\ttimescaledb\tb1".split("\n"))
        assert checkout.run("make", "query", SQL="select 1").returncode == 0
        assert checkout.asked()[-1].endswith(" run --rm -T --no-deps tools -m serving query --format table select 1")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGHUP, "HUP")])
def test_a_signal_ends_the_question_in_the_container(
    checkout: Checkout, console: Callable[[str], None], number: int, name: str
):
    # The client of a container ends when what runs there does, not before; at first nothing runs there that could be found.
    console(
        """if [[ $3 == pkill ]]; then
            if [[ ! -e $here/late ]]; then touch "$here/late"; exit 1; fi
            echo end >"$here/pipe"
        else echo begun; read -r <"$here/pipe"; exit 130; fi"""
    )
    os.mkfifo(checkout.bin / "pipe")
    asking = subprocess.Popen(
        ["compose/engine", "ask", "-m", "serving", "query", "select pg_sleep(60)"], cwd=checkout.folder, text=True,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}"}, stdout=subprocess.PIPE, start_new_session=True,
        # Whoever starts the tests may ignore it, as nohup does, and so would the shell.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert asking.stdout
    assert asking.stdout.readline() == "begun\n"
    os.killpg(asking.pid, signal.SIGINT) if number == signal.SIGINT else asking.send_signal(number)
    asking.communicate(timeout=60)
    assert asking.returncode in (130, 128 + number)
    call = next(line.split("call=")[1].split()[0] for line in checkout.asked() if " python " in line)
    assert checkout.asked()[-2:] == [f"exec c1 pkill -{name} -f -- -X call={call}"] * 2
