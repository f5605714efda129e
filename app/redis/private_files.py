"""Files that only their owner can read."""

from pathlib import Path


def write(file: Path, text: str) -> None:
    """Write a file with mode 0600, atomically replacing an existing one."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(text)
    new.replace(file)


def restrict(path: Path) -> None:
    """Remove the permissions of other users from a file or folder, if it exists.

    Raises:
        PermissionError: the path belongs to another user.
    """
    if path.exists():
        path.chmod(path.stat().st_mode & 0o700)
