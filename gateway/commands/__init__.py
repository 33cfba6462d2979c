"""The commands, one file a family; `gateway.__main__` names them."""
