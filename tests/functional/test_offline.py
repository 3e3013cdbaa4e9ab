"""Without a network everything works and nothing tries to reach one; no library tells its makers of a use.

The commands run in a process of their own, in an empty home, without a setting that keeps libraries from the network.
There every attempt is refused and recorded: by an audit hook for Python, and by the kernel, which ends the process, for
code in C.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUARD = """
import ctypes, json, os, struct, sys

ATTEMPTS = []
REFUSED = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request",
           "http.client.connect", "subprocess.Popen", "os.system"}
INTERNET = (2, 10)

def refuse(event, arguments):
    if event in REFUSED or (event == "socket.__new__" and arguments[1] in INTERNET):
        frame, callers = sys._getframe(1), set()
        while frame:
            frame = callers.add(frame.f_code.co_name) or frame.f_back
        if event == "subprocess.Popen" and arguments[0] in ("fc-list", "uname"):
            return  # local programs: matplotlib asks for fonts, MLflow for the kind of processor
        # Of urllib3, which asks when it is imported whether a socket can be bound to this machine's own address.
        if "_has_ipv6" not in callers:
            ATTEMPTS.append([event, repr(arguments[1:])])
        raise OSError(f"refused: {event}")

def end_at_internet_sockets():
    # A filter of system calls, see seccomp(2): socket(AF_INET or AF_INET6, ...) ends the process.
    arch, socket = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[os.uname().machine]
    load, equal, give = 0x20, 0x15, 0x06
    rows = [(load, 0, 0, 4), (equal, 0, 5, arch), (load, 0, 0, 0), (equal, 0, 3, socket), (load, 0, 0, 16),
            *((equal, 2 - number, 0, family) for number, family in enumerate(INTERNET)),
            (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x80000000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in rows))
    program = struct.pack("@HP", len(rows), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0, os.strerror(ctypes.get_errno())

sys.addaudithook(refuse)
if sys.platform == "linux":
    end_at_internet_sockets()
"""
"""What a process runs first."""

COMMANDS = """
from cardioner.cli import main

DONE = {}
for name, arguments in json.loads(os.environ.pop("COMMANDS")).items():
    sys.argv = ["cardioner", *arguments]
    before = len(ATTEMPTS)
    try:
        main()
    except SystemExit as end:
        DONE[name] = [end.code or 0, ATTEMPTS[before:]]
        print("ended:", name, DONE[name], file=sys.stderr)
with open("done.json", "w") as file:
    json.dump(DONE, file)
"""

NAMES = (
    *("check", "check sub-tokens", "split", "convert", "train with TensorBoard", "train with MLflow", "predict"),
    *("evaluate", "compare", "inspect", "export hub"),
    *("export onnx", "verify", "sign", "sign a model"),
)

Alone = Callable[..., "subprocess.CompletedProcess[str]"]


def start(code: str, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that knows nothing of this one's settings, and whose home is an empty folder."""
    home = place / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "TMPDIR": str(home / "tmp"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        *(),
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def commands(notes: Path, encoder: Path) -> dict[str, list[str]]:
    """The command lines, in an order in which each finds what it needs in the current folder."""
    tiny = ["--epochs", "1", "--batch-size", "2", "--max-length", "64", "--device", "cpu", "--learning-rate", "0.005"]
    parts = ["--train", str(notes / "train"), "--eval", str(notes / "dev"), "--backbone", str(encoder)]
    lines = (
        ["check", str(notes / "train"), "--html", "check.html"],
        ["check", str(notes / "train"), "--backbone", "default"],
        ["split", str(notes / "train"), "--output", "splits.json"],
        ["convert", str(notes / "train"), "table", "--to", "datasets"],
        ["train", *parts, *tiny, "--output", "model", "--tracking", "tensorboard", "--html", "training.html"],
        ["train", *parts, *tiny, "--output", "second", "--tracking", "mlflow", "--crf"],
        ["predict", "model", str(notes / "dev"), "--output", "tagged"],
        ["evaluate", str(notes / "dev"), "tagged", "--bootstrap", "10", "--html", "scores.html"],
        ["compare", "tagged", "tagged", "--gold", str(notes / "dev"), "--bootstrap", "10"],
        ["inspect", "model"],
        ["export", "hub", "model", "for-the-hub"],
        ["export", "onnx", "model", "for-onnx"],
        ["verify", "model"],
        ["sign", "--make-key", "own.key"],
        ["sign", "model", "--key", "own.key"],
    )
    return dict(zip(NAMES, lines, strict=True))


@pytest.fixture(scope="module")
def done(
    corpus: Path, encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[Any]]]:
    """The folder, and of each command its exit code and what it tried."""
    place = tmp_path_factory.mktemp("offline")
    asked = json.dumps(commands(corpus, encoder_dir("bert")))
    ended = start(GUARD + COMMANDS, place, COMMANDS=asked)
    assert ended.returncode == 0, ended.stderr
    sys.stderr.write(ended.stderr)  # for whom a command fails
    return place, json.loads((place / "done.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_command_works_without_a_network_and_tries_to_reach_none(
    name: str, done: tuple[Path, dict[str, list[Any]]]
) -> None:
    assert done[1][name] == [0, []]


def test_commands_leave_nothing_in_the_home_but_a_key_and_lists_of_fonts_and_of_the_fastest_precisions(
    done: tuple[Path, dict[str, list[Any]]],
) -> None:
    left = {path.name for path in (done[0] / "home").rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("fontlist")} <= {"data.key", "precisions.json"}


PYTHON_ATTEMPTS = {
    "connection": "import socket; socket.create_connection(('192.0.2.1', 80))",
    "name": "import socket; socket.getaddrinfo('example.org', 80)",
    "datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "server": "import socket; socket.socket().bind(('0.0.0.0', 0))",
    "hub": "from huggingface_hub import HfApi; HfApi().model_info('bert-base-uncased')",
    "program": "import subprocess; subprocess.run(['curl', 'https://example.org'])",
}


@pytest.mark.parametrize("attempt", PYTHON_ATTEMPTS)
def test_the_guard_refuses_and_records_what_python_tries(attempt: str, tmp_path: Path) -> None:
    code = f"try:\n    {PYTHON_ATTEMPTS[attempt]}\nexcept Exception: pass\nprint(len(ATTEMPTS))"
    ended = start(GUARD + code, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_guard_ends_a_process_whose_c_code_tries(family: int, tmp_path: Path) -> None:
    ended = start(f"{GUARD}\nctypes.CDLL(None).socket({int(family)}, 1, 0)\nprint('went on')", tmp_path)
    assert (ended.returncode, ended.stdout) == ((-signal.SIGSYS, "") if sys.platform == "linux" else (0, "went on\n"))


# Telemetry -----------------------------------------------------------------------------------------------------------

SWITCHES = {"HF_HUB_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}
TOLD = """
import json, os
import huggingface_hub.constants, mlflow.telemetry, onnxruntime, transformers.utils.hub
from pathlib import Path
print(json.dumps({
    "hub": huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY,
    "transformers": "telemetry/off" in transformers.utils.hub.http_user_agent(),
    "mlflow": mlflow.telemetry.get_telemetry_client() is None,
    "onnxruntime": not any("onnx" in path.name.lower() for path in Path(os.environ["HOME"]).rglob("*")),
}))
"""
DOORS = {
    "library": "import cardioner",
    "command line": """
import sys, typer
from cardioner.cli import main
sys.argv = ["cardioner", "--version"]
try:
    main()
except SystemExit:
    print()
""",
}


@pytest.mark.parametrize("door", DOORS)
def test_no_library_tells_its_makers_of_a_use(door: str, tmp_path: Path) -> None:
    ended = start(GUARD + DOORS[door] + TOLD, tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found == dict.fromkeys(found, True)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("own", ["0", ""])
def test_who_has_set_a_switch_has_chosen(door: str, own: str, tmp_path: Path) -> None:
    ask = "\nimport os\nprint([os.environ[name] for name in " + repr(list(SWITCHES)) + "])"
    assert start(DOORS[door] + ask, tmp_path).stdout.splitlines()[-1] == repr(list(SWITCHES.values()))
    ended = start(DOORS[door] + ask, tmp_path, **dict.fromkeys(SWITCHES, own))
    assert ended.stdout.splitlines()[-1] == repr([own] * len(SWITCHES))
