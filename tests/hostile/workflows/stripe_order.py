"""A workflow of five calls with the official Stripe SDK: STRIPE_URL WORKFLOW_ID named|unnamed.

It says each step before and after it, and waits for a line of input before it takes one. A rerun is simply
the same again: nothing is kept here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import stripe

url, workflow, naming = sys.argv[1:]
client = stripe.StripeClient(
    "sk_test_12345", base_addresses={"api": url}
).v1  # a random Idempotency-Key for each call
run = os.urandom(6).hex()

CARD = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"}


def step(name: str, take: Callable[..., Any], *arguments: Any) -> Any:
    print("begin", name, flush=True)
    sys.stdin.readline()
    identity = {"Workflow-Id": workflow}
    identity |= {"Workflow-Step": name} if naming == "named" else {"Workflow-Run": run}
    try:
        done = take(*arguments, {"headers": identity})
    except stripe.StripeError as error:
        print("failed", name, error.http_status, json.loads(error.http_body)["call"], flush=True)
        raise SystemExit(1) from None
    print("done", name, done.id, flush=True)
    return done


customer = step("customer", client.customers.create, {"email": "ada@example.com"})
method = step("method", client.payment_methods.create, {"type": "card", "card": CARD})
step("attach", client.payment_methods.attach, method.id, {"customer": customer.id})
charge = {"amount": 500, "currency": "eur", "customer": customer.id, "payment_method": method.id, "confirm": True}
step("charge", client.payment_intents.create, charge)
step("subscription", client.subscriptions.create, {"customer": customer.id, "items": [{"plan": "free"}]})
print("end", flush=True)
