"""A small SOAP service (spyne): stock is reserved, or a fault says why not."""

from __future__ import annotations

from spyne import Application, Fault, Integer, ServiceBase, Unicode, rpc
from spyne.protocol.soap import Soap11
from spyne.server.wsgi import WsgiApplication


class Soap(Soap11):
    """As spyne's, with values checked against the schema."""

    def __init__(self) -> None:
        super().__init__(validator="soft")


def shop(reserved: list[tuple[str, int]]) -> WsgiApplication:
    """Return the service. What takes effect is appended to `reserved`."""

    class Stock(ServiceBase):
        @rpc(Unicode(min_len=1), Integer(ge=1, le=100), _returns=Integer)
        def reserve(ctx, sku, count):
            if sku == "broken":
                raise Fault("Server", "Internal error: the database went away")
            if sku == "unknown":
                raise Fault("Client.SkuNotFound", "There is no article 'unknown'")
            reserved.append((sku, count))
            return len(reserved)

    return WsgiApplication(Application([Stock], "urn:shop", "Shop", in_protocol=Soap(), out_protocol=Soap11()))


def faults_as_200(app: WsgiApplication) -> WsgiApplication:
    """Some services answer a fault with 200: do so."""

    def answer(environ, start_response):
        return app(environ, lambda _status, headers, error=None: start_response("200 OK", headers, error))

    return answer
