"""Message classes from a short notation, in descriptor pools of their own: TensorFlow, tensorflow-serving-api and
tritonclient register the same names in the default pool, and may be imported beside ours.

A file has a package, the files that it imports, and its definitions: "message A" or "enum A" or "service A" and its
members. A field is "number name type", the type followed by * if repeated, "{type" for a map from string, or "|group"
in a oneof; names of other packages are in full. "A.B" is nested in A.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto
Files = Mapping[str, tuple[str, tuple[str, ...], str]]  # name → package, imports, definitions

_SCALARS = {
    "double": Field.TYPE_DOUBLE,
    "float": Field.TYPE_FLOAT,
    "int64": Field.TYPE_INT64,
    "uint64": Field.TYPE_UINT64,
    "int32": Field.TYPE_INT32,
    "bool": Field.TYPE_BOOL,
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "uint32": Field.TYPE_UINT32,
}


def pool(files: Files) -> descriptor_pool.DescriptorPool:
    """A pool of these files, and of protobuf's own `any.proto` and `wrappers.proto`."""
    made = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        made.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for name, (package, imports, definitions) in files.items():
        made.AddSerializedFile(_file(name, package, imports, definitions).SerializeToString())
    return made


def message(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    """The class of the message with this full name."""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _file(name: str, package: str, imports: tuple[str, ...], definitions: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=imports)
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}
    enums: dict[str, Any] = {}
    current: Any = None
    fields: list[tuple[str, str, str, str]] = []  # message, number, name, type; added once all names are known
    full = ""
    for line in definitions.splitlines():
        match line.split():
            case ["message" | "enum" as kind, full]:
                outer, _, short = full.rpartition(".")
                where = messages[outer] if outer else file
                if kind == "enum":
                    current = enums[full] = where.enum_type.add(name=short)
                elif outer:
                    current = messages[full] = where.nested_type.add(name=short)
                else:
                    current = messages[full] = file.message_type.add(name=short)
            case ["service", short]:
                current = file.service.add(name=short)
            case [number, name_] if number.isdigit():
                current.value.add(name=name_, number=int(number))
            case [number, name_, type_] if number.isdigit():
                fields.append((full, number, name_, type_))
            case [method, taken, returned]:
                current.method.add(
                    name=method,
                    input_type=f".{package}.{taken.rstrip('*')}",
                    output_type=f".{package}.{returned.rstrip('*')}",
                    client_streaming=taken.endswith("*"),
                    server_streaming=returned.endswith("*"),
                )
    for full, number, name_, type_ in fields:
        _add_field(messages[full], f".{package}.{full}", int(number), name_, type_, package, enums)
    return file


def _add_field(
    message: Any, prefix: str, number: int, name: str, type_: str, package: str, enums: dict[str, Any]
) -> None:
    type_, _, group = type_.partition("|")
    field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
    if type_.startswith("{"):  # a map is a repeated message of a key and a value
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
        _set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), type_[1:], package, enums)
        field.label, field.type, field.type_name = Field.LABEL_REPEATED, Field.TYPE_MESSAGE, f"{prefix}.{entry.name}"
        return
    if type_.endswith("*"):
        field.label = Field.LABEL_REPEATED
    _set_type(field, type_.rstrip("*"), package, enums)
    if group:
        groups = [one.name for one in message.oneof_decl]
        if group not in groups:
            message.oneof_decl.add(name=group)
            groups.append(group)
        field.oneof_index = groups.index(group)


def _set_type(field: Any, type_: str, package: str, enums: dict[str, Any]) -> None:
    if type_ in _SCALARS:
        field.type = _SCALARS[type_]
        return
    field.type = Field.TYPE_ENUM if type_ in enums or type_ == "DataType" else Field.TYPE_MESSAGE
    in_full = type_.startswith(("tensorflow.", "google."))
    field.type_name = f".{type_}" if in_full else f".{package}.{type_}"
