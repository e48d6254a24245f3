"""What knows nothing of wasm: events, files, processes, records, text, versions, git."""
