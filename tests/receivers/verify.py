"""Verifies messages as a receiver does. Arguments: the secret, and a file with a JSON list of `{headers, body}`."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

secret, file = sys.argv[1:]
webhook = Webhook(secret)
with open(file, encoding="utf-8") as text:
    messages = json.load(text)
types = []
refused = 0
for message in messages:
    body, headers = message["body"].encode(), message["headers"]
    types.append(webhook.verify(body, headers)["type"])
    try:
        webhook.verify(body + b" ", headers)
    except WebhookVerificationError:
        refused += 1
print(json.dumps({"types": types, "refused": refused}))
