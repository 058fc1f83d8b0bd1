"""Writes `operations.py` and `schema.py` from the OpenAPI document of a server.

Run: python -m reelseek.client.generate openapi.json
"""

import json
import keyword
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent, shorten, wrap
from typing import Any

__all__ = ["operations_source", "schema_source"]

Schema = Mapping[str, Any]
_WRITTEN = '"""Written by `reelseek.client.generate` from the OpenAPI document; not by hand."""\n\n'
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _class_name(name: str) -> str:
    return re.sub(r"\W+", "", name)


def annotation(schema: Schema) -> str:
    """The type of a value that a schema describes, as Python writes it."""
    if "$ref" in schema:
        return _class_name(str(schema["$ref"]).rpartition("/")[2])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = dict.fromkeys(annotation(option) for option in schema[key])
            return "Any" if "Any" in kinds else " | ".join(kinds)
    if "allOf" in schema and len(schema["allOf"]) == 1:
        return annotation(schema["allOf"][0])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return f"Literal[{', '.join(json.dumps(value) if isinstance(value, str) else repr(value) for value in values)}]"
    kind = schema.get("type")
    if kind == "array":
        return f"list[{annotation(schema.get('items', {}))}]"
    if kind == "object":
        values = schema.get("additionalProperties", {})
        return f"dict[str, {annotation(values if isinstance(values, Mapping) else {})}]"
    return _PLAIN.get(str(kind), "Any")


def schema_source(document: Schema) -> str:
    """A TypedDict for each schema of the document that is an object, and a name for each other one."""
    schemas = document["components"]["schemas"]
    objects = {name: schema for name, schema in schemas.items() if "properties" in schema}
    others = {name: schema for name, schema in schemas.items() if "properties" not in schema}
    blocks = [_typed_dict(name, schema) for name, schema in sorted(objects.items())]
    blocks += [f"{_class_name(name)} = {annotation(schema)}\n" for name, schema in sorted(others.items())]
    names = "".join(f'    "{_class_name(name)}",\n' for name in sorted(schemas))
    text = "\n\n".join(blocks)
    imports = _import("typing", ("Any", "Literal", "NotRequired", "TypedDict"), text)
    return f"{_WRITTEN}from __future__ import annotations\n\n{imports}\n__all__ = [\n{names}]\n\n\n{text}"


def _import(module: str, names: Iterable[str], text: str) -> str:
    """The line that imports those of some names that a text has."""
    used = set(re.findall(r"\w+", text))
    selected = [name for name in names if name in used]
    return f"from {module} import {', '.join(selected)}\n" if selected else ""


def _typed_dict(name: str, schema: Schema) -> str:
    lines = [f"class {_class_name(name)}(TypedDict):", *_docstring(schema.get("description") or f"A {name}.", "    ")]
    required = schema.get("required", ())
    for key, value in schema["properties"].items():
        kind = annotation(value)
        lines.append(f"    {key}: {kind if key in required else f'NotRequired[{kind}]'}")
        if value.get("description"):
            lines += _docstring(value["description"], "    ")
    return "\n".join(lines) + "\n"


def _docstring(text: str, margin: str) -> list[str]:
    safe = text.strip().replace("\\", "\\\\").replace('"""', "'''")
    lines = [line for paragraph in safe.split("\n") for line in (wrap(paragraph, 108) or [""])]
    if len(lines) == 1 and not safe.endswith('"'):
        return [f'{margin}"""{safe}"""']
    return [f'{margin}"""{lines[0]}', *(f"{margin}{line}".rstrip() for line in lines[1:]), f'{margin}"""']


@dataclass
class _Parameter:
    """An argument of a method; `kind` is where a request carries it."""

    name: str
    kind: str
    annotation: str
    required: bool
    description: str = ""

    @property
    def python(self) -> str:
        name = re.sub(r"\W", "_", self.name).lower()
        return f"{name}_" if keyword.iskeyword(name) else name

    def declare(self) -> str:
        if self.required:
            return f"{self.python}: {self.annotation}"
        optional = self.annotation if "None" in self.annotation.split(" | ") else f"{self.annotation} | None"
        return f"{self.python}: {optional} = None"


@dataclass
class _Method:
    """A method of the clients."""

    name: str
    method: str
    path: str
    description: str
    content: str
    answer: str
    parameters: list[_Parameter] = field(default_factory=list)
    body: str = "None"

    def of(self, kind: str) -> str:
        """The arguments that are carried somewhere, as a dict."""
        pairs = (f'"{one.name}": {one.python}' for one in self.parameters if one.kind == kind)
        return "{" + ", ".join(pairs) + "}"


def _methods(document: Schema) -> Iterator[_Method]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content, answer = _answer(operation["responses"])
            text = operation.get("description") or operation.get("summary") or operation["operationId"]
            result = _Method(operation["operationId"], method.upper(), path, text, content, answer)
            result.parameters = [
                _Parameter(
                    one["name"], one["in"], annotation(one["schema"]), one.get("required", False),
                    one.get("description") or one["schema"].get("description") or "",
                )
                for one in operation.get("parameters", ())
                if one["in"] != "cookie"
            ]  # fmt: skip
            if "requestBody" in operation:
                _add_body(document, result, operation["requestBody"]["content"])
            result.parameters.sort(key=lambda one: (one.kind != "path", not one.required))
            yield result


