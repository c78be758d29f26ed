"""Under which keys servers and services write the fields of a request as JSON: of each field, the paths to try in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Paths = Mapping[str, tuple[str, ...]]

FIELDS = (
    *("client", "time", "request", "method", "target", "query", "protocol", "status", "size"),
    *("ms", "seconds", "nanoseconds", "referrer", "user_agent", "host"),
)
EVENT_NAMES = {
    "event_time": "time",
    "page": "target",
    "bytes_sent": "size",
    "duration_ms": "ms",
    "site": "host",
}
"""The names that an event's fields have here, where they are others."""
REQUIRED = ("client", "time", "status")
"""And `request`, or `target`."""


@dataclass(frozen=True)
class Shape:
    """The keys of one writer; a path's parts are separated by dots. Of a list the first item counts."""

    name: str
    writers: str
    paths: Paths


SHAPES = (
    Shape(
        "caddy",
        "Caddy",
        {
            "client": ("request.client_ip", "request.remote_ip", "request.remote_addr"),
            "time": ("ts",),
            "method": ("request.method",),
            "target": ("request.uri",),
            "protocol": ("request.proto",),
            "status": ("status",),
            "size": ("size",),
            "seconds": ("duration",),
            "referrer": ("request.headers.Referer",),
            "user_agent": ("request.headers.User-Agent",),
            "host": ("request.host",),
        },
    ),
    Shape(
        "traefik",
        "Traefik",
        {
            "client": ("ClientHost", "ClientAddr"),
            "time": ("StartUTC", "StartLocal", "time"),
            "method": ("RequestMethod",),
            "target": ("RequestPath",),
            "protocol": ("RequestProtocol",),
            "status": ("DownstreamStatus", "OriginStatus"),
            "size": ("DownstreamContentSize", "OriginContentSize"),
            "nanoseconds": ("Duration",),
            "referrer": ("request_Referer",),
            "user_agent": ("request_User-Agent",),
            "host": ("RequestHost", "RequestAddr"),
        },
    ),
    Shape(
        "cloudflare",
        "Cloudflare Logpush",
        {
            "client": ("ClientIP",),
            "time": ("EdgeStartTimestamp",),
            "method": ("ClientRequestMethod",),
            "target": ("ClientRequestURI",),
            "protocol": ("ClientRequestProtocol",),
            "status": ("EdgeResponseStatus",),
            "size": ("EdgeResponseBodyBytes", "EdgeResponseBytes"),
            "ms": ("EdgeTimeToFirstByteMs",),
            "referrer": ("ClientRequestReferer",),
            "user_agent": ("ClientRequestUserAgent",),
            "host": ("ClientRequestHost",),
        },
    ),
    Shape(
        "gcp",
        "Google Cloud Logging",
        {
            "client": ("httpRequest.remoteIp",),
            "time": ("timestamp",),
            "method": ("httpRequest.requestMethod",),
            "target": ("httpRequest.requestUrl",),
            "protocol": ("httpRequest.protocol",),
            "status": ("httpRequest.status",),
            "size": ("httpRequest.responseSize",),
            "seconds": ("httpRequest.latency",),
            "referrer": ("httpRequest.referer",),
            "user_agent": ("httpRequest.userAgent",),
        },
    ),
    Shape(
        "pino",
        "pino-http",
        {
            "client": ("req.remoteAddress", "req.ip"),
            "time": ("time",),
            "method": ("req.method",),
            "target": ("req.url",),
            "status": ("res.statusCode",),
            "size": ("res.headers.content-length",),
            "ms": ("responseTime",),
            "referrer": ("req.headers.referer",),
            "user_agent": ("req.headers.user-agent",),
            "host": ("req.headers.host", "req.host"),
        },
    ),
    Shape(
        "json",
        "nginx, Apache and others with a format of their own, under common names",
        {
            "client": (
                *("remote_addr", "client_ip", "clientip", "client", "remote_ip", "remote_address", "clientIp", "remoteAddr"),
                *("remoteIP", "ip", "remote_host", "remote", "http_x_forwarded_for", "x_forwarded_for"),
            ),
            "time": (*("time_iso8601", "@timestamp", "timestamp", "time_local", "time", "ts", "datetime", "date", "msec"),),
            "request": ("request", "request_line"),
            "method": ("request_method", "method", "verb", "http_method", "requestMethod"),
            "target": ("request_uri", "uri", "url", "path", "target", "requestURI"),
            "query": ("args", "query_string", "query"),
            "protocol": ("server_protocol", "protocol", "proto", "http_version"),
            "status": ("status", "status_code", "response_code", "http_status", "code", "response"),
            "size": ("body_bytes_sent", "bytes_sent", "bytes", "size", "response_size", "bytes_out"),
            "ms": ("duration_ms", "latency_ms", "elapsed_ms", "request_time_ms", "responseTime"),
            "seconds": ("request_time",),
            "referrer": ("http_referer", "http_referrer", "referer", "referrer"),
            "user_agent": ("http_user_agent", "user_agent", "userAgent", "useragent", "agent"),
            "host": ("host", "http_host", "server_name", "vhost", "virtual_host"),
        },
    ),
)
