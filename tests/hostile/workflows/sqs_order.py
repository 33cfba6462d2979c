"""A workflow of three messages with boto3, two of them the same: SQS_URL QUEUE_URL WORKFLOW_ID.

No step has a name. boto3 repeats by itself what fails, with an identical body.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

url, queue, workflow = sys.argv[1:]
sqs = boto3.client(
    "sqs",
    endpoint_url=url,
    region_name="eu-west-1",
    aws_access_key_id="testing",
    aws_secret_access_key="testing",
    config=botocore.config.Config(proxies={}, retries={"mode": "standard", "max_attempts": 3}),
)
run = os.urandom(6).hex()


def identify(request: Any, **_: Any) -> None:
    request.headers["Workflow-Id"] = workflow
    request.headers["Workflow-Run"] = run


sqs.meta.events.register("before-sign.sqs.*", identify)

for number, body in enumerate(["reserve", "reserve", "ship"], 1):
    print("begin", number, flush=True)
    sys.stdin.readline()
    try:
        done = sqs.send_message(QueueUrl=queue, MessageBody=body)
    except botocore.exceptions.ClientError as error:
        told = error.response["ResponseMetadata"]
        print("failed", number, told["HTTPStatusCode"], told["HTTPHeaders"]["gimbal-call"], flush=True)
        raise SystemExit(1) from None
    print("done", number, done["MessageId"], flush=True)
print("end", flush=True)
