"""What the tests share: assemblers of modules, servers, stand-ins for tools, and readers of results."""