def _answer(responses: Mapping[str, Schema]) -> tuple[str, str]:
    """What kind of content an operation is answered with, and its type."""
    success = next(value for status, value in sorted(responses.items()) if status.startswith("2"))
    contents = success.get("content") or {}
    if not contents:
        return "nothing", "None"
    media_type, described = next(iter(contents.items()))
    if media_type == "text/event-stream" or "text/event-stream" in contents:
        return "events", "Event"
    if media_type == "application/json":
        return "json", annotation(described.get("schema", {}))
    return ("text", "str") if media_type.startswith("text/plain") and len(contents) == 1 else ("bytes", "bytes")


def _add_body(document: Schema, method: _Method, contents: Mapping[str, Schema]) -> None:
    described = contents.get("application/json")
    if described is None:
        method.parameters += [
            _Parameter("content", "body", "bytes", True, "the bytes of the file"),
            _Parameter("content_type", "body", "str", True, "their type, such as image/jpeg"),
        ]
        method.body = "Body(content=content, content_type=content_type)"
        return
    schema = described["schema"]
    target = document["components"]["schemas"].get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    if "properties" not in target:
        method.parameters.append(_Parameter("body", "whole", annotation(schema), True, "one of these kinds"))
        method.body = "Body(body)"
        return
    required = target.get("required", ())
    method.parameters += [
        _Parameter(name, "body", annotation(value), name in required, value.get("description", ""))
        for name, value in target["properties"].items()
    ]
    method.body = f"Body({method.of('body')})"


def operations_source(document: Schema) -> str:
    """A table of all operations, and a class of methods for each kind of client."""
    methods = list(_methods(document))
    text = _class("SyncOperations", "SyncTransport", methods, asynchronous=False)
    text += _class("AsyncOperations", "AsyncTransport", methods, asynchronous=True)
    table = "".join(f'    "{m.name}": Operation("{m.method}", "{m.path}", "{m.content}"),\n' for m in methods)
    schemas = sorted(map(_class_name, document["components"]["schemas"]), key=str.casefold)
    ours = ("AsyncTransport", "Body", "Event", "Operation", "SyncTransport")
    return (
        _WRITTEN
        + _import("collections.abc", ("AsyncIterator", "Iterator"), text)
        + _import("typing", ("Any", "Literal"), text)
        + "\n"
        + _import("reelseek.client.schema", schemas, text)
        + _import("reelseek.client.transport", ours, f"{text} Operation")
        + '\n__all__ = ["OPERATIONS", "AsyncOperations", "SyncOperations"]\n\n'
        + f"OPERATIONS = {{\n{table}}}\n{text}"
    )


def _class(name: str, transport: str, methods: list[_Method], *, asynchronous: bool) -> str:
    head = (
        f'\n\nclass {name}:\n    """A method for each operation of the interface."""\n\n    _transport: {transport}\n\n'
    )
    return head + "\n".join(_method_source(method, asynchronous) for method in methods)


def _method_source(method: _Method, asynchronous: bool) -> str:
    positional = [one.declare() for one in method.parameters if one.kind in ("path", "whole")]
    others = [one.declare() for one in method.parameters if one.kind not in ("path", "whole")]
    arguments = ", ".join(["self", *positional, *(["*", *others] if others else [])])
    events = method.content == "events"
    answer = f"{'Async' if asynchronous else ''}Iterator[Event]" if events else method.answer
    word = "async def" if asynchronous and not events else "def"
    call = f'OPERATIONS["{method.name}"], {method.of("path")}'
    if events:
        headers = [one for one in method.parameters if one.kind == "header"]
        texts = ", ".join(f'"{one.name}": {one.python}' for one in headers)
        headers_source = f"{{name: value for name, value in {{{texts}}}.items() if value is not None}}"
        line = f"return self._transport.follow({call}, {headers_source})"
    else:
        waiting = "await " if asynchronous else ""
        line = f"return {waiting}self._transport.call({call}, {method.of('query')}, {method.body})"
    text = [f"{word} {method.name}({arguments}) -> {answer}:", *_method_docstring(method), f"    {line}", ""]
    return indent("\n".join(text), "    ")


def _method_docstring(method: _Method) -> list[str]:
    described = [
        f"    {one.python}: {shorten(one.description, 90 - len(one.python), placeholder=' ...')}"
        for one in method.parameters
        if one.description
    ]
    lines = _docstring(method.description, "    ")
    if not described:
        return lines
    if len(lines) == 1:
        lines = [lines[0].removesuffix('"""'), '    """']
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in described]
    return [*lines[:-1], "", "    Args:", *(f"    {line}" for line in safe), lines[-1]]


def main(document: Path) -> None:
    """Write both files beside this one."""
    read = json.loads(document.read_text("utf-8"))
    folder = Path(__file__).parent
    (folder / "schema.py").write_text(schema_source(read), "utf-8")
    (folder / "operations.py").write_text(operations_source(read), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
