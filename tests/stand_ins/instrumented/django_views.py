from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
    PROMETHEUS_EXPORT_MIGRATIONS=False,
)


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse("answered")


urlpatterns = [path("", answer, name="answer"), path("", include("django_prometheus.urls"))]
app = get_wsgi_application()
