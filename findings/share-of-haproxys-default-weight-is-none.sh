#!/usr/bin/env bash
# HAProxy's agent check may answer a percentage, for a server to take that share of its load. It is taken of the weight in the
# configuration, as a whole number: of the default weight, 1, all but 100 % is 0, and weight 0 takes a server out. Two servers
# that answer their health checks and say that they have 60 % left get no request at all: clients hear 503.
#
# Seen with HAProxy 2.6.12 (Debian 12; 3.0.11 of Debian 13 does the same), four requests each:
#   weight 1 (default), agents say 60%:  503 503 503 503
#   weight 100, agents say 60%:          200 200 200 200
#
# Needs apt-get of Debian 12, and python3; works in a temporary folder and on ports 39180 to 39184 of 127.0.0.1. Ends with 1 if
# the behaviour is another one.
set -euo pipefail
place=$(mktemp -d)
pids=()
finish() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT
cd "$place"
apt-get -qq -o APT::Sandbox::User=root download haproxy=2.6.12-1+deb12u4 liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
for package in *.deb; do dpkg-deb -x "$package" haproxy; done
LD_LIBRARY_PATH=$(echo "$place"/haproxy/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH
./haproxy/usr/sbin/haproxy -v | head -n 1

cat >servers.py <<'PY'
import http.server, socketserver, threading

class Agent(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"60%\n")

class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

socketserver.ThreadingTCPServer.allow_reuse_address = True
for port in (39181, 39183):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", port), Web)
    agent = socketserver.ThreadingTCPServer(("127.0.0.1", port + 1), Agent)
    threading.Thread(target=web.serve_forever).start()
    threading.Thread(target=agent.serve_forever).start()
PY
python3 servers.py &
pids+=($!)

answers() {
    cat >haproxy.cfg <<CFG
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    timeout queue 1s
frontend all
    bind 127.0.0.1:39180
    default_backend servers
backend servers
    balance roundrobin
    option httpchk GET /
    server one 127.0.0.1:39181 check inter 200 $1 agent-check agent-port 39182 agent-inter 200
    server two 127.0.0.1:39183 check inter 200 $1 agent-check agent-port 39184 agent-inter 200
CFG
    ./haproxy/usr/sbin/haproxy -db -f haproxy.cfg >haproxy.log 2>&1 &
    local haproxy=$!
    pids+=("$haproxy")
    python3 - <<'PY'
import time, urllib.error, urllib.request

def ask():
    try:
        return urllib.request.urlopen("http://127.0.0.1:39180/", timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code

time.sleep(3)  # some agent checks
print(*[ask() for _ in range(4)])
PY
    kill "$haproxy"
    wait "$haproxy" 2>/dev/null || true
}
default=$(answers "")
hundred=$(answers "weight 100")
echo "weight 1 (default), agents say 60%:  $default"
echo "weight 100, agents say 60%:          $hundred"
[[ $default == "503 503 503 503" && $hundred == "200 200 200 200" ]]
