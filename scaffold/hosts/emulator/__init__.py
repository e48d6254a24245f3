"""A host in this process: a plugin's module in wasmtime, between callbacks and hostcalls like Envoy's."""
