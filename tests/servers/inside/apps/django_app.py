"""Django's runserver."""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import re_path

from tests.servers.inside.apps.answers import answer


def site(request):
    status, headers, body = answer(request.method, request.path, "If-Modified-Since" in request.headers)
    return HttpResponse(b"".join(body), status=status, headers=headers)


settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test", USE_TZ=True)
urlpatterns = [re_path(".*", site)]
execute_from_command_line([sys.argv[0], "runserver", "--noreload", "--skip-checks", "127.0.0.1:8080"])
