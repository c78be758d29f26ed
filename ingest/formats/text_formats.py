"""Formats of lines that are not Common or Combined: what the servers that write them document, or were seen to write."""

from __future__ import annotations

from ingest.formats.forms import CLOCK, DAY, SIZE, Form
from ingest.formats.logged import END_OF_REQUEST

_MOMENT = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{CLOCK}(?:\.[0-9]+)?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})"
_ASCTIME = rf"[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} +[0-9]{{1,2}} {CLOCK} [0-9]{{4}}"
_STATUS = r"(?P<status>-?[0-9]{1,3})"

# [2026-11-29 02:53:20 +0000] 192.0.2.7 - "GET /a HTTP/1.1" 200 0.621; uvicorn's message is the same without the duration
GRANIAN = Form(
    ("time", rf"\[(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {CLOCK} [+-][0-9]{{4}})\]"),
    ("client", r" (?P<client>\S+) - "),
    ("request", r'"(?P<request>.*)"(?= [0-9]{3}(?: |$))'),
    ("status", rf" {_STATUS}"),
    ("duration", r"(?: (?P<ms>[0-9]{1,9}\.[0-9]{3}))?"),
)

# time, milliseconds, client, result/status, bytes, method, URL, user, hierarchy/peer, type
SQUID = Form(
    ("time", r"(?P<time>[0-9]{9,10}\.[0-9]{3})"),
    ("duration", r" +(?P<ms>[0-9]{1,12})"),
    ("client", r" (?P<client>\S+)"),
    ("status", rf" [A-Z_]+/{_STATUS}"),
    ("size", rf" (?P<size>{SIZE})"),
    ("request", r" (?P<request>\S+ .*)(?= \S+ [A-Z_0-9]+/\S+ \S+$)"),
    ("peer", r" \S+ [A-Z_0-9]+/\S+ \S+"),
)

# client:port [time] frontend backend/server TR/Tw/Tc/Tr/Ta status bytes cookies state connections queues {headers} "request"
HAPROXY = Form(
    ("client", r"(?P<client>\S+:[0-9]+)"),
    ("time", rf" \[(?P<time>{DAY}:{CLOCK}\.[0-9]{{3}})\]"),
    ("server", r" \S+ \S+/\S+"),
    ("duration", r" (?:-?[0-9]+/){4}\+?(?P<ms>[0-9]{1,12})"),
    ("status", rf" {_STATUS}"),
    ("size", r" \+?(?P<size>[0-9]{1,18})"),
    ("state", r" \S+ \S+ \S{4} (?:[0-9]+/){4}\+?[0-9]+ [0-9]+/[0-9]+(?: \{[^}]*\}){0,2}"),
    ("request", r' "(?P<request>[^"]*)'),
    (END_OF_REQUEST, r'"(?: .*)?'),
)

# [time] "request" status flags received sent milliseconds upstream's "X-Forwarded-For" "user agent" "id" "host" "upstream"
ENVOY = Form(
    ("time", rf"\[(?P<time>{_MOMENT})\]"),
    ("request", r' "(?P<request>.*)"(?= [0-9]{1,3} \S+ [0-9]+ [0-9]+ )'),
    ("status", rf" {_STATUS}"),
    ("size", r" \S+ [0-9]+ (?P<size>[0-9]{1,18})(?= (?:[0-9]+|-) )"),
    ("duration", r" (?P<ms>[0-9]{1,12}|-) (?:[0-9]+|-)"),
    ("client", r' "(?P<client>[^"]*)"'),
    ("user agent", r' "(?P<user_agent>.*)"(?= "[^"]*" "[^"]*" "[^"]*"$)'),
    ("host", r' "[^"]*" "(?P<host>[^"]*)" "[^"]*"'),
)

# type time balancer client:port target:port three durations status status received sent "request" "user agent" …
ALB = Form(
    ("type", r"(?:[a-z0-9]+ )?"),
    ("time", rf"(?P<time>{_MOMENT})"),
    ("balancer", r" \S+"),
    ("client", r" (?P<client>\S+)"),
    ("target", r" \S+"),
    ("duration", r" (?P<seconds>-?[0-9.]+ -?[0-9.]+ -?[0-9.]+)"),
    ("status", rf" (?:{_STATUS}|-) \S+"),
    ("size", r" [0-9]+ (?P<size>[0-9]{1,18})"),
    ("request", r' "(?P<request>.*?)"(?= ")'),
    ("user agent", r' "(?P<user_agent>.*?)"(?: .*)?'),
)

# [I 261129 02:57:37 web:2591] 200 GET /a (192.0.2.7) 6.33ms
TORNADO = Form(
    ("time", rf"\[[A-Z] (?P<time>[0-9]{{6}} {CLOCK}) \S+\]"),
    ("status", rf" {_STATUS}"),
    ("request", r" (?P<request>\S+ .*)(?= \(\S+\) [0-9.]+ms$)"),
    ("client", r" \((?P<client>\S+)\)"),
    ("duration", r" (?P<ms>[0-9]{1,9}\.[0-9]+)ms"),
)

# Main |2026-11-29 18:48:40 -0330 INFO: 192.0.2.7:40203 GET http://shop.example/a 200 476  2.4ms
SANIC = Form(
    ("time", rf"[\w ]{{0,12}}\|(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {CLOCK} [+-][0-9]{{4}})"),
    ("client", r" +[A-Z]+: (?P<client>\S{1,80}:[0-9]{1,5})"),
    ("request", r" (?P<request>\S.*)(?= [0-9]{3} (?:[0-9]|-1))"),
    ("status", rf" {_STATUS}"),
    ("size", r" (?:(?P<size>[0-9]{1,18})|-1)"),
    ("duration", r"(?: +(?:(?P<ms>[0-9]{1,9}(?:\.[0-9]{1,9})?)ms|\S+))?"),
)

# [Sun Nov 29 18:46:11 2026] 192.0.2.7:38397 [404]: GET /a - No such file or directory; maybe the process first
PHP = Form(
    ("time", rf"(?:\[[0-9]+\] )?\[(?P<time>{_ASCTIME})\]"),
    ("client", r" (?P<client>\S{1,80}:[0-9]{1,5})"),
    ("status", rf" \[{_STATUS}\]"),
    ("request", r": (?P<request>\S+ \S+)"),
    ("message", r"(?: - .*)?"),
)

# [pid: 9|app: 0|req: 1/1] 192.0.2.7 () {26 vars in 346 bytes} [Sun Nov 29 02:58:42 2026] GET /a => generated 21 bytes in …
UWSGI = Form(
    ("process", r"\[pid: [0-9]+\|app: \S+\|req: \S+\]"),
    ("client", r" (?P<client>\S+)"),
    ("user", r" \(.*\) \{[0-9]+ vars in [0-9]+ bytes\}"),
    ("time", rf" \[(?P<time>{_ASCTIME})\]"),
    ("request", r" (?P<request>.*)(?= => generated )"),
    ("size", r" => generated (?P<size>[0-9]{1,18}) bytes"),
    ("duration", r" in (?:(?P<ms>[0-9]{1,12}) msecs|[0-9]+ micros)"),
    ("status", rf" \([^)]*? ?{_STATUS}\).*"),
)
