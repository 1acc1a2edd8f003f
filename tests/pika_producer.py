"""Sends lines of JSON events to a fleet's inbox: pika_producer.py AMQP_URL INBOX FILE

Each message is persistent and carries the event's idempotency key as its message id. The broker
confirms every message; what it does not confirm or cannot route ends the program with an error.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pika

# A blocking connection waits for each confirm before it sends the next message: several of them
# wait side by side.
CONNECTIONS = 6


def send(url: str, inbox: str, lines: list[str]) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for line in lines:
        event = json.loads(line)
        properties = pika.BasicProperties(
            message_id=event.pop("idempotency_key"),
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
        )
        channel.basic_publish(inbox, inbox, json.dumps(event).encode(), properties, mandatory=True)
    connection.close()
    return len(lines)


def main(url: str, inbox: str, path: str) -> int:
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    shares = [lines[n::CONNECTIONS] for n in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        sent = sum(pool.map(lambda share: send(url, inbox, share), shares))
    print(f"sent {sent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
