"""The console and inspection API under `/-/`: what is kept, for people and programs, behind the admin token."""

from gateway.console.messages import ConsoleAnswer as ConsoleAnswer
from gateway.console.messages import ConsoleRequest as ConsoleRequest
from gateway.console.routes import Console as Console
from gateway.console.routes import Contracts as Contracts

__all__ = ["Console", "ConsoleAnswer", "ConsoleRequest", "Contracts"]
