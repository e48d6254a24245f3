"""The messages of a suite as protobuf knows them, made when the first suite is read.

Source: GoogleCloudPlatform/service-extensions, plugins/test/runner.proto: names, numbers and types of fields.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
    from google.protobuf.message import Message

LEVELS = ("UNDEFINED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")
_PACKAGE = "suite"
_ONE, _MANY = 1, 3  # labels
_TYPES = {"bool": 8, "string": 9, "bytes": 12, "int32": 5, "int64": 3, "uint32": 13, "uint64": 4}
_MESSAGE, _ENUM = 11, 14
# a message's fields, each "NAME NUMBER TYPE": a list has a * after its type, a field of a oneof the oneof
# after it
_FIELDS = {
    "TestSuite": "env 1 Env, test 2 Test*",
    "Env": "test_path 1 string, wasm_path 2 string, config_path 3 string, log_level 4 LogLevel,"
    " log_path 5 string, time_secs 6 uint64, num_additional_streams 7 uint64,"
    " additional_stream_advance_rate 8 uint64",
    "Test": "name 1 string, benchmark 2 bool, request_headers 3 Invocation, request_body 4 Invocation*,"
    " response_headers 5 Invocation, response_body 6 Invocation*, plugin_init 7 Expectation,"
    " stream_init 8 Expectation, stream_destroy 9 Expectation, num_chunks 10 int32 body_chunking_plan,"
    " chunk_size 11 int64 body_chunking_plan, properties 12 Property*",
    "Invocation": "input 1 Input, result 2 Expectation",
    "Input": "header 1 Header*, content 2 bytes, file 3 string",
    "Expectation": "has_header 1 Header*, no_header 2 Header*, headers 3 StringMatcher*,"
    " body 4 StringMatcher*, immediate 5 Immediate, log 6 StringMatcher*",
    "Immediate": "http_status 1 uint32, grpc_status 2 uint32, details 3 string",
    "StringMatcher": "invert 1 bool, exact 2 bytes matcher, regex 3 string matcher, file 4 string matcher",
    "Header": "key 1 string, value 2 bytes",
    "Property": "path 1 string, value 2 bytes",
}
LISTS = {
    field.split()[0] for fields in _FIELDS.values() for field in fields.split(", ") if "*" in field
}  # the fields that are lists, in every message


def suite() -> Message:
    """An empty suite."""
    return _suite_class()()


@lru_cache(maxsize=1)
def _suite_class() -> type[Message]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    # proto2 tells a field that isn't there from an empty one
    file = descriptor_pb2.FileDescriptorProto(name="suite.proto", package=_PACKAGE, syntax="proto2")
    levels = file.enum_type.add(name="LogLevel")
    for number, name in enumerate(LEVELS):
        levels.value.add(name=name, number=number)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            _describe(message, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.TestSuite"))


def _describe(message: DescriptorProto, name: str, number: str, kind: str, oneof: str = "") -> None:
    label = _MANY if kind.endswith("*") else _ONE
    kind = kind.removesuffix("*")
    field: FieldDescriptorProto = message.field.add(name=name, number=int(number))
    field.label = label  # type: ignore[assignment]
    if kind in _TYPES:
        field.type = _TYPES[kind]  # type: ignore[assignment]
    else:
        field.type = _ENUM if kind == "LogLevel" else _MESSAGE  # type: ignore[assignment]
        field.type_name = f".{_PACKAGE}.{kind}"
    if oneof:
        names = [each.name for each in message.oneof_decl]
        if oneof not in names:
            message.oneof_decl.add(name=oneof)
        field.oneof_index = [*names, oneof].index(oneof)
