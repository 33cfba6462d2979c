"""The workflow: an order is charged, its stock reserved, its customer told. A plain script, no retry anywhere.

python -m gateway.demo.order http://127.0.0.1:8470/shop order-1138
"""

from __future__ import annotations

import json
import sys

import httpx


def main(base: str, order: str) -> int:
    """Run the workflow; print a JSON line a step. Returns 1 where it stops."""
    with httpx.Client(headers={"Workflow-Id": order, "Workflow-Type": "order"}, timeout=60) as client:
        for step, path, body in (
            ("charge the card", "charges", {"order": order, "amount": 4200}),
            ("reserve the stock", "reservations", {"order": order, "sku": "ring-3", "count": 1}),
            ("mail the customer", "mails", {"order": order, "template": "thank-you"}),
        ):
            say({"step": step})
            answer = client.post(f"{base}/{path}", json=body, headers={"Workflow-Step": step})
            say(
                {
                    "step": step,
                    "status": answer.status_code,
                    "outcome": answer.headers.get("gimbal-outcome", ""),
                    "call": answer.headers.get("gimbal-call", ""),
                    "body": answer.json(),
                }
            )
            if not answer.is_success:
                return 1
    return 0


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
