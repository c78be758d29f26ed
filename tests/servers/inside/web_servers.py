"""Servers of files and what stands before others, with the logs that their packages and their documentation set up."""

from __future__ import annotations

from tests.servers.inside.server import APP, APP_PORT, EAST, LOG, PORT, RUN, SITE, STDERR, STDOUT, ZONE, Server

_JETTY, _TOMCAT = "/usr/share/jetty12", "/usr/share/tomcat10"
_READERS = r"\"%{Referer}i\" \"%{User-Agent}i\""
_HOST_FIRST = (
    """log_format host '$host $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent """
    """"$http_referer" "$http_user_agent"';"""
)
_JSON = (
    """log_format json escape=json '{"time":"$time_iso8601","remote_addr":"$remote_addr","host":"$host",'"""
    """ '"request_method":"$request_method","request_uri":"$request_uri","status":$status,'"""
    """ '"body_bytes_sent":$body_bytes_sent,"request_time":$request_time,'"""
    """ '"http_referer":"$http_referer","http_user_agent":"$http_user_agent"}';"""
)


def _nginx(name: str, log: str) -> Server:
    return Server(name, f"nginx -e stderr -c {RUN}/nginx.conf", "nginx -v", conf="nginx.conf", log=log, behind=APP)


def _apache(name: str, log: str) -> Server:
    return Server(name, f"apache2 -f {RUN}/apache.conf -DFOREGROUND", "apache2 -v", conf="apache.conf", log=log, behind=APP)


def _haproxy(name: str, log: str) -> Server:
    command = f"haproxy -f {RUN}/haproxy.cfg -W"
    return Server(name, command, "haproxy -v", log_file=STDOUT, conf="haproxy.cfg", log=log, behind=APP)


def _squid(name: str, log: str, zone: str = ZONE) -> Server:
    return Server(name, f"squid -N -f {RUN}/squid.conf", "squid -v", conf="squid.conf", log=log, behind=APP, zone=zone)


WEB_SERVERS = (
    _nginx("nginx", f"access_log {LOG};"),
    _nginx("nginx, host first", f"{_HOST_FIRST} access_log {LOG} host;"),
    _nginx("nginx, JSON", f"{_JSON} access_log {LOG} json;"),
    _apache("Apache, Debian's combined", rf"%h %l %u %t \"%r\" %>s %O {_READERS}"),
    _apache("Apache, Debian's vhost_combined", rf"%v:%p %h %l %u %t \"%r\" %>s %O {_READERS}"),
    _apache("Apache, combined", rf"%h %l %u %t \"%r\" %>s %b {_READERS}"),
    _apache("Apache, common", r"%h %l %u %t \"%r\" %>s %b"),
    _apache("Apache, combined and %D", rf"%h %l %u %t \"%r\" %>s %b {_READERS} %D"),
    Server("lighttpd", f"lighttpd -D -f {RUN}/lighttpd.conf", "lighttpd -v", conf="lighttpd.conf", behind=APP),
    Server(
        "Caddy",
        f"env HOME={RUN} caddy run --config {RUN}/Caddyfile --adapter caddyfile",
        "caddy version",
        conf="Caddyfile",
        behind=APP,
    ),
    _haproxy("HAProxy, httplog", "option httplog"),
    _haproxy("HAProxy, httplog clf", "option httplog clf"),
    Server(
        "Varnish",
        f"varnishd -F -j none -a 127.0.0.1:{PORT} -a [::1]:{PORT} -b 127.0.0.1:{APP_PORT} -n {RUN}/varnish -s malloc,50m",
        "varnishd -V",
        behind=APP,
        after=f"varnishncsa -d -n {RUN}/varnish -w {LOG}",
    ),
    _squid("Squid, native", "squid"),
    _squid("Squid, combined", "combined", EAST),
    _squid("Squid, combined, west of Greenwich", "combined"),
    Server(
        "nghttpx",
        f"nghttpx --conf=/dev/null '-f127.0.0.1,{PORT};no-tls' '-f::1,{PORT};no-tls' -b127.0.0.1,{APP_PORT} "
        f"--accesslog-file={LOG} --errorlog-file={RUN}/error.log",
        "nghttpx --version",
        behind=APP,
    ),
    Server("mini-httpd", f"mini_httpd -D -p {PORT} -d {SITE} -l {LOG} -h 127.0.0.1", "mini_httpd -V", has_ipv6=False),
    Server(
        "Tomcat",
        f"java -Xmx256m -cp {_TOMCAT}/bin/bootstrap.jar:{_TOMCAT}/bin/tomcat-juli.jar -Dcatalina.home={_TOMCAT} "
        f"-Dcatalina.base={RUN} org.apache.catalina.startup.Bootstrap start",
        f"java -cp {_TOMCAT}/lib/catalina.jar org.apache.catalina.util.ServerInfo",
        conf="conf/server.xml",
        log="%h %l %u %t &quot;%r&quot; %s %b",
    ),
    Server(
        "Jetty",
        f"java -Xmx256m -cp {_JETTY}/start.jar:/usr/share/java/slf4j-api.jar org.eclipse.jetty.start.Main "
        f"jetty.home={_JETTY} jetty.base={RUN} --module=http,requestlog jetty.http.host=127.0.0.1 jetty.http.port={PORT} "
        f"jetty.requestlog.filePath={LOG} {RUN}/jetty.xml",
        "dpkg-query --show jetty12",
        conf="jetty.xml",
        has_ipv6=False,
    ),
    Server("PHP's server", f"php -S 127.0.0.1:{PORT} -t {SITE}", "php --version", log_file=STDERR, has_ipv6=False),
)
