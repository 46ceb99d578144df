from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_metrics


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


app = Starlette(routes=[Route("/", answer), Route("/metrics", handle_metrics)])
app.add_middleware(PrometheusMiddleware)
