from flask import Flask
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

app = Flask(__name__)
GunicornInternalPrometheusMetrics(app)
app.add_url_rule("/", view_func=lambda: "answered")
