"""Operations are called what a person would call them."""

import pytest

from discovery.wording import Seen, wording_of


@pytest.mark.parametrize(
    ("operation", "name", "summary"),
    [
        ("GET /v1/orders", "listOrders", "List orders"),
        ("POST /api/v1/orders", "createOrder", "Create an order"),
        ("GET /v1/orders/{order_id}", "getOrder", "Get an order"),
        ("PUT /v1/orders/{order_id}", "replaceOrder", "Replace an order"),
        ("PATCH /v1/orders/{order_id}", "updateOrder", "Update an order"),
        ("POST /v1/orders/{order_id}", "updateOrder", "Update an order"),
        ("DELETE /v1/line-items/{id}", "deleteLineItem", "Delete a line item"),
        ("GET /orders/{order_id}/items", "listOrderItems", "List the items of an order"),
        ("POST /users/{user_id}/updates", "createUserUpdate", "Create an update of a user"),
        ("GET /users/{id}/status", "getUserStatus", "Get the status of a user"),
        ("POST /orders/{id}/cancel", "cancelOrder", "Cancel an order"),
        ("POST /orders/{id}/lifecycle/activate", "activateOrder", "Activate an order"),
        ("GET /orders/search", "searchOrders", "Search orders"),
        ("POST /sheets/{sheetId}:batchUpdate", "batchUpdateSheet", "Batch update a sheet"),
        ("GET /invoices/upcoming", "getUpcomingInvoice", "Get the upcoming invoice"),
        ("GET /users/me", "getCurrentUser", "Get the current user"),
        ("GET /repos/{owner}/{repo}/hooks/{hook_id}", "getRepoHook", "Get a hook of a repo"),
        ("GET /billing/sessions", "listBillingSessions", "List billing sessions"),
        ("POST /messages.setTopic", "messagesSetTopic", "Messages: set topic"),
        ("GET /{account_id}/domains", "listDomains", "List domains"),
        ("GET /", "getRoot", "Get the root"),
        ("GET /{name}", "getRoot", "Get the root"),
    ],
)
def test_an_operation_has_an_id_and_a_summary_a_person_would_write(
    operation: str, name: str, summary: str
) -> None:
    wording = wording_of(*operation.split(" "))

    assert (wording.id, wording.summary) == (name, summary)


@pytest.mark.parametrize(
    ("operation", "seen", "summary"),
    [
        ("GET /news", Seen(lists=True), "List news"),
        ("GET /settings", Seen(lists=False), "Get the settings"),
        ("GET /notes/public", Seen(lists=True), "List public notes"),
        ("POST /render", Seen(), "Post the render"),
        ("POST /export", Seen(creates=True), "Create an export"),
    ],
)
def test_what_was_answered_tells_a_list_from_a_thing(operation: str, seen: Seen, summary: str) -> None:
    assert wording_of(*operation.split(" "), seen).summary == summary


@pytest.mark.parametrize("path", ["/v1/orders/{id}/items", "/orders", "/api/orders/{id}/cancel"])
def test_the_tag_is_the_resource_a_path_begins_with(path: str) -> None:
    assert wording_of("POST", path).tag == "Orders"
