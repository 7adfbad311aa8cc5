"""Books as a Relay connection, served by Strawberry.

python graphql_connection.py PORT COUNT
"""

import sys
from collections.abc import Iterable

import strawberry
from flask import Flask
from strawberry import relay
from strawberry.flask.views import GraphQLView

from quiet import serve

port, count = int(sys.argv[1]), int(sys.argv[2])


@strawberry.type
class Book(relay.Node):
    number: relay.NodeID[int]
    title: str
    year: int


@strawberry.type
class Query:
    @relay.connection(relay.ListConnection[Book])
    def books(self, since: int) -> Iterable[Book]:
        return [
            Book(number=at, title=f"book {at}", year=1990 + at % 3)
            for at in range(1, count + 1)
            if at >= since
        ]


app = Flask(__name__)
app.add_url_rule(
    "/graphql", view_func=GraphQLView.as_view("graphql", schema=strawberry.Schema(query=Query))
)

serve(app, port)
