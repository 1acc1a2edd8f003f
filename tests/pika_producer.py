"""Sends lines of JSON events to a fleet's inbox: pika_producer.py AMQP_URL INBOX FILE

Each message is persistent and carries the event's idempotency key as its message id. The broker
confirms every message; what it does not confirm or cannot route ends the program with an error.
"""

import json
import sys

import pika


def main(url: str, inbox: str, path: str) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    sent = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            properties = pika.BasicProperties(
                message_id=event.pop("idempotency_key"),
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent,
            )
            channel.basic_publish(inbox, inbox, json.dumps(event).encode(), properties, mandatory=True)
            sent += 1
    connection.close()
    print(f"sent {sent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
