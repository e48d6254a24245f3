"""`bench`: what a plugin costs, against nothing, native, Lua, its floor, and another version of it."""
