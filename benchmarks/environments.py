"""An environment for each peer, made on demand in .bench/ from the pins in peers/<peer>.txt; Sidekiq is Debian's."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".bench"
OWN = ("jobline", "jobline_async", "limit", "flask", "raw")
"""These run in the environment that the harness itself runs in."""
BESIDE_OURS = ("servers",)
"""What is installed for these is added to that environment."""
NODE = ("bullmq",)
PACKAGED = {"sidekiq": ("ruby", "sidekiq")}
"""Programs of peers that the system's packages bring."""
NEEDS = {"ardiq": (3, 12)}
"""The Python that a peer needs, where ours is too old for it."""


class Unavailable(Exception):
    """Why a peer cannot be run here."""


def bin_folder(peer: str) -> Path:
    """Where the peer's interpreter and its command are.

    Raises:
        Unavailable
    """
    if peer in OWN:
        return Path(sys.prefix) / "bin"
    if peer in PACKAGED:
        return _linked(ENVIRONMENTS / peer / "bin", *PACKAGED[peer])
    folder, pins = ENVIRONMENTS / peer, PEERS / f"{peer}.txt"
    made_from = folder / "pins.txt"
    if not made_from.exists() or made_from.read_text() != pins.read_text():
        print(f"making {folder.relative_to(ROOT)}", file=sys.stderr)
        if peer in NODE:
            _make_for_node(folder, pins)
        else:
            _make(folder, pins, _interpreter(NEEDS.get(peer, (3, 11))))
        shutil.copy(pins, made_from)
    if peer in BESIDE_OURS:
        [packages] = folder.glob("lib/python*/site-packages")
        (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def _make(folder: Path, pins: Path, interpreter: str) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([interpreter, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        subprocess.run([*pip, "-r", str(pins)], check=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"its environment cannot be made: {error}") from error


def _make_for_node(folder: Path, pins: Path) -> None:
    _linked(folder / "bin", "node", "npm")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *pins.read_text().split()]
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"its environment cannot be made: {error}") from error


def _linked(folder: Path, *programs: str) -> Path:
    """A folder with links to these programs of the system."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        found = shutil.which(program)
        if found is None:
            raise Unavailable(f"there is no {program} on the PATH")
        (folder / program).unlink(missing_ok=True)
        (folder / program).symlink_to(found)
    return folder


def _interpreter(oldest: tuple[int, int]) -> str:
    """The first Python of at least that version: ours, one on the PATH, pyenv's, uv's."""
    for candidate in _candidates():
        code = "import sys, venv; print(*sys.version_info[:2])"
        try:
            answer = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=20, check=True)
        except (subprocess.SubprocessError, OSError):
            continue
        if tuple(map(int, answer.stdout.split())) >= oldest:
            return candidate
    raise Unavailable(f"there is no Python {'.'.join(map(str, oldest))} or newer")


def _candidates() -> Iterator[str]:
    yield sys.executable
    minors = range(12, 16)
    yield from (found for minor in minors if (found := shutil.which(f"python3.{minor}")))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(found) for minor in minors for found in pyenv.glob(f"versions/3.{minor}.*/bin/python"))
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", ">=3.12"]
        yield from subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.split()
