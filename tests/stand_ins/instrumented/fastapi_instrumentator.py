from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator


async def answer() -> str:
    return "answered"


app = FastAPI()
app.add_api_route("/", answer)
Instrumentator().instrument(app).expose(app)
