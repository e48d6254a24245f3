"""The schema of a configuration, as schemars writes it of a struct with the shapes that serde knows."""

CONTENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "header": {"type": "string", "default": "x-key"},
        "keys": {"type": "array", "items": {"$ref": "#/$defs/Key"}},
        "timeout_ms": {"type": "integer", "format": "uint32", "minimum": 0},
        "offset": {"type": "integer", "format": "int64"},
        "slots": {"type": "integer", "format": "uint", "minimum": 0},
        "level": {"type": "string", "enum": ["low", "high"]},
        "on_failure": {"oneOf": [{"const": "closed", "type": "string"}, {"const": "open", "type": "string"}]},
        "realm": {"anyOf": [{"$ref": "#/$defs/Realm"}, {"type": "null"}]},
        "note": {"type": ["string", "null"]},
        "peers": {"type": "array", "items": {"type": "string", "format": "ip"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "source": {"$ref": "#/$defs/Source"},
    },
    "additionalProperties": False,
    "$defs": {
        "Key": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "value": {"type": "string", "minLength": 8}},
            "required": ["name", "value"],
            "additionalProperties": False,
        },
        "Realm": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "additionalProperties": False,
        },
        "Source": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "inline"}, "text": {"type": "string"}},
                    "required": ["kind", "text"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "remote"}, "url": {"type": "string"}},
                    "required": ["kind", "url"],
                    "additionalProperties": False,
                },
            ]
        },
    },
}
