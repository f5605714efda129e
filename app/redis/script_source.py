"""The source of a Lua script as it is sent to Redis: the file, the library functions that it needs, its arguments.

A Redis script defines its functions anew at each call, and that costs as much as its commands if there are many. So:

- a library function that the script does not need is left out;
- a library function (or table) that only one other mentions is defined inside of it, and costs nothing until then;
- keys and constants are written in place of their names.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path

from app.redis import keys

FOLDER = Path(__file__).parent.parent
HEADER = re.compile(r"^-- (args|rest|uses):(.*)$", re.MULTILINE)
COMMENT = re.compile(r"^--.*\n| *-- .*", re.MULTILINE)
STATEMENT = re.compile(r"^(?=[a-z](?!nd\b))", re.MULTILINE)
DEFINES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
FUNCTION = re.compile(r"(?:local function \w+|\w+ = function)\(([^)]*)\)")
MOVABLE = re.compile(r"local (?:function \w+\(|[A-Z_]+ = \{)")
CONSTANTS = re.compile(r"local ([A-Z_]+(?:, [A-Z_]+)*) = ((?:'[^']*'|[\d.]+)(?:, (?:'[^']*'|[\d.]+))*)\s*$")
NAME = re.compile(r"[A-Za-z_]\w*")
OPERAND = re.compile(r"'[^']*'|[\w.]+(?:\[[^]]*\])?")
PARAMETER = re.compile("\x00(\\w+)\x00")

Constant = str | int | Sequence[str] | Mapping[str, int]
KEY_FUNCTIONS: dict[str, Callable[..., str]] = {
    name: value for name, value in vars(keys).items() if callable(value) and name in keys.DECLARED
}
KEY_CALL = re.compile(rf"\b({'|'.join(KEY_FUNCTIONS)})\(")
SHARED_CONSTANTS = {
    name: value
    for name, value in vars(keys).items()
    if isinstance(value, int) or (isinstance(value, str) and name in keys.DECLARED)
}


def names() -> list[str]:
    """The names of all scripts, without libraries."""
    files = (str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.lua"))
    return sorted(name for name in files if "args" in header(name))


@cache
def header(name: str) -> dict[str, str]:
    """The declarations in the comment at the start of a file: args, rest, uses."""
    comment = takewhile(lambda line: line.startswith("--"), _source(name).splitlines())
    return {word: value.strip().partition(" (")[0] for word, value in HEADER.findall("\n".join(comment))}


def assemble(name: str, extra_libraries: Sequence[str], constants: Mapping[str, Constant]) -> str:
    """The complete source of a script. Raises as `_check_names`."""
    libraries: dict[str, None] = {}
    for library in (*extra_libraries, *_uses(name)):
        _collect(library, libraries)
    body = _code(name)
    parts = _needed([part for library in libraries for part in _parts(_code(library))], body)
    args = [word.rstrip("?") for word in header(name).get("args", "").split()]
    rest = header(name).get("rest", "").upper()
    _check_names(name, parts, {*args, rest})
    locals_ = f"local {', '.join(args)} = {', '.join(f'ARGV[{n}]' for n in range(1, len(args) + 1))}\n" if args else ""
    known = {**SHARED_CONSTANTS, **constants, **({rest: len(args) + 1} if rest else {})}
    return _with_keys(_with_constants(locals_ + "\n".join([*_nested(parts, body), body]), known))


def _code(name: str) -> str:
    """The source of a file without comments."""
    return COMMENT.sub("", _source(name))


@cache
def _source(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


def _uses(name: str) -> list[str]:
    return header(name).get("uses", "").split()


def _collect(library: str, libraries: dict[str, None]) -> None:
    """Add a library after the libraries that it uses."""
    for used in _uses(library):
        _collect(used, libraries)
    libraries[library] = None


def _parts(library: str) -> list[str]:
    """Split a library into its top-level statements, which begin and end at the left margin."""
    return [part for part in STATEMENT.split(library) if part.strip()]


def _defined_by(part: str) -> set[str]:
    match = DEFINES.match(part)
    return set(NAME.findall(match[1])) if match else set()


def _parameters(part: str) -> set[str]:
    match = FUNCTION.match(part)
    return set(NAME.findall(match[1])) if match else set()


def _check_names(script: str, parts: Sequence[str], args: set[str]) -> None:
    """A parameter that hides a function would also hide it from the functions that are defined inside.

    Raises:
        ValueError: there is one, or two libraries define the same name.
    """
    defined = [name for part in parts for name in _defined_by(part)]
    if len(set(defined)) < len(defined):
        twice = {name for name in defined if defined.count(name) > 1}
        raise ValueError(f"{script}: defined twice: {', '.join(sorted(twice))}")
    hidden = args.union(*map(_parameters, parts)) & set[str]().union(*map(_defined_by, parts))
    if hidden:
        raise ValueError(f"{script}: a parameter has the name of a function: {', '.join(sorted(hidden))}")


def _needed(parts: list[str], body: str) -> list[str]:
    """The statements that the script needs, directly or indirectly, and all that define nothing local."""
    defined = [_defined_by(part) for part in parts]
    needed = {n for n, known in enumerate(defined) if not known}
    mentioned = set(NAME.findall(body)).union(*(NAME.findall(parts[n]) for n in needed))
    while more := {n for n, known in enumerate(defined) if n not in needed and known & mentioned}:
        needed |= more
        mentioned.update(*(NAME.findall(parts[n]) for n in more))
    return [parts[n] for n in sorted(needed)]


def _nested(parts: Sequence[str], body: str) -> list[str]:
    """Move each function and table that a single function mentions into that one."""
    mentions = {part: set(NAME.findall(part)) for part in parts}
    in_body = set(NAME.findall(body))
    while move := next(_moves(mentions, in_body), None):
        moved, user = move
        start = FUNCTION.match(user)
        assert start
        whole = f"{start[0]}\n{moved.rstrip()}\n{user[start.end() :]}"
        mentions = {
            whole if part == user else part: names | mentions[moved] if part == user else names
            for part, names in mentions.items()
            if part != moved
        }
    return list(mentions)


def _moves(mentions: Mapping[str, set[str]], in_body: set[str]) -> Iterator[tuple[str, str]]:
    """What to move, each with the function that alone mentions it."""
    for part in mentions:
        if not MOVABLE.match(part):
            continue
        [name] = _defined_by(part)
        users = [other for other, names in mentions.items() if other != part and name in names]
        if len(users) == 1 and name not in in_body and FUNCTION.match(users[0]):
            yield part, users[0]


def _with_constants(source: str, constants: Mapping[str, Constant]) -> str:
    """Write constants in place: the given ones, and those that the source defines."""
    known, kept = dict(pair for name, value in constants.items() for pair in _literals(name, value)), []
    for part in STATEMENT.split(source):
        match = CONSTANTS.match(part)
        if match:
            known |= zip(match[1].split(", "), match[2].split(", "), strict=True)
        else:
            kept.append(part)
    words = re.compile(rf"'[^']*'|\b(?:{'|'.join(map(re.escape, known))})\b")
    return words.sub(lambda word: known.get(word[0], word[0]), "".join(kept))


def _literals(name: str, value: Constant) -> Iterator[tuple[str, str]]:
    """What is written for a constant: FIELDS for a sequence is a list of values, AT.name for a mapping is a number."""
    if isinstance(value, Mapping):
        yield from ((f"{name}.{key}", str(number)) for key, number in value.items())
    elif isinstance(value, int):
        yield name, str(value)
    else:
        yield name, ", ".join(f"'{word}'" for word in ([value] if isinstance(value, str) else value))


def _with_keys(source: str) -> str:
    """Write keys in place of the calls of key functions."""
    pieces, end = [], 0
    while match := KEY_CALL.search(source, end):
        pieces.append(source[end : match.start()])
        arguments, end = _arguments(source, match.end())
        pieces.append(_key(KEY_FUNCTIONS[match[1]], [_with_keys(argument) for argument in arguments]))
    return "".join([*pieces, source[end:]])


def _arguments(source: str, start: int) -> tuple[list[str], int]:
    """The arguments of a call whose parenthesis was opened before `start`, and where it ends."""
    depth, arguments, begin = 0, [], start
    for token in re.finditer(r"'[^']*'|[(){}\[\],]", source[start:]):
        at = start + token.start()
        if depth == 0 and token[0] in (",", ")"):
            arguments.append(source[begin:at].strip())
            begin = at + 1
            if token[0] == ")":
                return arguments, begin
        depth += (token[0] in "({[") - (token[0] in ")}]") if len(token[0]) == 1 else 0
    raise ValueError("a call has no end")


def _key(function: Callable[..., str], arguments: Sequence[str]) -> str:
    """The Lua expression of a key."""
    parameters = list(inspect.signature(function).parameters)
    given = dict(zip(parameters, arguments, strict=True))
    pieces = PARAMETER.split(function(*(f"\x00{name}\x00" for name in parameters)))
    operands = [given[piece] if n % 2 else f"'{piece}'" for n, piece in enumerate(pieces) if piece]
    operands = [operand if OPERAND.fullmatch(operand) else f"({operand})" for operand in operands]
    return f"({' .. '.join(operands)})".replace("' .. '", "")
