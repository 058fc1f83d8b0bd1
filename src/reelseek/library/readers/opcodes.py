"""Pickles as data: opcodes are carried out here, on plain values, and nothing that a pickle names is ever imported.

Python's own unpickler calls what a file tells it to call, sizes its memo by a number in the file, and hashes keys of
any depth. This one knows a table of names, each with a function of ours that builds a value from checked arguments.
"""

import codecs
import mmap
import pickle
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from reelseek.library.readers.values import Build, Damaged, Inert, Measure, Name, Pending, Refused, as_key
from reelseek.media.memory import available_memory

__all__ = ["Machine"]

_BYTES_AN_OPERATION = 256  # the most that one opcode without a literal leaves behind: an empty set and its memo


class Machine:
    """Carries out the opcodes of one pickle after another.

    Args:
        data: the bytes of the file.
        names: what may be named, by module and name.
        position: where the pickle begins; after `load`, where it ended.
        lenient: names that are not in `names` become `Inert`; else they are refused.
        persistent: what a reference to something outside the pickle stands for; None refuses it.
    """

    def __init__(
        self,
        data: bytes | mmap.mmap,
        names: Mapping[tuple[str, str], Build | None],
        *,
        position: int = 0,
        lenient: bool = False,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.position = position
        self._data, self._names, self._lenient, self._persistent = data, names, lenient, persistent
        self._budget = available_memory() // 2
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._operations: dict[int, Callable[[], None]] = {
            code[0]: partial(getattr(self, f"_{method}"), *arguments)
            for code, (method, *arguments) in _OPERATIONS.items()
        }

    def load(self) -> Any:
        """The value of the pickle at `position`.

        Raises:
            Refused: it is damaged, names what is not built here, or would take too much memory or depth.
        """
        self._stack, self._marks, self._memo = [], [], {}
        data, operations, end = self._data, self._operations, len(self._data)
        most = max(1_000_000, self._budget // _BYTES_AN_OPERATION)
        count = 0
        while True:
            if self.position >= end:
                raise Damaged("it ends in the middle")
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                break
            operation = operations.get(code)
            if operation is None:
                raise Damaged(f"byte {self.position - 1} is {code:#04x}, no opcode that is carried out here")
            operation()
            count += 1
            if count > most:
                raise Refused(f"it has more than {most:,} operations, too many for the memory of this machine")
        value = self._pop()
        Measure(self._budget).check(value)
        return value

    # Reading

    def _take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise Damaged(f"it says that {size:,} bytes follow byte {start}, and {len(self._data) - start:,} do")
        return self._data[start : self.position]

    def _number(self, form: struct.Struct) -> int:
        number: int = form.unpack(self._take(form.size))[0]
        return number

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.position)
        if end < 0:
            raise Damaged("it ends in the middle of a line")
        start, self.position = self.position, end + 1
        return self._data[start:end]

    # The stack

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise Damaged("it takes a value where there is none")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise Damaged("it ends a list that it has not begun")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _drop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _dup(self) -> None:
        self._stack.append(self._top())

    # The memo

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        try:
            value = self._memo[index]
        except KeyError:
            raise Damaged(f"it refers to value {index}, which it does not hold") from None
        self._stack.append(value.value if isinstance(value, Pending) and value.value is not None else value)

    def _put_line(self) -> None:
        self._put(_whole(self._line()))

    def _put_number(self, form: struct.Struct) -> None:
        self._put(self._number(form))

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _get_line(self) -> None:
        self._get(_whole(self._line()))

    def _get_number(self, form: struct.Struct) -> None:
        self._get(self._number(form))

    # Numbers, strings and bytes

    def _proto(self) -> None:
        version = self._take(1)[0]
        if version > pickle.HIGHEST_PROTOCOL:
            raise Refused(f"it is of protocol {version}; those up to {pickle.HIGHEST_PROTOCOL} are read")

    def _frame(self) -> None:
        self._take(8)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _new(self, kind: Callable[[], Any]) -> None:
        self._stack.append(kind())

    def _unpack(self, form: struct.Struct) -> None:
        self._stack.append(form.unpack(self._take(form.size))[0])

    def _int_line(self) -> None:
        line = self._line()
        self._stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _whole(line))

    def _long_line(self) -> None:
        self._stack.append(_whole(self._line().removesuffix(b"L")))

    def _integer(self, form: struct.Struct) -> None:
        self._stack.append(int.from_bytes(self._take(self._number(form)), "little", signed=True))

    def _float_line(self) -> None:
        try:
            self._stack.append(float(self._line()))
        except ValueError as error:
            raise Damaged(str(error)) from None

    def _quoted(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b'"', b"'"):
            raise Damaged("a string of it lacks its quotes")
        try:
            self._stack.append(codecs.escape_decode(line[1:-1])[0].decode("latin1"))
        except ValueError as error:
            raise Damaged(f"a string of it cannot be read: {error}") from None

    def _latin(self, form: struct.Struct) -> None:  # a string of Python 2, which may be bytes or text
        self._stack.append(self._take(self._number(form)).decode("latin1"))

    def _bytes(self, form: struct.Struct) -> None:
        self._stack.append(self._take(self._number(form)))

    def _decode(self, data: bytes, encoding: str, errors: str) -> None:
        try:
            self._stack.append(data.decode(encoding, errors))
        except UnicodeDecodeError as error:
            raise Damaged(f"a string of it is no text: {error.reason}") from None

    def _text_line(self) -> None:
        self._decode(self._line(), "raw-unicode-escape", "strict")

    def _text(self, form: struct.Struct) -> None:
        self._decode(self._take(self._number(form)), "utf-8", "surrogatepass")

    # Containers

    def _list(self) -> None:
        self._stack.append(self._since_mark())

    def _tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple_of(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._stack.append(tuple(reversed(values)))

    def _dict(self) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set(values)

    def _frozen(self) -> None:
        self._stack.append(frozenset(as_key(value) for value in self._since_mark()))

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is list:
            target.extend(values)
        elif not isinstance(target, Inert):
            raise Refused(f"it appends to a {type(target).__name__}")

    def _append(self) -> None:
        self._extend([self._pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _add(self) -> None:
        values, target = self._since_mark(), self._top()
        if type(target) is set:
            target.update(as_key(value) for value in values)
        elif not isinstance(target, Inert):
            raise Refused(f"it adds to a {type(target).__name__}")

    def _set(self, values: list[Any]) -> None:
        target = self._top()
        if len(values) % 2:
            raise Damaged("a mapping of it has a key without a value")
        if type(target) is dict:
            for place in range(0, len(values), 2):
                target[as_key(values[place])] = values[place + 1]
        elif not isinstance(target, Inert):
            raise Refused(f"it sets items of a {type(target).__name__}")

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _set_many(self) -> None:
        self._set(self._since_mark())

    # Names, calls and states

    def _named(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            raise Refused("it names something by what is no text")
        if (module, name) in self._names:
            return Name(module, name, self._names[module, name])
        if not self._lenient:
            raise Refused(
                f"it names {module}.{name}"[:200] + ", and only arrays, strings, numbers and containers are built"
            )
        return Name(module, name, Inert)

    def _global_line(self) -> None:
        module, name = self._line().decode("utf-8", "replace"), self._line().decode("utf-8", "replace")
        self._stack.append(self._named(module, name))

    def _global_stack(self) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(self._named(module, name))

    def _call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, Inert):
            self._stack.append(Inert())
        elif isinstance(function, Name):
            try:
                self._stack.append(function.call(arguments))
            except (TypeError, ValueError, OverflowError) as error:
                raise Refused(f"what it gives to {function.module}.{function.name} does not fit: {error}") from None
        else:
            raise Refused(f"it calls a {type(function).__name__}")

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._call(function, arguments)

    def _new_with_words(self) -> None:
        words, arguments, function = self._pop(), self._pop(), self._pop()
        if words and not self._lenient:
            raise Refused("it calls with named arguments")
        self._call(function, arguments)

    def _instance_line(self) -> None:
        arguments = tuple(self._since_mark())
        self._global_line()
        self._call(self._pop(), arguments)

    def _instance_stack(self) -> None:
        values = self._since_mark()
        if not values:
            raise Damaged("it makes an object of no class")
        self._call(values[0], tuple(values[1:]))

    def _build(self) -> None:
        state, target = self._pop(), self._pop()
        if isinstance(target, Pending):
            try:
                target.build(state)
            except ValueError as error:
                raise Refused(f"an array of it cannot be: {error}") from None
            target = target if target.value is None else target.value
        elif not isinstance(target, Inert) and type(target) is not dict:  # a dict's state is what nobody needs here
            raise Refused(f"it gives a state to a {type(target).__name__}")
        self._stack.append(target)

    def _refer(self, reference: Any) -> None:
        if self._persistent is None:
            raise Refused("it refers to things outside itself")
        self._stack.append(self._persistent(reference))

    def _persistent_line(self) -> None:
        self._refer(self._line().decode("latin1"))

    def _persistent_stack(self) -> None:
        self._refer(self._pop())


_UINT1, _UINT2, _UINT4, _UINT8, _INT4, _FLOAT8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q", "<i", ">d"))
# Each opcode with the method that carries it out and what that method is given.
_OPERATIONS: dict[bytes, tuple[Any, ...]] = {
    pickle.PROTO: ("proto",), pickle.FRAME: ("frame",), pickle.MARK: ("mark",), pickle.POP: ("drop",),
    pickle.POP_MARK: ("since_mark",), pickle.DUP: ("dup",),
    pickle.PUT: ("put_line",), pickle.BINPUT: ("put_number", _UINT1), pickle.LONG_BINPUT: ("put_number", _UINT4),
    pickle.MEMOIZE: ("memoize",),
    pickle.GET: ("get_line",), pickle.BINGET: ("get_number", _UINT1), pickle.LONG_BINGET: ("get_number", _UINT4),
    pickle.NONE: ("push", None), pickle.NEWTRUE: ("push", True), pickle.NEWFALSE: ("push", False),
    pickle.INT: ("int_line",), pickle.LONG: ("long_line",), pickle.BININT: ("unpack", _INT4),
    pickle.BININT1: ("unpack", _UINT1), pickle.BININT2: ("unpack", _UINT2), pickle.LONG1: ("integer", _UINT1),
    pickle.LONG4: ("integer", _UINT4), pickle.FLOAT: ("float_line",), pickle.BINFLOAT: ("unpack", _FLOAT8),
    pickle.STRING: ("quoted",), pickle.BINSTRING: ("latin", _UINT4), pickle.SHORT_BINSTRING: ("latin", _UINT1),
    pickle.SHORT_BINBYTES: ("bytes", _UINT1), pickle.BINBYTES: ("bytes", _UINT4),
    pickle.BINBYTES8: ("bytes", _UINT8), pickle.BYTEARRAY8: ("bytes", _UINT8),
    pickle.UNICODE: ("text_line",), pickle.SHORT_BINUNICODE: ("text", _UINT1), pickle.BINUNICODE: ("text", _UINT4),
    pickle.BINUNICODE8: ("text", _UINT8),
    pickle.EMPTY_LIST: ("new", list), pickle.LIST: ("list",), pickle.APPEND: ("append",),
    pickle.APPENDS: ("appends",), pickle.EMPTY_TUPLE: ("push", ()), pickle.TUPLE: ("tuple",),
    pickle.TUPLE1: ("tuple_of", 1), pickle.TUPLE2: ("tuple_of", 2), pickle.TUPLE3: ("tuple_of", 3),
    pickle.EMPTY_DICT: ("new", dict), pickle.DICT: ("dict",), pickle.SETITEM: ("set_one",),
    pickle.SETITEMS: ("set_many",), pickle.EMPTY_SET: ("new", set), pickle.ADDITEMS: ("add",),
    pickle.FROZENSET: ("frozen",),
    pickle.GLOBAL: ("global_line",), pickle.STACK_GLOBAL: ("global_stack",), pickle.REDUCE: ("reduce",),
    pickle.NEWOBJ: ("reduce",), pickle.NEWOBJ_EX: ("new_with_words",), pickle.INST: ("instance_line",),
    pickle.OBJ: ("instance_stack",), pickle.BUILD: ("build",), pickle.PERSID: ("persistent_line",),
    pickle.BINPERSID: ("persistent_stack",),
}  # fmt: skip


def _whole(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise Damaged(f"{text[:20]!r} stands where a whole number should") from None
